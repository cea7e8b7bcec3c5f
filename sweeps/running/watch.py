"""The driver's side of Tune: what its trials report goes to the store and to the progress."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray import tune

from lstmptq.results import FinishedCell
from lstmptq.runtime.problems import describe_problem, format_traceback
from sweeps.errors import StoreError
from sweeps.planning.plan import kind_of
from sweeps.planning.study import PlannedCell, PlannedModel
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.running.session import ClusterError
from sweeps.running.worker_logs import last_words
from sweeps.store.writer import ResultStore

DEATHS_TOGETHER = 2  # of a job's worker, with no part finished in between: then each part is a job,
DEATHS_ALONE = 3  # which is given up after so many more
KEPT = {"trial_id", "pid", "node_ip"}  # of a result: what Tune and `why` look at later
UNSTARTED = 10  # workers one after the other that did not start: then nothing can be run at all
LOSSES = 20  # of a job's node, likewise: nodes come and go, but not one after the other under one job
Part = TypeVar("Part")

FailedRow = Callable[[Any, str], dict[str, Any]]  # of a cell and the reason


@dataclass(frozen=True, slots=True)
class Death:
    """Why Tune gave up a trial; exceptions of the study come as results instead."""

    why: str  # in one line
    log: str | None = None  # all there is to read about it
    lost_node: bool = False  # taken away, dead, or unable to start a worker: no fault of what ran there
    unstarted: bool = False  # the worker did not even start
    final: bool = False  # it would only happen again


@dataclass(frozen=True, slots=True)
class Job(Generic[Part]):
    """What one trial does: cells, or the training of a model."""

    parts: tuple[Part, ...]
    deaths: int = 0  # of its worker, since a part was finished
    losses: int = 0  # of its node, since a part was finished

    def after(self, death: Death, left: tuple[Part, ...]) -> list[Job[Part]]:
        """What to run once its worker or node has died.

        A part that kills its worker cannot be told from those that wait behind it; alone it can.

        Args:
            death: why.
            left: the parts that are not finished, at least one.

        Returns:
            The jobs for those parts; none if they are given up.
        """
        deaths, losses = (self.deaths, self.losses) if left == self.parts else (0, 0)
        if death.final:
            return []
        if death.lost_node:
            return [Job(left, deaths, losses + 1)] if losses + 1 < LOSSES else []
        if deaths + 1 < (DEATHS_ALONE if len(left) == 1 else DEATHS_TOGETHER):
            return [Job(left, deaths + 1, losses)]
        return [Job((part,)) for part in left] if len(left) > 1 else []


class Watch(tune.Callback, Generic[Part]):  # type: ignore[misc]
    """Sees what Tune's trials do, in the driver."""

    def __init__(self, jobs: Sequence[Job[Part]], phase: Phase, progress: SweepProgress) -> None:
        self.jobs, self.phase, self.progress = jobs, phase, progress
        self.again: list[Job[Part]] = []  # what is left of jobs whose worker or node died
        self.moved = False  # whether a job did anything, if only die
        self.unstarted = 0  # workers that did not start, since one did something
        self._buried: set[int] = set()
        self.problem: Exception | None = None  # what stops the sweep
        self._at_work: set[str] = set()  # Tune's names of the trials

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks to disk, to restore a run from them; this project never does."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        self._at_work.add(trial.trial_id)
        self.phase.running = len(self._at_work)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        self._at_work.discard(trial.trial_id)
        self.phase.running = len(self._at_work)

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        self.on_trial_complete(trial=trial)
        with self._kept():
            self.bury(trial.config["job"], _why_it_died(trial))

    def bury(self, number: int, death: Death) -> None:
        """Decide what becomes of a job whose worker or node died.

        Raises:
            ClusterError: if worker after worker does not start.
        """
        self.moved = True
        self.unstarted = self.unstarted + 1 if death.unstarted else 0
        if self.unstarted >= UNSTARTED:
            raise ClusterError(
                f"{UNSTARTED} workers in a row could not be started, the last one because {death.why}: put "
                "that right, and the same command goes on where it stopped"
            )
        if number in self._buried or not (left := self.left_of(number)):
            return
        self._buried.add(number)
        again = self.jobs[number].after(death, left)
        if again:
            self.again += again
            self.progress.say(f"a trial is run once more: {death.why}")
        else:
            self.fail(number, death.why, death.log)

    def bury_all(self, why: str) -> None:
        """Take up everything that is not finished, because Tune itself has stopped."""
        for number in range(len(self.jobs)):
            self.bury(number, Death(why, lost_node=True))

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.moved, self.unstarted = True, 0
        with self._kept():
            self.progress.heard_from(result)
            self.take(trial.config["job"], result)
            if "refused" in result:
                raise StoreError(result["refused"])
        # Tune keeps a trial's last result, and statistics of each number in it: 20 KB a trial
        for name in result.keys() - KEPT:
            del result[name]

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep an exception, so that the sweep can end with it: Tune raises only its text."""
        try:
            yield
        except Exception as problem:
            self.problem = problem
            raise

    def take(self, job: int, result: dict[str, Any]) -> None:
        """Take what a job reports."""
        raise NotImplementedError

    def on_step_end(self, **_: Any) -> None:
        self.progress.tick()

    def left_of(self, job: int) -> tuple[Part, ...]:
        """The parts of a job that are not finished."""
        raise NotImplementedError

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        """Give up what is left of a job."""
        raise NotImplementedError


class TrainingWatch(Watch[PlannedModel]):
    """Counts epochs, and notes the models that could not be trained.

    Args:
        jobs: one model each.
        untrained: training_id of the models that cannot be trained: why, and a log; added to.
        trained: share of the epochs that were seen, by training_id; kept for a next round.
        phase: the phase.
        progress: where it is shown.
    """

    def __init__(
        self,
        jobs: Sequence[Job[PlannedModel]],
        untrained: dict[str, tuple[str, str | None]],
        trained: dict[str, float],
        phase: Phase,
        progress: SweepProgress,
    ) -> None:
        super().__init__(jobs, phase, progress)
        self.models = [job.parts[0] for job in jobs]
        self.untrained, self.trained = untrained, trained
        self.over: set[int] = set()

    def left_of(self, job: int) -> tuple[PlannedModel, ...]:
        return () if job in self.over else self.jobs[job].parts

    def take(self, job: int, result: dict[str, Any]) -> None:
        if "refused" in result:
            return
        if "problem" in result:
            self.fail(job, result["problem"], result["log"])
        elif result["done"]:
            # one without a single epoch was found among the artifacts: no measure of training
            known = self.models[job].training_id in self.trained
            self._advance(job, 1.0, result["time_this_iter_s"] if known else None)
            self.phase.done += 1
            self.over.add(job)
        else:
            self._advance(job, result["epoch"] / result["epochs"], result["time_this_iter_s"])

    def _advance(self, job: int, share: float, seconds: float | None) -> None:
        # a model that is trained again, because its worker died, counts from where it was
        name = self.models[job].training_id
        seen = self.trained.get(name, 0.0)
        self.phase.advance(self.models[job].kind, max(0.0, share - seen), seconds)
        self.trained[name] = max(share, seen)

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        """Note the reason; the model's cells are marked with it later."""
        self._advance(job, 1.0, None)
        self.over.add(job)
        self.phase.failed += 1
        self.untrained[self.models[job].training_id] = reason, log
        self.progress.say(f"a model cannot be trained: {reason}")


