"""The cluster that a file for Ray's launcher describes, from a machine outside it: up, in, out, down.

Everything goes through Ray's launcher SDK, and with it through ssh: nothing of the cluster has to listen to
the outside. What Ray prints goes to a log, since little of it is for the user of a sweep.
"""

from __future__ import annotations

import base64
import codecs
import importlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from lstmptq.provenance import git_sha
from sweeps.cluster import detached
from sweeps.cluster.tokens import make_token, token_file
from sweeps.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = ("ssh", "rsync")
LOOK_SECONDS = 10.0  # how long a question after news waits on the head for some
PAUSES = (2.0, 5.0, 10.0, 20.0, 30.0)  # before it is asked again after the connection was lost
LOCAL_WAIT_SECONDS = "60"  # for ssh of a machine that is there already; Ray's 15 minutes are for new ones
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REMOTE = re.compile(r"~?[\w./-]+")
EVENTS = {  # of Ray's launcher, worth a line
    "acquiring_new_head_node": "  asking for a head machine",
    "head_node_acquired": "  there is a head machine; waiting for ssh",
    "ssh_control_acquired": "  ssh answers; shipping the project",
    "run_setup_cmd": "  setting up",
    "start_ray_runtime": "  starting Ray",
}


class StepError(UserError):
    """A step with the cluster failed; the text says which, why, and what to do."""


