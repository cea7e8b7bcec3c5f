"""What is left to run of a grid, as trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from sweeps.planning.samples import Sample, wanted_cells
from sweeps.planning.study import PlannedCell, PlannedModel, Study
from sweeps.storage.artifacts import ArtifactStorage

FanOut = Literal["trial", "cell"]
Kind = tuple[str, bool]  # cells that take about the same time: (model, whether it is quantized)
REASONS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a grid that is missing, in the order in which it is run."""

    # the cells of a trial share FP32 model and bits; the trials of one model are adjacent
    trials: tuple[tuple[PlannedCell, ...], ...]
    models: tuple[PlannedModel, ...]  # one FP32 model per training run that the trials need
    planned: int  # number of cells in the grid, or in the sample of it
    done: int  # how many of them were finished before
    failed: Mapping[str, str]  # cell_id -> reason, for cells that failed before and are not run again
    retried: tuple[str, ...]  # cell_ids that failed before and are run again
    kinds: Mapping[Kind, int]  # number of cells left, by kind
    sampled: bool = False  # whether `planned` counts a sample of the grid

    def trained(self, artifacts: ArtifactStorage) -> set[PlannedModel]:
        """Return the FP32 models that are among `artifacts` already."""
        return {model for model in self.models if artifacts.has(*model.training)}

    @property
    def left(self) -> int:
        """Number of cells that are going to be run."""
        return sum(map(len, self.trials))


def make_plan(
    study: Study,
    finished: Collection[str],
    failed: Mapping[str, str],
    retry_failed: bool = False,
    fan_out: FanOut = "trial",
    sample: Sample | None = None,
) -> Plan:
    """Subtract the finished cells from a study's grid and group the others into trials.

    Args:
        study: the study; every cell of its grid is wanted.
        finished: cell_ids that are stored with status ok.
        failed: cell_ids that are stored as failed, and why.
        retry_failed: run failed cells again; otherwise they stay as they are.
        fan_out: ``trial`` groups the cells that share FP32 model and bits, ``cell`` makes each one a trial.
        sample: the part of the grid that is wanted; None: all of it.

    Returns:
        The plan. The rows that it leads to do not depend on `fan_out`.
    """
    groups: dict[tuple[PlannedModel, int | None], list[PlannedCell]] = {}
    planned = done = 0
    retried = []
    still_failed = {}
    for cell in wanted_cells(study.grid, sample):
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
    # The trials that take longest come first, so that no worker is left with one at the end. The sort is
    # stable, so the trials of one model stay adjacent.
    ordered = sorted(groups.values(), key=lambda cells: -study.kinds.index(cells[0].model.kind))
    trials = [tuple(cells) for cells in ordered]
    if fan_out == "cell":
        trials = [(cell,) for cells in trials for cell in cells]
    models: dict[str, PlannedModel] = {}
    for cells in trials:
        models.setdefault(cells[0].model.training_id, cells[0].model)
    return Plan(
        trials=tuple(trials),
        # a training that starts from another one seldom has to wait for it when it comes last
        models=tuple(sorted(models.values(), key=lambda model: model.training[0] == study.trained_last)),
        planned=planned,
        done=done,
        failed=still_failed,
        retried=tuple(retried),
        kinds=Counter(kind_of(cell) for cells in trials for cell in cells),
        sampled=sample is not None,
    )


def kind_of(cell: PlannedCell) -> Kind:
    """Return the kind of a cell; cells of one kind take about the same time."""
    return cell.model.kind, cell.bits is not None


def print_plan(
    plan: Plan,
    console: Console,
    trained: int,
    workers: int,
    estimate: Sequence[tuple[str, str]] = (),
    logs: Mapping[str, str] | None = None,
) -> None:
    """Print a plan.

    Args:
        plan: the plan.
        console: where to print.
        trained: number of the plan's FP32 models that are already trained.
        workers: number of trials that run at the same time.
        estimate: more lines, as heading and text.
        logs: cell_id -> path of its log, for the failed cells that have one.
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
        logs: cell_id -> path of its log, for the cells that have one.
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


def format_duration(seconds: float) -> str:
    """Format seconds as h:mm:ss, or as m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