class CellWatch(Watch[PlannedCell]):
    """Puts finished cells into the store."""

    def __init__(
        self,
        jobs: Sequence[Job[PlannedCell]],
        store: ResultStore,
        phase: Phase,
        progress: SweepProgress,
        failed_row: FailedRow,
    ) -> None:
        super().__init__(jobs, phase, progress)
        self.store, self.failed_row = store, failed_row
        self.left = [{cell.cell_id: cell for cell in job.parts} for job in jobs]

    def left_of(self, job: int) -> tuple[PlannedCell, ...]:
        return tuple(self.left[job].values())

    def take(self, job: int, result: dict[str, Any]) -> None:
        new = [cell for cell in result["cells"] if self.left[job].pop(cell.cell_id, None) is not None]
        self.store.extend(new)
        done = sum(cell.ok for cell in new)
        self.phase.done += done
        self.phase.failed += len(new) - done
        if new:
            self.phase.advance(kind_of(self.jobs[job].parts[0]), len(new), result["seconds"])
        if result["done"] and "refused" not in result:
            self.fail(job, result.get("problem", "the trial ended without this cell"), result.get("log"))

    def on_step_end(self, **info: Any) -> None:
        self.store.publish_if_due()
        super().on_step_end(**info)

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        """Store the cells that are left of a trial as failed."""
        fail_cells(list(self.left[job].values()), reason, self.store, self.phase, self.failed_row, log)
        self.left[job].clear()


def fail_cells(
    cells: Sequence[PlannedCell],
    reason: str,
    store: ResultStore,
    phase: Phase,
    failed_row: FailedRow,
    log: str | None = None,
) -> None:
    """Store cells as failed, in the rows that `failed_row` makes of them."""
    if not cells:
        return
    store.extend(FinishedCell(failed_row(cell, reason), [], log=log) for cell in cells)
    for cell in cells:
        phase.failed += 1
        phase.advance(kind_of(cell), 1, None)


def _why_it_died(trial: Any) -> Death:
    """Why Tune gave up a trial, with what is known of it."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            problem = ray.cloudpickle.load(file)
    except (OSError, TypeError, EOFError, pickle.PickleError):
        return Death("its worker died")
    return why(problem, (trial.last_result or {}).get("pid"))


def why(problem: Exception, process: int | None = None) -> Death:
    """What an exception of Ray's says of the one that died.

    Args:
        problem: Ray's exception.
        process: the worker's number, if it was heard from.
    """
    if isinstance(problem, ray.exceptions.OutOfMemoryError):
        reason = "its worker was stopped because the machine ran out of memory: use fewer --workers"
        return Death(reason, last_words(problem, process))
    if not isinstance(problem, ray.exceptions.RayActorError):
        problem = getattr(problem, "cause", None) or problem
        if isinstance(problem, ray.exceptions.RayError):  # of the machine: its disk, its environment
            return Death(describe_problem(problem), format_traceback(problem), lost_node=True, unstarted=True)
        return Death(describe_problem(problem), format_traceback(problem), final=True)
    if problem.actor_init_failed:
        reason = f"its worker did not start: {str(problem).strip().splitlines()[-1]}"
        return Death(reason, str(problem), lost_node=True, unstarted=True)
    if _lost_its_node(problem):
        return Death("its node was lost", str(problem), lost_node=True)
    reason = "its worker died: killed, or out of memory (then use fewer --workers)"
    return Death(reason, last_words(problem, process))


def _lost_its_node(problem: ray.exceptions.RayActorError) -> bool:
    """Whether a worker died with its node, or cannot be reached; only a node that Ray takes away says so."""
    unreachable = isinstance(problem, ray.exceptions.ActorUnavailableError)
    return unreachable or problem.preempted or "node has died" in str(problem)
