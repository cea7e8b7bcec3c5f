"""The steps of a sweep, from its flags to its rows, which all commands share."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.runtime.locations import Location, is_uri
from sweeps.cluster.tokens import use_token
from sweeps.errors import UserError
from sweeps.planning.plan import FanOut, Plan, make_plan
from sweeps.planning.samples import Sample, wanted_cells
from sweeps.planning.study import Study
from sweeps.running.heartbeat import Heartbeat
from sweeps.storage.opening import open_storage
from sweeps.store import record
from sweeps.store.index import StoredCell, failed_cells, finished_cells, read_index
from sweeps.store.writer import ResultStore, open_store

INTERRUPTED = 130  # the shell's exit code after Ctrl-C
USER_ERROR = 2


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as a command line asks for it."""

    script: str  # file name of the command in sweeps/
    given: tuple[str, ...]  # the command's arguments
    study: Study
    out: Location
    artifacts: Location
    sample: Sample | None = None
    fan_out: FanOut = "trial"
    retry_failed: bool = False
    again: bool = False  # run finished cells, too
    predictions: bool = True
    cluster: bool = False
    workers: int | None = None  # None: one per processor
    device: str = "cpu"
    kernel: str = "auto"

    @property
    def command(self) -> str:
        """The command line, for the record."""
        return shlex.join(["python", f"sweeps/{self.script}", *self.given])

    @property
    def trials_at_a_time(self) -> int:
        """How many trials run at the same time on one machine."""
        return self.workers or len(os.sched_getaffinity(0))

    def plan(self, index: Mapping[str, StoredCell]) -> Plan:
        """Plan what is left to run, given the cells that are stored."""
        return make_plan(
            self.study,
            finished_cells(index),
            failed_cells(index),
            self.retry_failed,
            self.fan_out,
            self.sample,
        )

    def failed(self, index: Mapping[str, StoredCell]) -> dict[str, str]:
        """Return the wanted cells that failed, and why; others may belong to an earlier, larger grid."""
        failed = failed_cells(index)
        wanted = {cell.cell_id for cell in wanted_cells(self.study.grid, self.sample)} if failed else set()
        return {cell_id: why for cell_id, why in failed.items() if cell_id in wanted}

    def stored(self) -> dict[str, StoredCell]:
        """Read which cells `out` holds.

        Raises:
            StoreError: if it cannot be read, or holds something else.
        """
        storage = open_storage(self.out)
        with storage.explained("read"):
            found = record.read_record(storage)
            if found is not None:
                record.check_record(storage, found, self.study.grid)
            return read_index(storage)

    def look(self) -> Plan:
        """Plan what is left to run; write nothing.

        Raises:
            StoreError: if `out` cannot be read, or holds something else.
        """
        return self.plan(self.stored())

    def run(self, console: Console) -> dict[str, str]:
        """Run what is left and store every finished cell in `out`.

        Returns:
            The wanted cells that failed, and why.

        Raises:
            UserError: if the user has to change something.
            KeyboardInterrupt: after Ctrl-C, once the finished cells are stored and the command that goes on
                is printed.
        """
        grid = self.study.grid
        with open_store(self.out, grid, self.command, self.predictions, self.sample) as results:
            if self.again:
                results.discard([cell.cell_id for cell in wanted_cells(grid, self.sample)])
            plan = self.plan(results.index)
            results.discard(plan.retried)
            others = (len(results.finished()) - plan.done, len(results.failed()) - len(plan.failed))
            state = f"{plan.planned} cells: {plan.done} done, {len(plan.failed)} failed, {plan.left} left"
            console.print(f"{state}; results in {self.out}", highlight=False, markup=False)
            try:
                with Heartbeat(results.out, plan, others, self.command) as heartbeat:
                    self._run_plan(plan, results, console, heartbeat)
            except KeyboardInterrupt:
                results.publish()
                stored = f"{len(results.finished())} finished cells are stored"
                go_on = shlex.join([*program(self.script), *without("--again", self.given)])
                console.print(f"\nstopped; {stored}. To go on: {go_on}", highlight=False, markup=False)
                raise
            return self.failed(results.index)

    def _run_plan(self, plan: Plan, results: ResultStore, console: Console, heartbeat: Heartbeat) -> None:
        if not plan.trials:
            return
        if "eager" not in (self.kernel, os.environ.get(KERNEL_VARIABLE)) and find_spec("numba") is None:
            console.print(
                "numba is not installed: plain torch runs, equal and slower; pip install 'lstmptq[native]'",
                highlight=False, markup=False,
            )  # fmt: skip
        console.print("starting Ray", highlight=False)
        if self.cluster:
            use_token()
        with warnings.catch_warnings():  # libraries warn about their own future
            warnings.simplefilter("ignore")
            # imported here because they take seconds, and --help and --dry-run need neither Ray nor torch
            from sweeps.running.progress import SweepProgress
            from sweeps.running.runner import RunOptions, run_plan
            from sweeps.running.session import ray_session

            with ray_session(self.trials_at_a_time, self.cluster) as slots:
                options = RunOptions(
                    self.study,
                    self.artifacts,
                    min(slots, self.workers or slots),
                    self.device,
                    self.kernel,
                    apart=self.cluster or is_uri(self.artifacts),
                )
                run_plan(plan, results, options, SweepProgress(console, heartbeat))


def exit_code(command: Callable[[], int]) -> int:
    """Run a command and return its exit code.

    Returns:
        The code that it returns; 2 if the user has to change something, which is printed; 130 after Ctrl-C.
    """
    try:
        return command()
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def program(script: str) -> list[str]:
    """Return the words that call a command from the current directory: interpreter and script."""
    python = Path(sys.executable)
    if shutil.which("python") == sys.executable:
        python = Path("python")
    elif python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    path = Path("sweeps", script)
    return [str(python), *([str(path)] if path.is_file() else ["-m", f"sweeps.{path.stem}"])]


def without(flag: str, given: Sequence[str]) -> list[str]:
    """Return the arguments without a flag and its values."""
    kept: list[str] = []
    inside = False
    for argument in given:
        if argument.startswith("--"):
            inside = argument.split("=")[0] == flag
        if not inside:
            kept.append(argument)
    return kept
