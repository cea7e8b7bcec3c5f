"""What is left to run of a grid, as trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from lstmptq.companion.cells import MODELS
from sweeps.planning.samples import Sample, wanted_cells
from sweeps.planning.study import PlannedCell, PlannedGrid, PlannedModel
from sweeps.storage.artifacts import ArtifactStorage

FanOut = Literal["trial", "cell"]
Kind = tuple[str, bool]  # cells that take about the same time: (model, whether it is quantized)
REASONS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a grid that is missing, in the order it is run."""

    # each shares FP32 model and bits; one model's trials are adjacent
    trials: tuple[tuple[PlannedCell, ...], ...]
    models: tuple[PlannedModel, ...]  # the FP32 models the trials need, one of each training run
    planned: int  # cells of the grid, or of the part of it that was asked for
    done: int  # of those, finished before
    failed: Mapping[str, str]  # cell_id -> reason, of cells that failed before and are not run again
    retried: tuple[str, ...]  # cell_ids that failed before and are run again
    kinds: Mapping[Kind, int]  # cells left, by kind
    sampled: bool = False  # whether `planned` is a part of the grid

    def trained(self, artifacts: ArtifactStorage) -> set[PlannedModel]:
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
    sample: Sample | None = None,
) -> Plan:
    """Subtract what is done from a grid and group the rest into trials.

    Args:
        grid: every cell that is wanted.
        finished: cell_ids that are stored with status ok.
        failed: cell_ids that are stored as failed, and why.
        retry_failed: run those again; otherwise they stay as they are.
        fan_out: ``trial`` groups the cells that share FP32 model and bits, ``cell`` makes each one a trial.
        sample: the part of the grid that is wanted; None: all of it.

    Returns:
        The plan. The rows it leads to do not depend on `fan_out`.
    """
    groups: dict[tuple[PlannedModel, int | None], list[PlannedCell]] = {}
    planned = done = 0
    retried = []
    still_failed = {}
    for cell in wanted_cells(grid, sample):
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
    ordered = sorted(groups.values(), key=lambda cells: -MODELS.index(cells[0].model.kind))
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
        sampled=sample is not None,
    )


def kind_of(cell: PlannedCell) -> Kind:
    """What the time of a cell depends on most."""
    return cell.model.kind, cell.bits is not None


def _fan_out(cells: list[PlannedCell], fan_out: FanOut) -> Iterator[Sequence[PlannedCell]]:
    if fan_out == "cell":
        yield from ([cell] for cell in cells)
    else:
        yield cells


def describe(
    plan: Plan,
    console: Console,
    trained: int,
    workers: int,
    estimate: Sequence[tuple[str, str]] = (),
    logs: Mapping[str, str] | None = None,
) -> None:
    """Print a plan.

    Args:
        plan: what is going to be run.
        console: where to print.
        trained: how many of the plan's FP32 models are among the artifacts already.
        workers: trials that run at the same time.
        estimate: more lines, as heading and text.
        logs: cell_id -> where its log is, of the failed cells that have one.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    where = "drawn from the grid" if plan.sampled else "in the grid"
    state = f"{plan.done} done, {len(plan.failed)} failed, {plan.left} left"
    table.add_row("cells", f"{plan.planned} {where}: {state}")
    table.add_row("trials", f"{len(plan.trials)}, {workers} at a time")
    to_train = len(plan.models) - trained
    table.add_row("FP32 models", f"{len(plan.models)}: {trained} trained already, {to_train} to train")
    if plan.retried:
        table.add_row("retried", f"{len(plan.retried)} cells that failed before")
    for row in estimate:
        table.add_row(*row)
    console.print(table)
    print_failed(plan.failed, console, logs)
    if plan.failed:
        console.print("--retry-failed runs them again")


def print_failed(failed: Mapping[str, str], console: Console, logs: Mapping[str, str] | None = None) -> None:
    """Print how many cells failed and why, the most frequent reasons first.

    Args:
        failed: cell_id -> reason.
        console: where to print.
        logs: cell_id -> where its log is, of the cells that have one.
    """
    if not failed:
        return
    logs = logs or {}
    console.print(f"{len(failed)} cell{'s' * (len(failed) != 1)} failed:")
    reasons = Counter(failed.values()).most_common()
    example: dict[str, str] = {}
    for cell_id, reason in failed.items():
        if cell_id in logs or reason not in example:
            example[reason] = cell_id
    for reason, count in reasons[:REASONS_SHOWN]:
        cell_id = example[reason]
        log = f", log {logs[cell_id]}" if cell_id in logs else ""
        text = f"  {count} x {reason} (e.g. cell {cell_id[:12]}{log})"
        console.print(text, highlight=False, markup=False)
    if len(reasons) > REASONS_SHOWN:
        console.print(f"  and {len(reasons) - REASONS_SHOWN} other reasons: they are in the column error")


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
