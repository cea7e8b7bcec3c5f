"""The cluster that a file for Ray's launcher describes, from a machine outside it: up, in, out, down.

Everything goes through Ray's launcher SDK, and with it through ssh: nothing of the cluster has to listen to
the outside. What Ray prints goes to a log, since little of it is for the user of a sweep.
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
from sweeps.cluster.config import LOCAL, StepError, project_mount, read_config
from sweeps.cluster.staging import stage
from sweeps.cluster.tokens import make_token, token_file

TOOLS = ("ssh", "rsync")
LOOK_SECONDS = 10.0  # how long a question after news waits on the head for some
PAUSES = (2.0, 5.0, 10.0, 20.0, 30.0)  # before it is asked again after the connection was lost
LOCAL_WAIT_SECONDS = "60"  # for ssh of a machine that is there already; Ray's 15 minutes are for new ones
LOCK = re.compile(r"/sweeps/([^/\s]+)/alive")
EVENTS = {  # of Ray's launcher, worth a line
    "acquiring_new_head_node": "  asking for a head machine",
    "head_node_acquired": "  there is a head machine; waiting for ssh",
    "ssh_control_acquired": "  ssh answers; shipping the project",
    "run_setup_cmd": "  setting up",
    "start_ray_runtime": "  starting Ray",
}


class Launcher:
    """One cluster.

    Args:
        path: its file, as ``ray up`` takes it; paths of ``file_mounts`` in it are relative to its directory.
        log: where what Ray prints is appended.
        say: shows a line to the user.
        sdk: a :class:`sweeps.cluster.ray_sdk.RaySdk`, or a double of it in tests.

    Raises:
        StepError: if the file cannot be used.
    """

    def __init__(self, path: Path, log: Path, say: Callable[[str], None], sdk: Any = None) -> None:
        self.path, self.log, self.say, self._sdk = path, log, say, sdk
        self._shown: IO[str] | None = None  # the user's terminal, while output goes to the log
        self.config = read_config(path)
        self.name: str = self.config["cluster_name"]
        self.on_premise = self.config["provider"]["type"] == LOCAL
        self.project = project_mount(path, self.config)
        # nobody else's: Ray keeps what it knows of the cluster in /tmp, under a name that can be foreseen
        self._private = tempfile.TemporaryDirectory(prefix="lstmptq-launcher-")
        self._source = Path(self.config["file_mounts"][self.project])
        self._staged = Path(self._private.name, "project")
        self.config["file_mounts"][self.project] = str(self._staged)
        self._leave_busy_ray()
        # Ray's second autoscaler starts no worker of type local (2.60); the first does. Both are read by Ray.
        os.environ.setdefault("RAY_UP_enable_autoscaler_v2", "0" if self.on_premise else "1")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.on_premise:
            os.environ.setdefault("AUTOSCALER_NODE_START_WAIT_S", LOCAL_WAIT_SECONDS)

    # ---- the steps -------------------------------------------------------------------------------------

    def up(self) -> dict[str, Any]:
        """Bring the cluster up if it is not, with this project on it; what runs there is not disturbed.

        Returns:
            What :func:`sweeps.cluster.detached.survey` finds on the head.

        Raises:
            StepError: if it does not come up, or could only by starting Ray anew under a sweep.
        """
        self._check_here()
        found = self.find()
        if found is None:
            return self._bring_up()
        if running := [name for name, sweep in found["sweeps"].items() if sweep["running"]]:
            if not found["ray"]:
                raise StepError(
                    f"bringing the cluster up failed: {', '.join(running)} runs on the head, where Ray does "
                    "not answer, and to start Ray anew would end it: wait until it has ended, or end it with "
                    "--stop, then give the same command again"
                )
            self.say(
                f"cluster {self.name} is up, and runs {', '.join(running)}: "
                "what was changed here since it started is not shipped before it has ended"
            )
            return found
        if not found["ray"]:
            return self._bring_up()
        self.say(f"cluster {self.name} is up; shipping the project")
        self._stage()
        # the project alone: file_mounts would put this machine's token in the place of the cluster's
        source, target = f"{self._staged}/", f"{self.project}/"
        self._call("shipping the project", self.sdk.rsync, source=source, target=target, down=False)
        return found

    def find(self) -> dict[str, Any] | None:
        """What is on the head; None if there is no head that works, and none where a sweep runs.

        Raises:
            StepError: if there is one and it does not answer, or runs a sweep without answering for it.
        """
        try:
            with self._quiet():
                self.sdk.get_head_node_ip(self.config)
            ready = True
        except RuntimeError:  # there is none, or its setup failed or has not ended
            ready = False
        except Exception as problem:
            raise self._failed("finding the cluster", problem, "") from problem
        if ready:
            try:
                return self.ask("survey")
            except StepError:
                if not self.on_premise:
                    raise
        elif not self.machines():
            return None
        # Own machines are always there, perhaps without this project. One that does not answer must not be
        # taken for one without: to bring the cluster up starts Ray anew, under a sweep that may be running.
        try:
            said = self._call(
                "finding the cluster", self.sdk.run_on_cluster, cmd=detached.LOCKED, anyhow=not ready
            )
        except StepError:
            if ready:
                raise
            return None  # a machine that was never set up
        if running := LOCK.findall(_text(said)):
            raise StepError(
                f"finding the cluster failed: {', '.join(running)} runs on the head, but the project there "
                "does not answer: wait until it has ended, then give the same command again; "
                f"`ray down {self.path}` ends it and takes the cluster down"
            )
        return None

    def machines(self) -> list[str]:
        """The machines of the cluster that run, and cost, whether or not they work; none on own machines."""
        if self.on_premise:
            return []
        found: list[str] = self._call("finding the cluster", self.sdk.machines)
        return found

    def ask(self, verb: str, *values: Any) -> dict[str, Any]:
        """Let the head do one of the things of :mod:`sweeps.cluster.detached`.

        Raises:
            StepError: if it cannot be reached, or refuses.
        """
        line = f"cd {self.project} && python -m sweeps.cluster.detached {verb} {detached.encode(*values)}"
        step = {"look": "following the sweep", "start": "starting the sweep"}.get(verb, "asking the head")
        said = self._call(step, self.sdk.run_on_cluster, cmd=line)
        try:
            answer = detached.decode(_text(said))
        except ValueError as problem:
            raise self._failed(step, problem, "give the same command again") from problem
        if "refused" in answer:
            raise StepError(f"{step} failed: the head says: {answer['refused']}")
        return answer

    def send(self, source: Path, target: str) -> None:
        """Copy a file, or what is in a directory, to the directory `target` of the head."""
        self._copy(f"shipping {source}", source, target, down=False)

    def fetch(self, source: str, target: Path) -> None:
        """Copy what is in the directory `source` of the head into the directory `target`."""
        self._copy("fetching the results", target, source, down=True)

    def follow(self, name: str, offset: int, show: Callable[[str], None]) -> int | None:
        """Show what a sweep prints until it ends.

        Args:
            name: the sweep.
            offset: where in its log to begin.
            show: shows a piece of text.

        Returns:
            Its exit code; None if it left none.

        Raises:
            StepError: if the connection is lost and does not come back; the sweep goes on.
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
                self.say(f"the head does not answer; trying again in {pause:.0f} s")
                time.sleep(pause)
                continue
            pauses = iter(PAUSES)
            show(decode(base64.b64decode(seen["log"])))
            offset = seen["offset"]
            if not seen["running"]:
                code: int | None = seen["exit"]
                return code

    def down(self) -> None:
        """Take the cluster down.

        Raises:
            StepError: if that fails.
        """
        self.say(f"taking cluster {self.name} down")
        if self.on_premise:
            failed = self.ask("stop_workers")["failed"]
            for address, why in failed.items():
                self.say(f"  Ray was not ended on {address}: {why or 'ssh failed'}; `ray stop` there ends it")
        self._call(
            "taking the cluster down",
            self.sdk.teardown_cluster,
            advice="machines may still run and cost: put that right, and give the same command again",
        )

    # ---- how -------------------------------------------------------------------------------------------

    @property
    def sdk(self) -> Any:
        """Ray's launcher; imported late, since it takes seconds."""
        if self._sdk is None:
            from sweeps.cluster.ray_sdk import RaySdk

            try:
                self._sdk = RaySdk(self.config, EVENTS, self._tell)
            except (KeyError, AssertionError, OSError) as problem:
                raise self._failed(
                    "finding the cluster", problem, f"see provider in {self.path}"
                ) from problem
        return self._sdk

    def _bring_up(self) -> dict[str, Any]:
        try:
            if str(token_file()) in self.config["file_mounts"].values() and make_token():
                self.say(f"made a token for your clusters: {token_file()}")
        except OSError as problem:
            raise StepError(
                f"making a token failed: {problem}: {token_file()} must be yours and writable"
            ) from problem
        for there, here in self.config["file_mounts"].items():
            if not os.path.exists(here) and there != self.project:
                raise StepError(f"reading {self.path} failed: there is no {here}, which file_mounts names")
        most = self.config.get("max_workers")
        kind = self.config["provider"]["type"]
        self.say(
            f"bringing up cluster {self.name} ({kind}, at most {most} workers); Ray's own words: {self.log}"
        )
        self._stage()
        self._call(
            "bringing the cluster up",
            self.sdk.create_or_update_cluster,
            advice=f"put that right in {self.path} or on the machine, and give the same command again; "
            "--down takes down what came up",
        )
        survey = self.ask("survey")
        if not survey["ray"]:
            raise StepError(
                f"bringing the cluster up failed: Ray does not answer on the head although it was started: "
                f"see {self.log}, then give the same command again"
            )
        return survey

    def _leave_busy_ray(self) -> None:
        """Let the head skip its commands that stop and start Ray while a sweep runs there.

        It may have been started since somebody looked, by another laptop.
        """
        if commands := self.config.get("head_start_ray_commands"):
            left = "echo a sweep runs here: Ray is left as it is"
            self.config["head_start_ray_commands"] = [
                f'if [ -z "$({detached.LOCKED})" ]; then\n{command}\nelse {left}; fi' for command in commands
            ]

    def _check_here(self) -> None:
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise StepError(
                    f"bringing the cluster up needs {tool}, which is not installed here: install it"
                )
        key = self.config["auth"].get("ssh_private_key")
        if key and not os.path.isfile(key):
            raise StepError(f"reading {self.path} failed: there is no {key}, which ssh_private_key names")

    def _stage(self) -> None:
        try:
            stage(self._source, self._staged)
        except OSError as problem:
            raise StepError(
                f"shipping the project failed: {problem}: put that right, and give the same command again"
            ) from problem

    def _copy(self, step: str, here: Path, there: str, down: bool) -> None:
        # absolute, or rsync takes a:b for a host and -b for an option
        here = here.absolute()
        source, target = (there, f"{here}/") if down else (f"{here}/" if here.is_dir() else str(here), there)
        # what the user leaves out is meant for the project, and Ray would leave it out of results as well
        config = self.config | {"rsync_exclude": [], "rsync_filter": []}
        self._call(step, self.sdk.rsync, config=config, source=source, target=target, down=down)

    def _call(
        self,
        step: str,
        function: Callable[..., Any],
        advice: str = "",
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        try:
            with self._quiet():
                return function(config or self.config, **options)
        except (Exception, SystemExit) as problem:
            raise self._failed(step, problem, advice) from problem

    def _failed(self, step: str, problem: BaseException, advice: str) -> StepError:
        # click's exceptions keep their text to themselves
        why = getattr(problem, "message", None) or str(problem) or type(problem).__name__
        if isinstance(problem, ImportError):
            advice = f"the launcher needs that package for {self.path}: install it with pip"
        text = f"{step} failed: {str(why).strip()}"
        try:
            lines = [
                line.rstrip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()
            ]
        except OSError:
            lines = []
        if lines:
            text += f"\nthe last lines of {self.log}:\n" + "\n".join(f"  {line[:200]}" for line in lines[-8:])
        return StepError(f"{text}\n{advice or 'put that right, and give the same command again'}")

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Send what Ray and ssh print to the log, and keep the terminal's input from them.

        With a terminal as input, ssh would take Ctrl-C for the head.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(number) for number in (0, 1, 2)]
        common, tempfile.tempdir = tempfile.tempdir, self._private.name
        with self.log.open("a") as log, open(os.devnull) as nothing, os.fdopen(os.dup(1), "w") as self._shown:
            try:
                for number, file in ((0, nothing), (1, log), (2, log)):
                    os.dup2(file.fileno(), number)
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for number, saved in enumerate(kept):
                    os.dup2(saved, number)
                    os.close(saved)
                tempfile.tempdir = common
        self._shown = None

    def _tell(self, event: dict[str, Any]) -> None:
        """Show an event of Ray's launcher, past the log."""
        command = str(event.get("command", ""))
        text = EVENTS[event["event_name"].name]
        if self._shown is not None:
            print(f"{text}: {command[:90]}" if command else text, file=self._shown, flush=True)


def _text(said: Any) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
