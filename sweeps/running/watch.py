"""The driver's side of Tune: reports of trials go to the store and to the progress."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray import tune

from lstmptq.results import FinishedCell
from lstmptq.runtime.problems import describe_problem, format_traceback
from sweeps.errors import StoreError
from sweeps.planning.plan import kind_of
from sweeps.planning.study import PlannedCell, PlannedModel, Study
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.running.session import ClusterError
from sweeps.running.worker_logs import last_words
from sweeps.store.writer import ResultStore

# Limits that count since a part of the job was finished.
DEATHS_TOGETHER = 2  # after this number of deaths of its worker, each part becomes a job of its own
DEATHS_ALONE = 3  # a job of one part is given up after this number of deaths
LOSSES = 20  # a job is given up after its node was lost this many times
UNSTARTED = 10  # the sweep stops after this number of workers in a row did not start
KEPT = {"trial_id", "pid", "node_ip"}  # fields of a result that Tune and `explain_death` read later
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Death:
    """Why Tune gave up a trial. Exceptions of the study arrive as results instead."""

    why: str  # one line
    log: str | None = None  # everything that is known
    lost_node: bool = False  # the node is gone or starts no worker, which is not the fault of the job
    unstarted: bool = False  # the worker did not start
    final: bool = False  # it would happen again


@dataclass(frozen=True, slots=True)
class Job(Generic[Part]):
    """The work of one trial: cells, or the training of a model."""

    parts: tuple[Part, ...]
    deaths: int = 0  # deaths of its worker since a part was finished
    losses: int = 0  # losses of its node since a part was finished

    def after(self, death: Death, left: tuple[Part, ...]) -> list[Job[Part]]:
        """Return the jobs that replace this one after its worker or node has died.

        A part that kills its worker cannot be told from the parts behind it, unless it is alone in a job.

        Args:
            death: why it died.
            left: the parts that are not finished, at least one.

        Returns:
            Jobs for those parts; none if they are given up.
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
    """Follows Tune's trials in the driver."""

    def __init__(self, jobs: Sequence[Job[Part]], phase: Phase, progress: SweepProgress) -> None:
        self.jobs, self.phase, self.progress = jobs, phase, progress
        self.again: list[Job[Part]] = []  # jobs for the next round
        self.moved = False  # whether any job reported or died
        self.unstarted = 0  # number of workers in a row that did not start
        self._buried: set[int] = set()
        self.problem: Exception | None = None  # the exception that stops the sweep
        self._at_work: set[str] = set()  # trial_ids

    def __getstate__(self) -> dict[str, Any]:
        """Leave out everything: Tune pickles callbacks to restore a run, which this project never does."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        self._at_work.add(trial.trial_id)
        self.phase.running = len(self._at_work)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        self._at_work.discard(trial.trial_id)
        self.phase.running = len(self._at_work)

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        self.on_trial_complete(trial=trial)
        with self._keep_problem():
            self.bury(trial.config["job"], _why_it_died(trial))

    def bury(self, number: int, death: Death) -> None:
        """Decide whether a job whose worker or node died is run again.

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
        """Put everything unfinished into the next round, because Tune itself has stopped."""
        for number in range(len(self.jobs)):
            self.bury(number, Death(why, lost_node=True))

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.moved, self.unstarted = True, 0
        with self._keep_problem():
            self.progress.heard_from(result)
            self.take(trial.config["job"], result)
            if "refused" in result:
                raise StoreError(result["refused"])
        # Tune keeps the last result of each trial, and statistics of each number in it: 20 KB per trial
        for name in result.keys() - KEPT:
            del result[name]

    @contextmanager
    def _keep_problem(self) -> Iterator[None]:
        """Keep an exception, so that the sweep can end with it; Tune would raise its text only."""
        try:
            yield
        except Exception as problem:
            self.problem = problem
            raise

    def take(self, job: int, result: dict[str, Any]) -> None:
        """Take the report of a job."""
        raise NotImplementedError

    def on_step_end(self, **_: Any) -> None:
        self.progress.tick()

    def left_of(self, job: int) -> tuple[Part, ...]:
        """Return the parts of a job that are not finished."""
        raise NotImplementedError

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        """Give up the unfinished parts of a job."""
        raise NotImplementedError


class TrainingWatch(Watch[PlannedModel]):
    """Counts epochs, and notes the models that cannot be trained.

    Args:
        jobs: jobs of one model each.
        untrained: training_id -> reason and log, of models that cannot be trained; filled by this object.
        trained: training_id -> finished share of the epochs; filled by this object, kept for the next round.
        phase: the phase of training.
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
            # a model without a single epoch was found among the artifacts, so its time measures nothing
            known = self.models[job].training_id in self.trained
            self._advance(job, 1.0, result["time_this_iter_s"] if known else None)
            self.phase.done += 1
            self.over.add(job)
        else:
            self._advance(job, result["epoch"] / result["epochs"], result["time_this_iter_s"])

    def _advance(self, job: int, share: float, seconds: float | None) -> None:
        # a model that is trained again after its worker died counts from where it was
        name = self.models[job].training_id
        seen = self.trained.get(name, 0.0)
        self.phase.advance(self.models[job].kind, max(0.0, share - seen), seconds)
        self.trained[name] = max(share, seen)

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        """Note the reason; the cells of the model are stored as failed later."""
        self._advance(job, 1.0, None)
        self.over.add(job)
        self.phase.failed += 1
        self.untrained[self.models[job].training_id] = reason, log
        self.progress.say(f"a model cannot be trained: {reason}")


class CellWatch(Watch[PlannedCell]):
    """Stores finished cells."""

    def __init__(
        self,
        jobs: Sequence[Job[PlannedCell]],
        store: ResultStore,
        phase: Phase,
        progress: SweepProgress,
        study: Study,
    ) -> None:
        super().__init__(jobs, phase, progress)
        self.store, self.study = store, study
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
        """Store the unfinished cells of a trial as failed."""
        fail_cells(list(self.left[job].values()), reason, self.store, self.phase, self.study, log)
        self.left[job].clear()


def fail_cells(
    cells: Sequence[PlannedCell],
    reason: str,
    store: ResultStore,
    phase: Phase,
    study: Study,
    log: str | None = None,
) -> None:
    """Store cells as failed, with one reason for all of them."""
    if not cells:
        return
    store.extend(FinishedCell(study.failed_row(cell, reason), [], log=log) for cell in cells)
    for cell in cells:
        phase.failed += 1
        phase.advance(kind_of(cell), 1, None)


def _why_it_died(trial: Any) -> Death:
    """Explain why Tune gave up a trial."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            problem = ray.cloudpickle.load(file)
    except (OSError, TypeError, EOFError, pickle.PickleError):
        return Death("its worker died")
    return explain_death(problem, (trial.last_result or {}).get("pid"))


def explain_death(problem: Exception, process: int | None = None) -> Death:
    """Derive the cause of a death from an exception of Ray's.

    Args:
        problem: Ray's exception.
        process: the worker's process number, if it sent a report.
    """
    if isinstance(problem, ray.exceptions.OutOfMemoryError):
        reason = "its worker was stopped because the machine ran out of memory: use fewer --workers"
        return Death(reason, last_words(problem, process))
    if not isinstance(problem, ray.exceptions.RayActorError):
        problem = getattr(problem, "cause", None) or problem
        if isinstance(problem, ray.exceptions.RayError):  # a fault of the machine: its disk, its environment
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
    """Return whether a worker died with its node, or cannot be reached."""
    unreachable = isinstance(problem, ray.exceptions.ActorUnavailableError)
    return unreachable or problem.preempted or "node has died" in str(problem)
