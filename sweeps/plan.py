"""What is left to run of a grid, as trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import MODELS

FanOut = Literal["trial", "cell"]
Kind = tuple[str, bool]  # cells that take about the same time: (model, whether it is quantized)
REASONS_SHOWN = 10


class PlannedModel(Protocol):
    """A training that cells need: the main study's ``ModelSpec``, or another study's."""

    @property
    def model(self) -> str:
        """Its name on the axis, one of MODELS."""

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that it leaves."""

    @property
    def training_id(self) -> str:
        """Names the training."""

    def __hash__(self) -> int:
        """It is a key of dictionaries."""


class PlannedCell(Protocol):
    """A point of a grid that becomes a row: the main study's ``Cell``, or another study's."""

    @property
    def model(self) -> Any:  # a PlannedModel: a Protocol's member types are invariant
        """The training it needs."""

    @property
    def cell_id(self) -> str:
        """Its name."""

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""


class PlannedGrid(Protocol):
    """Axes and settings, and the cells they come to."""

    @property
    def AXES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the class
        """Names of its attributes that vary."""

    @property
    def SETTINGS(self) -> tuple[str, ...]:  # noqa: N802
        """Names of its attributes that all cells share."""

    def cells(self) -> Iterator[Any]:
        """Every cell (a PlannedCell) once, in a fixed order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a grid that is missing, in the order it is run."""

    trials: tuple[
        tuple[PlannedCell, ...], ...
    ]  # each shares FP32 model and bits; one model's trials are adjacent
    models: tuple[PlannedModel, ...]  # the FP32 models the trials need, one of each training run
    planned: int  # cells of the whole grid
    done: int  # of those, finished before
    failed: Mapping[str, str]  # cell_id -> reason, of cells that failed before and are not run again
    retried: tuple[str, ...]  # cell_ids that failed before and are run again
    kinds: Mapping[Kind, int]  # cells left, by kind
    seconds: float | None  # estimate of the trials' time on one core; None: nothing to go by

    def trained(self, artifacts: Artifacts) -> set[PlannedModel]:
        """The FP32 models that are among `artifacts` already."""
        return {spec for spec in self.models if artifacts.has(*spec.training)}

    @property
    def left(self) -> int:
        """Cells that are going to be run."""
        return sum(map(len, self.trials))


def make_plan(
    grid: PlannedGrid,
    finished: Collection[str],
    failed: Mapping[str, str],
    retry_failed: bool = False,
    fan_out: FanOut = "trial",
    seconds: Mapping[Kind, float] | None = None,
) -> Plan:
    """Subtract what is done from a grid and group the rest into trials.

    Args:
        grid: every cell that is wanted.
        finished: cell_ids that are stored with status ok.
        failed: cell_ids that are stored as failed, and why.
        retry_failed: run those again; otherwise they stay as they are.
        fan_out: ``trial`` groups the cells that share FP32 model and bits, ``cell`` makes each one a trial.
        seconds: mean measured seconds of a finished cell, by kind.

    Returns:
        The plan. The rows it leads to do not depend on `fan_out`.
    """
    groups: dict[tuple[PlannedModel, int | None], list[PlannedCell]] = {}
    planned = done = 0
    retried = []
    still_failed = {}
    for cell in grid.cells():
        cell_id = cell.cell_id
        planned += 1
        if cell_id in finished:
            done += 1
        elif cell_id in failed and not retry_failed:
            still_failed[cell_id] = failed[cell_id]
        else:
            if cell_id in failed:
                retried.append(cell_id)
            groups.setdefault((cell.model, cell.bits), []).append(cell)
    # A BERT takes longest, a generative model several times as long as a discriminative one: with the
    # longest first, no worker is left with one at the end. The sort is stable, so the trials of one model
    # stay adjacent.
    ordered = sorted(groups.values(), key=lambda cells: -MODELS.index(cells[0].model.model))
    trials = [tuple(part) for cells in ordered for part in _fan_out(cells, fan_out)]
    kinds = Counter(kind_of(cell) for trial in trials for cell in trial)
    models: dict[str, PlannedModel] = {}
    for spec in dict.fromkeys(trial[0].model for trial in trials):
        models.setdefault(spec.training_id, spec)
    return Plan(
        trials=tuple(trials),
        models=tuple(models.values()),
        planned=planned,
        done=done,
        failed=still_failed,
        retried=tuple(retried),
        kinds=kinds,
        seconds=_estimate(kinds, seconds or {}),
    )


def kind_of(cell: PlannedCell) -> Kind:
    """What the time of a cell depends on most."""
    return cell.model.model, cell.bits is not None


def _fan_out(cells: list[PlannedCell], fan_out: FanOut) -> Iterator[Sequence[PlannedCell]]:
    if fan_out == "cell":
        yield from ([cell] for cell in cells)
    else:
        yield cells


def _estimate(kinds: Mapping[Kind, int], seconds: Mapping[Kind, float]) -> float | None:
    """Seconds for `kinds` cells; a kind that was never run takes the mean of the others."""
    if not kinds:
        return 0.0
    if not seconds:
        return None
    mean = sum(seconds.values()) / len(seconds)
    return sum(count * seconds.get(kind, mean) for kind, count in kinds.items())


def describe(plan: Plan, console: Console, trained: int, workers: int) -> None:
    """Print a plan.

    Args:
        plan: what is going to be run.
        console: where to print.
        trained: how many of the plan's FP32 models are among the artifacts already.
        workers: trials that run at the same time.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    state = f"{plan.done} done, {len(plan.failed)} failed, {plan.left} left"
    table.add_row("cells", f"{plan.planned} in the grid: {state}")
    table.add_row("trials", f"{len(plan.trials)}, {workers} at a time")
    to_train = len(plan.models) - trained
    table.add_row("FP32 models", f"{len(plan.models)}: {trained} trained already, {to_train} to train")
    if plan.retried:
        table.add_row("retried", f"{len(plan.retried)} cells that failed before")
    table.add_row("estimate", _describe_estimate(plan, to_train, workers))
    console.print(table)
    print_failed(plan.failed, console)
    if plan.failed:
        console.print("--retry-failed runs them again")


def _describe_estimate(plan: Plan, to_train: int, workers: int) -> str:
    if not plan.trials:
        return "nothing to do"
    training = f", and the training of {to_train} FP32 models" if to_train else ""
    if plan.seconds is None:
        return f"unknown until some cells are finished{training}"
    return f"at least {clock(plan.seconds / workers)}{training} (from the cells that are finished)"


def print_failed(failed: Mapping[str, str], console: Console) -> None:
    """Print how many cells failed and why, the most frequent reasons first."""
    if not failed:
        return
    console.print(f"{len(failed)} cell{'s' * (len(failed) != 1)} failed:")
    reasons = Counter(failed.values()).most_common()
    example = {reason: cell_id for cell_id, reason in failed.items()}
    for reason, count in reasons[:REASONS_SHOWN]:
        console.print(f"  {count} x {escape(reason)} (e.g. cell {example[reason][:12]})", highlight=False)
    if len(reasons) > REASONS_SHOWN:
        console.print(f"  and {len(reasons) - REASONS_SHOWN} other reasons: they are in the column error")


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
