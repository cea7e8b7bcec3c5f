"""Bring up, use and tear down a cluster from outside, as a file for Ray's launcher describes it.

Everything goes through Ray's launcher SDK, and thus through ssh: no port of the cluster has to be open to the
outside. Ray's own output goes to a log, since little of it concerns the user of a sweep.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sweeps.cluster import detached
from sweeps.cluster.config import LOCAL, StepError, find_project_mount, read_config
from sweeps.cluster.staging import stage
from sweeps.cluster.tokens import make_token, token_file

TOOLS = ("ssh", "rsync")
LOOK_SECONDS = 10.0  # how long the head node waits for new output before it answers
PAUSES = (2.0, 5.0, 10.0, 20.0, 30.0)  # between attempts to reach the head node after the connection was lost
LOCAL_WAIT_SECONDS = "60"  # for ssh to a machine that already exists; Ray's 15 minutes are for new ones
LOCK = re.compile(r"/sweeps/([^/\s]+)/alive")
AGAIN = "run the same command again"
EVENTS = {  # the events of Ray's launcher that the user sees
    "acquiring_new_head_node": "  requesting a machine for the head node",
    "head_node_acquired": "  the machine exists; waiting for ssh",
    "ssh_control_acquired": "  ssh answers; shipping the project",
    "run_setup_cmd": "  setting up",
    "start_ray_runtime": "  starting Ray",
}


class Launcher:
    """One cluster.

    Args:
        path: its file for ``ray up``.
        log: the file to which Ray's output is appended.
        say: shows a line to the user.
        sdk: a :class:`sweeps.cluster.ray_sdk.RaySdk`, or a double of it in tests.

    Raises:
        StepError: if the file cannot be used.
    """

    def __init__(self, path: Path, log: Path, say: Callable[[str], None], sdk: Any = None) -> None:
        self.path, self.log, self.say, self._sdk = path, log, say, sdk
        self._terminal: IO[str] | None = None  # the user's terminal while output goes to the log
        self.config = read_config(path)
        self.name: str = self.config["cluster_name"]
        self.on_premise = self.config["provider"]["type"] == LOCAL
        self.project = find_project_mount(path, self.config)
        # Ray would keep its notes about the cluster in /tmp, under a name that other users can predict
        self._private = tempfile.TemporaryDirectory(prefix="lstmptq-launcher-")
        self._source = Path(self.config["file_mounts"][self.project])
        self._staged = Path(self._private.name, "project")
        self.config["file_mounts"][self.project] = str(self._staged)
        # Another laptop may start a sweep after this one has looked: then the head node must not restart Ray.
        spare = "echo a sweep is running here: Ray is left as it is"
        if commands := self.config.get("head_start_ray_commands"):
            self.config["head_start_ray_commands"] = [
                f'if [ -z "$({detached.LOCKED})" ]; then\n{command}\nelse {spare}; fi' for command in commands
            ]
        # Ray reads these. Its second autoscaler starts no worker of type local (2.60); the first one does.
        os.environ.setdefault("RAY_UP_enable_autoscaler_v2", "0" if self.on_premise else "1")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.on_premise:
            os.environ.setdefault("AUTOSCALER_NODE_START_WAIT_S", LOCAL_WAIT_SECONDS)

    # ---- the steps -------------------------------------------------------------------------------------

    def bring_up(self) -> dict[str, Any]:
        """Bring the cluster up unless it is up, and ship this project, without disturbing a running sweep.

        Returns:
            The answer of :func:`sweeps.cluster.detached.survey` on the head node.

        Raises:
            StepError: if that fails, or if it would restart Ray under a running sweep.
        """
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise StepError(f"bringing the cluster up needs {tool}: install it on this machine")
        key = self.config["auth"].get("ssh_private_key")
        if key and not os.path.isfile(key):
            raise StepError(f"reading {self.path} failed: there is no {key}, which ssh_private_key names")
        survey = self.find()
        if survey is None or not survey["ray"]:
            if running := _list_running(survey):
                raise StepError(
                    f"bringing the cluster up failed: {running} is running on the head node, where Ray does "
                    "not answer, and restarting Ray would kill it: wait until it has ended, or end it with "
                    f"--stop, then {AGAIN}"
                )
            return self._create()
        if running := _list_running(survey):
            self.say(
                f"cluster {self.name} is up and is running {running}: "
                "your later changes to the code are shipped once it has ended"
            )
            return survey
        self.say(f"cluster {self.name} is up; shipping the project")
        self._stage()
        # only the project: file_mounts would replace the cluster's token with this machine's
        source, target = f"{self._staged}/", f"{self.project}/"
        self._call("shipping the project", self.sdk.rsync, source=source, target=target, down=False)
        return survey

    def find(self) -> dict[str, Any] | None:
        """Survey the head node; None if no head node works and none is running a sweep.

        Raises:
            StepError: if it does not answer, or if it is running a sweep but its project does not answer.
        """
        try:
            with self._redirect_output():
                self.sdk.get_head_node_ip(self.config)
            ready = True
        except RuntimeError:  # there is no head node, or its setup failed or has not ended
            ready = False
        except Exception as problem:
            raise self._explain("finding the cluster", problem) from problem
        if ready:
            try:
                return self.ask("survey")
            except StepError:
                if not self.on_premise:
                    raise
        elif not self.list_machines():
            return None
        # Own machines always exist, perhaps without this project. One that does not answer must not be taken
        # for one without the project: bringing the cluster up would restart Ray under a running sweep.
        run = self.sdk.run_on_cluster
        try:
            output = self._call("finding the cluster", run, cmd=detached.LOCKED, even_unready=not ready)
        except StepError:
            if ready:
                raise
            return None  # a machine that was never set up
        if running := ", ".join(LOCK.findall(output)):
            raise StepError(
                f"finding the cluster failed: {running} is running on the head node, but the project there "
                f"does not answer: wait until it has ended, then {AGAIN}; "
                f"`ray down {self.path}` kills it and tears the cluster down"
            )
        return None

    def list_machines(self) -> list[str]:
        """List the machines that run and cost money, whether or not they work; none for own machines."""
        if self.on_premise:
            return []
        found: list[str] = self._call("finding the cluster", self.sdk.list_machines)
        return found

    def ask(self, verb: str, *values: Any) -> dict[str, Any]:
        """Have the head node carry out a verb of :mod:`sweeps.cluster.detached`, and return its answer.

        Raises:
            StepError: if the head node cannot be reached, or refuses.
        """
        line = f"cd {self.project} && python -m sweeps.cluster.detached {verb} {detached.encode(*values)}"
        step = {"look": "following the sweep", "start": "starting the sweep"}.get(
            verb, "asking the head node"
        )
        output = self._call(step, self.sdk.run_on_cluster, cmd=line)
        try:
            answer = detached.decode(output)
        except ValueError as problem:
            raise self._explain(step, problem, AGAIN) from problem
        if "refused" in answer:
            raise StepError(f"{step} failed: the head node says: {answer['refused']}")
        return answer

    def send(self, source: Path, target: str) -> None:
        """Copy a file, or the content of a directory, into the directory `target` of the head node."""
        here = source.absolute()  # rsync takes a:b for a host and -b for an option
        path = f"{here}/" if here.is_dir() else str(here)
        self._copy(f"shipping {source}", source=path, target=target, down=False)

    def fetch(self, source: str, target: Path) -> None:
        """Copy the content of the directory `source` of the head node into the directory `target`."""
        self._copy("fetching the results", source=source, target=f"{target.absolute()}/", down=True)

    def follow(self, name: str, offset: int, show: Callable[[str], None]) -> int | None:
        """Show the output of a sweep until it ends.

        Args:
            name: the sweep.
            offset: the position in its log to start from, in bytes.
            show: shows a piece of text.

        Returns:
            Its exit code; None if it left none.

        Raises:
            StepError: if the connection is lost for good; the sweep goes on.
        """
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        pauses = iter(PAUSES)
        while True:
            try:
                seen = self.ask("look", name, offset, LOOK_SECONDS)
            except StepError as problem:
                pause = next(pauses, None)
                if pause is None:
                    raise StepError(
                        f"{problem}\nthe sweep goes on there without this machine: "
                        "the same command shows it again"
                    ) from problem
                self.say(f"the head node does not answer; trying again in {pause:.0f} s")
                time.sleep(pause)
                continue
            pauses = iter(PAUSES)
            show(decode(base64.b64decode(seen["log"])))
            offset = seen["offset"]
            if not seen["running"]:
                code: int | None = seen["exit"]
                return code

    def take_down(self) -> None:
        """Tear the cluster down.

        Raises:
            StepError: if that fails.
        """
        self.say(f"tearing cluster {self.name} down")
        if self.on_premise:
            for address, why in self.ask("stop_workers")["failed"].items():
                self.say(f"  Ray was not stopped on {address}: {why or 'ssh failed'}; run `ray stop` there")
        advice = f"machines may still run and cost money: fix the cause, and {AGAIN}"
        self._call("tearing the cluster down", self.sdk.teardown_cluster, advice)

    # ---- how they are done -----------------------------------------------------------------------------

    @property
    def sdk(self) -> Any:
        """Ray's launcher, imported on first use because that takes seconds."""
        if self._sdk is None:
            from sweeps.cluster.ray_sdk import RaySdk

            try:
                self._sdk = RaySdk(self.config, EVENTS, self._tell)
            except (KeyError, AssertionError, OSError) as problem:
                raise self._explain(
                    "finding the cluster", problem, f"see provider in {self.path}"
                ) from problem
        return self._sdk

    def _create(self) -> dict[str, Any]:
        try:
            if str(token_file()) in self.config["file_mounts"].values() and make_token():
                self.say(f"created a token for your clusters: {token_file()}")
        except OSError as problem:
            raise StepError(
                f"creating a token failed: {problem}: {token_file()} must belong to you and be writable"
            ) from problem
        for there, here in self.config["file_mounts"].items():
            if not os.path.exists(here) and there != self.project:
                raise StepError(f"reading {self.path} failed: there is no {here}, which file_mounts names")
        kind, most = self.config["provider"]["type"], self.config.get("max_workers")
        self.say(f"bringing up cluster {self.name} ({kind}, at most {most} workers); Ray's log: {self.log}")
        self._stage()
        advice = f"fix that in {self.path} or on the machine, and {AGAIN}; --down tears down what came up"
        self._call("bringing the cluster up", self.sdk.create_or_update_cluster, advice)
        survey = self.ask("survey")
        if not survey["ray"]:
            raise StepError(
                "bringing the cluster up failed: Ray does not answer on the head node although it was "
                f"started: see {self.log}, then {AGAIN}"
            )
        return survey

    def _stage(self) -> None:
        try:
            stage(self._source, self._staged)
        except OSError as problem:
            raise StepError(
                f"shipping the project failed: {problem}: fix the cause, and {AGAIN}"
            ) from problem

    def _copy(self, step: str, **options: Any) -> None:
        # the user's exclusions are meant for the project; Ray would apply them to results as well
        config = self.config | {"rsync_exclude": [], "rsync_filter": []}
        self._call(step, self.sdk.rsync, config=config, **options)

    def _call(
        self,
        step: str,
        function: Callable[..., Any],
        advice: str = "",
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        try:
            with self._redirect_output():
                return function(config or self.config, **options)
        except (Exception, SystemExit) as problem:
            raise self._explain(step, problem, advice) from problem

    def _explain(self, step: str, problem: BaseException, advice: str = "") -> StepError:
        # click's exceptions do not show their message in str()
        why = getattr(problem, "message", None) or str(problem) or type(problem).__name__
        if isinstance(problem, ImportError):
            advice = f"the launcher needs that package for {self.path}: install it with pip"
        text = f"{step} failed: {str(why).strip()}"
        log = self.log.read_text(errors="replace") if self.log.is_file() else ""
        if lines := [line.rstrip()[:200] for line in log.splitlines() if line.strip()]:
            text = "\n  ".join([f"{text}\nthe last lines of {self.log}:", *lines[-8:]])
        return StepError(f"{text}\n{advice or f'fix the cause, and {AGAIN}'}")

    @contextmanager
    def _redirect_output(self) -> Iterator[None]:
        """Send the output of Ray and ssh to the log, and keep the terminal's input from them.

        If ssh had the terminal as its input, it would pass Ctrl-C on to the head node.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(number) for number in (0, 1, 2)]
        common, tempfile.tempdir = tempfile.tempdir, self._private.name
        with (
            self.log.open("a") as log,
            open(os.devnull) as nothing,
            os.fdopen(os.dup(1), "w") as self._terminal,
        ):
            try:
                for number, file in enumerate((nothing, log, log)):
                    os.dup2(file.fileno(), number)
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for number, original in enumerate(saved):
                    os.dup2(original, number)
                    os.close(original)
                tempfile.tempdir = common
        self._terminal = None

    def _tell(self, event: dict[str, Any]) -> None:
        """Show an event of Ray's launcher on the user's terminal."""
        command = str(event.get("command", ""))
        text = EVENTS[event["event_name"].name]
        if self._terminal is not None:
            print(f"{text}: {command[:90]}" if command else text, file=self._terminal, flush=True)


def _list_running(survey: dict[str, Any] | None) -> str:
    sweeps = survey["sweeps"] if survey else {}
    return ", ".join(name for name, sweep in sweeps.items() if sweep["running"])
