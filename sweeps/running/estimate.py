"""Estimate the hours and the memory that a plan would take, from what earlier runs measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.planning.plan import Kind, Plan, format_duration
from sweeps.planning.study import PlannedModel
from sweeps.storage.base import Storage
from sweeps.store.status_file import kind_name, read_status

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Timings:
    """What earlier runs measured, by the names that :func:`sweeps.store.status_file.kind_name` gives."""

    cells: Mapping[str, float] = field(default_factory=dict)  # seconds per cell on one core, by kind
    training: Mapping[str, float] = field(default_factory=dict)  # seconds per FP32 model, by kind
    whole: bool = True  # whether the seconds of a cell are its whole time, or only its measured steps
    source: str = ""  # where the timings are from, in words
    peak_bytes: int | None = None  # the most memory that one worker held
    peak_host: str = ""  # the machine of that worker


def known_timings(out: Storage, steps: Mapping[Kind, float]) -> Timings:
    """Read the timings that earlier runs left.

    Args:
        out: the results of earlier runs.
        steps: mean seconds of the measured steps of finished cells, for results without ``status.json``.
    """
    status = read_status(out) or {}
    found = {
        title: {kind: seconds / units for kind, (units, seconds) in kinds.items() if units > 0}
        for title, kinds in status.get("timings", {}).items()
    }
    hosts = {name: host.get("peak_bytes") or 0 for name, host in status.get("hosts", {}).items()}
    peak_host = max(hosts, key=hosts.__getitem__, default="")
    cells, whole = found.get("cells", {}), True
    if not cells:
        cells, whole = {kind_name(kind): seconds for kind, seconds in steps.items()}, False
    return Timings(
        cells,
        found.get("FP32 models", {}),
        whole,
        "from earlier runs here" if whole else "from the steps that finished cells measured",
        hosts.get(peak_host) or None,
        peak_host,
    )


def estimate(
    plan: Plan, to_train: Sequence[PlannedModel], timings: Timings, workers: int
) -> list[tuple[str, str]]:
    """Estimate the time and the memory that a plan would take.

    Args:
        plan: the plan.
        to_train: the FP32 models that are missing.
        timings: what earlier runs measured.
        workers: number of trials that run at the same time, on one core each.

    Returns:
        Lines, each a heading and a text.
    """
    if not plan.trials:
        return [("estimate", "nothing to do")]
    cells = total_seconds({kind_name(kind): count for kind, count in plan.kinds.items()}, timings.cells)
    training = total_seconds(Counter(spec.kind for spec in to_train), timings.training)
    models = f"the training of {len(to_train)} FP32 models"
    if cells is None:
        also = f", and {models}" if to_train else ""
        text = f"unknown until some cells are finished{also}: run a few with --samples N first"
        return [("estimate", text)]
    if training is None:
        text = f"at least {format_duration(cells / workers)}, and {models}"
    else:
        least = "about" if timings.whole else "at least"
        share = f", {format_duration(training / workers)} of it {models}" if to_train else ""
        text = f"{least} {format_duration((cells + training) / workers)}{share}"
    return [("estimate", f"{text} ({timings.source})"), ("memory", _memory(timings, workers))]


def total_seconds(counts: Mapping[str, int], seconds: Mapping[str, float]) -> float | None:
    """Sum up the seconds of the given counts; a kind that was never run takes the mean of the others."""
    if not counts:
        return 0.0
    if not seconds:
        return None
    mean = sum(seconds.values()) / len(seconds)
    return sum(count * seconds.get(kind, mean) for kind, count in counts.items())


def _memory(timings: Timings, workers: int) -> str:
    if timings.peak_bytes is None:
        return "unknown until a worker was measured"
    each = timings.peak_bytes / GIB
    where = f" on {timings.peak_host}" if timings.peak_host else ""
    return f"{each:.1f} GiB a worker, {workers * each:.1f} GiB for {workers} (the highest peak seen{where})"