class Launcher:
    """One cluster.

    Args:
        path: its file, as ``ray up`` takes it; paths of ``file_mounts`` in it are relative to its directory.
        log: where what Ray prints is appended.
        say: shows a line to the user.
        sdk: ``ray.autoscaler.sdk``, or a double of it in tests.

    Raises:
        StepError: if the file cannot be used.
    """

    def __init__(self, path: Path, log: Path, say: Callable[[str], None], sdk: Any = None) -> None:
        self.path, self.log, self.say, self._sdk = path, log, say, sdk
        self._shown: IO[str] | None = None  # the user's terminal, while output goes to the log
        self.config = self._read()
        self.name = str(self.config["cluster_name"])
        self.on_premise = self.config["provider"]["type"] == "local"
        self.project = self._project()
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
            StepError: if it does not come up.
        """
        self._check_here()
        found = self.find()
        if found is not None and found["ray"]:
            running = [name for name, sweep in found["sweeps"].items() if sweep["running"]]
            if running:
                self.say(f"cluster {self.name} is up, and runs {', '.join(running)}")
                return found
            self.say(f"cluster {self.name} is up; shipping the project")
            self._stage()
            self._call("shipping the project", self.sdk.rsync, source=None, target=None, down=False)
            return found
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
            f"`ray down {self.path}` takes down what came up",
        )
        survey = self.ask("survey")
        if not survey["ray"]:
            raise StepError(
                f"bringing the cluster up failed: Ray does not answer on the head although it was started: "
                f"see {self.log}, then give the same command again"
            )
        return survey

    def find(self) -> dict[str, Any] | None:
        """What is on the head; None if there is no head.

        Raises:
            StepError: if there is one and it does not answer.
        """
        try:
            with self._quiet():
                self.sdk.get_head_node_ip(self.config)
        except RuntimeError:  # there is none
            return None
        except Exception as problem:
            raise self._failed("finding the cluster", problem, "") from problem
        try:
            return self.ask("survey")
        except StepError:
            if not self.on_premise:
                raise
        # Own machines are always there, perhaps without this project. One that does not answer must not be
        # taken for one without: to bring the cluster up starts Ray anew, under a sweep that may be running.
        self._call("finding the cluster", self.sdk.run_on_cluster, cmd="true", with_output=True)
        try:
            return self.ask("survey")
        except StepError:
            return None

    def ask(self, verb: str, *values: Any) -> dict[str, Any]:
        """Let the head do one of the things of :mod:`sweeps.cluster.detached`.

        Raises:
            StepError: if it cannot be reached, or refuses.
        """
        line = f"cd {self.project} && python -m sweeps.cluster.detached {verb} {detached.encode(*values)}"
        step = {"look": "following the sweep", "start": "starting the sweep"}.get(verb, "asking the head")
        said = self._call(step, self.sdk.run_on_cluster, cmd=line, with_output=True)
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        try:
            answer = detached.decode(text)
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
            advice=f"machines may still run and cost: see {self.log}, then `ray down {self.path}`",
        )

    # ---- how -------------------------------------------------------------------------------------------

    @property
    def sdk(self) -> Any:
        """Ray's launcher; imported late, since it takes seconds."""
        if self._sdk is None:
            from ray.autoscaler import sdk

            sdk.configure_logging(log_style="record", verbosity=0)
            events = importlib.import_module("ray.autoscaler._private.event_system").CreateClusterEvent
            for name in EVENTS:
                sdk.register_callback_handler(events[name], self._tell)
            if self.on_premise:
                self._note_own_head()
            self._sdk = sdk
        return self._sdk

    def _read(self) -> dict[str, Any]:
        try:
            found = yaml.safe_load(self.path.read_text())
        except FileNotFoundError as problem:
            raise StepError(
                f"no Ray cluster answers on this machine, and there is no {self.path} to bring one up from: "
                "name one with --cluster-config, set RAY_ADDRESS to the address of a cluster that runs, "
                "or leave out --cluster"
            ) from problem
        except (OSError, yaml.YAMLError) as problem:
            raise StepError(f"reading {self.path} failed: {problem}") from problem
        if not isinstance(found, dict) or not {"cluster_name", "provider", "auth"} <= found.keys():
            raise StepError(
                f"reading {self.path} failed: it is no file for `ray up`, which has cluster_name, provider "
                "and auth: begin with the cluster.yaml of this project"
            )
        if not NAME.fullmatch(str(found["cluster_name"])):
            raise StepError(
                f"reading {self.path} failed: cluster_name must be letters, digits, - and _, "
                f"got {found['cluster_name']!r}"
            )
        folder = self.path.resolve().parent
        mounts = found.get("file_mounts") or {}
        found["file_mounts"] = {
            there: str(folder / Path(here).expanduser()) for there, here in mounts.items()
        }
        if key := found["auth"].get("ssh_private_key"):
            found["auth"]["ssh_private_key"] = str(Path(key).expanduser())
        return found

    def _project(self) -> str:
        """Where on the head the project is; what is mounted there is a copy of it from now on."""
        mounts: dict[str, str] = self.config["file_mounts"]
        for there, here in mounts.items():
            if Path(here, "sweeps", "full_grid.py").is_file() and REMOTE.fullmatch(there):
                self._source, self._copied = Path(here), Path.home() / ".cache" / "lstmptq" / self.name
                mounts[there] = str(self._copied)
                return there
        raise StepError(
            f"reading {self.path} failed: none of its file_mounts is this project: add `~/lstmptq: .`, with "
            "the file beside README.md"
        )

    def _check_here(self) -> None:
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise StepError(
                    f"bringing the cluster up needs {tool}, which is not installed here: install it"
                )
        if str(token_file()) in self.config["file_mounts"].values() and make_token():
            self.say(f"made a token for your clusters: {token_file()}")
        for there, here in self.config["file_mounts"].items():
            if not os.path.exists(here) and there != self.project:
                raise StepError(f"reading {self.path} failed: there is no {here}, which file_mounts names")

    def _stage(self) -> None:
        """Copy what is shipped of the project to one place: Ray reads all of a directory, .venv too."""
        ignored = shutil.ignore_patterns(
            *(Path(name).name for name in self.config.get("rsync_exclude") or ())
        )
        shutil.rmtree(self._copied, ignore_errors=True)
        shutil.copytree(self._source, self._copied, ignore=ignored)
        if (commit := git_sha()) and (self._copied / "lstmptq").is_dir():
            (self._copied / "lstmptq" / "COMMIT").write_text(commit)  # rows say which code made them

    def _note_own_head(self) -> None:
        """Remind Ray of the head of an on-premise cluster: it notes it in /tmp, where it may be lost.

        Without, Ray would think that there is none, and start it anew, under a sweep.
        """
        provider = importlib.import_module("ray.autoscaler._private.local.node_provider")
        try:
            local = provider.LocalNodeProvider(self.config["provider"], self.name)
            if not local.state.get()[self.config["provider"]["head_ip"]].get("teardown_complete"):
                provider.record_local_head_state_if_needed(local)
        except (KeyError, AssertionError, OSError) as problem:
            raise self._failed("finding the cluster", problem, f"see provider in {self.path}") from problem

    def _copy(self, step: str, here: Path, there: str, down: bool) -> None:
        source, target = (there, f"{here}/") if down else (f"{here}/" if here.is_dir() else str(here), there)
        self._call(step, self.sdk.rsync, source=source, target=target, down=down)

    def _call(self, step: str, function: Callable[..., Any], advice: str = "", **options: Any) -> Any:
        try:
            with self._quiet():
                return function(self.config, **options)
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
        self._shown = None

    def _tell(self, event: dict[str, Any]) -> None:
        """Show an event of Ray's launcher, past the log."""
        command = str(event.get("command", ""))
        text = EVENTS[event["event_name"].name]
        if self._shown is not None:
            print(f"{text}: {command[:90]}" if command else text, file=self._shown, flush=True)
