"""The driver's side of Tune: what its trials report goes to the store and to the progress."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune

from lstmptq.problems import describe_problem
from sweeps.plan import PlannedCell, PlannedModel, kind_of
from sweeps.progress import Stage, SweepProgress
from sweeps.store import ResultStore

FailedRow = Callable[[Any, str], dict[str, Any]]  # of a cell and the reason


class Watch(tune.Callback):  # type: ignore[misc]
    """Sees what Tune's trials do, in the driver."""

    def __init__(self, stage: Stage, progress: SweepProgress) -> None:
        self.stage, self.progress = stage, progress
        self.problem: Exception | None = None  # what stops the sweep
        self._at_work: set[str] = set()  # Tune's names of the trials

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks to disk, to restore a run from them; this project never does."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        self._at_work.add(trial.trial_id)
        self.stage.running = len(self._at_work)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        self._at_work.discard(trial.trial_id)
        self.stage.running = len(self._at_work)

    def on_trial_recover(self, *, trial: Any, **_: Any) -> None:
        self.on_trial_complete(trial=trial)  # it starts once more
        self.progress.say(f"a trial is run once more: {_why_it_died(trial)}")

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        self.on_trial_complete(trial=trial)
        with self._kept():
            self.fail(trial.config["job"], _why_it_died(trial))

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        with self._kept():
            self.take(trial.config["job"], result)

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

    def fail(self, job: int, reason: str) -> None:
        """Give up what is left of a job."""
        raise NotImplementedError


class TrainingWatch(Watch):
    """Counts epochs, and notes the models that could not be trained."""

    def __init__(
        self,
        models: Sequence[PlannedModel],
        untrained: dict[str, str],  # training_id: why
        stage: Stage,
        progress: SweepProgress,
    ) -> None:
        super().__init__(stage, progress)
        self.models, self.untrained = models, untrained
        self.trained = [0.0] * len(models)  # share of each model's epochs

    def take(self, job: int, result: dict[str, Any]) -> None:
        if "problem" in result:
            self.fail(job, result["problem"])
        elif result["done"]:
            # one without a single epoch was found among the artifacts: no measure of training
            self._advance(job, 1.0, result["time_this_iter_s"] if self.trained[job] else None)
            self.stage.done += 1
        else:
            self._advance(job, result["epoch"] / result["epochs"], result["time_this_iter_s"])

    def _advance(self, job: int, share: float, seconds: float | None) -> None:
        # a model that is trained again, because its worker died, counts from where it was
        self.stage.advance(self.models[job].model, max(0.0, share - self.trained[job]), seconds)
        self.trained[job] = max(share, self.trained[job])

    def fail(self, job: int, reason: str) -> None:
        """Note the reason; the model's cells are marked with it later."""
        self._advance(job, 1.0, None)
        self.stage.failed += 1
        self.untrained[self.models[job].training_id] = reason
        self.progress.say(f"a model cannot be trained: {reason}")


class CellWatch(Watch):
    """Puts finished cells into the store."""

    def __init__(
        self,
        trials: Sequence[Sequence[PlannedCell]],
        store: ResultStore,
        stage: Stage,
        progress: SweepProgress,
        failed_row: FailedRow,
    ) -> None:
        super().__init__(stage, progress)
        self.trials, self.store, self.failed_row = trials, store, failed_row
        self.left = [{cell.cell_id: cell for cell in trial} for trial in trials]

    def take(self, job: int, result: dict[str, Any]) -> None:
        finished = result.pop("cells")  # Tune keeps and writes what stays in the result
        # those of a trial that is run again, because its worker died, are stored already
        new = [cell for cell in finished if self.left[job].pop(cell[0]["cell_id"], None) is not None]
        for row, tensors, predictions in new:
            self.store.append(row, tensors, predictions)
            if row["status"] == "ok":
                self.stage.done += 1
            else:
                self.stage.failed += 1
        if new:
            self.stage.advance(kind_of(self.trials[job][0]), len(new), result["seconds"])
        if result["done"]:
            self.fail(job, result.get("problem", "the trial ended without this cell"))

    def on_step_end(self, **info: Any) -> None:
        self.store.publish_if_due()
        super().on_step_end(**info)

    def fail(self, job: int, reason: str) -> None:
        """Store the cells that are left of a trial as failed."""
        fail_cells(list(self.left[job].values()), reason, self.store, self.stage, self.failed_row)
        self.left[job].clear()


def fail_cells(
    cells: Sequence[PlannedCell], reason: str, store: ResultStore, stage: Stage, failed_row: FailedRow
) -> None:
    """Store cells as failed, in the rows that `failed_row` makes of them."""
    for cell in cells:
        store.append(failed_row(cell, reason), [])
        stage.failed += 1
        stage.advance(kind_of(cell), 1, None)


def _why_it_died(trial: Any) -> str:
    """Why Tune gave up a trial, in one line; exceptions of the study come as results instead."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            problem = ray.cloudpickle.load(file)
    except (OSError, TypeError, pickle.PickleError):
        return "its worker died"
    if isinstance(problem, ray.exceptions.OutOfMemoryError):
        return "its worker was stopped because the machine ran out of memory: use fewer --workers"
    if isinstance(problem, ray.exceptions.RayActorError):
        return "its worker died: killed, or out of memory (then use fewer --workers)"
    return describe_problem(getattr(problem, "cause", None) or problem)
