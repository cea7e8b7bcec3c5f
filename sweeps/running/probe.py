"""A short measurement of what cells and training take, in a process of its own, which keeps nothing."""

from __future__ import annotations

import multiprocessing
import os
import platform
import queue
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstmptq.artifacts import Artifacts
from lstmptq.runtime.kernel import VARIABLE
from lstmptq.spec.cells import ModelSpec
from sweeps.planning.plan import Plan, kind_of
from sweeps.planning.study import Work
from sweeps.running.estimate import Timings, mean_seconds
from sweeps.running.session import THREADS
from sweeps.running.workers import peak_bytes

EPOCHS = 2  # the second shows what an epoch takes, the first what comes before it


def run_probe(plan: Plan, seconds: float, device: str, kernel: str, work: Work | None = None) -> Timings:
    """Train a model of each kind for two epochs, and run a baseline cell and cells of one trial on it.

    Args:
        plan: what is going to be run; its first models and trials are taken.
        seconds: when to stop, shared evenly among the kinds of models; what was not reached is not known.
        device: where to compute.
        kernel: as of the sweep.
        work: the functions that do the work; None takes the study's.

    Returns:
        What was measured, on this machine.
    """
    models: dict[str, list[tuple[Any, ...]]] = {}
    for trial in plan.trials:
        trials = models.setdefault(trial[0].model.kind, [])
        if kind_of(trial[0]) not in {kind_of(other[0]) for other in trials}:
            trials.append(trial)
    training: dict[str, list[float]] = defaultdict(list)
    cells: dict[tuple[str, bool], list[float]] = defaultdict(list)
    peak = 0
    for trials in models.values():
        for name, *found in _probe_model(trials, seconds / len(models), device, kernel, work or Work()):
            if name == "training":
                training[found[0]].append(found[1])
            elif name == "cell":
                cells[found[0]].append(found[1])
            else:
                peak = max(peak, found[0])
    count = sum(map(len, cells.values()))
    source = f"from a probe of {count} cells on this machine"
    return Timings(
        mean_seconds(cells),
        mean_seconds(training),
        True,
        source,
        peak or None,
        platform.node() if peak else "",
    )


def _probe_model(
    trials: Sequence[tuple[Any, ...]], seconds: float, device: str, kernel: str, work: Work
) -> list[tuple[Any, ...]]:
    """What a process reports until its time is over."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    found: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory(prefix="probe-", ignore_cleanup_errors=True) as folder:
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(THREADS)  # before its libraries start: as the workers, it has one thread
        process = context.Process(
            target=_measure, args=(trials, Path(folder), device, kernel, work, reports), daemon=True
        )
        process.start()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                report = reports.get(timeout=left)
                if report is None:
                    break
                found.append(report)
        except queue.Empty:
            pass
        finally:
            process.kill()
            process.join()
    return found


def _measure(
    trials: Sequence[tuple[Any, ...]],
    folder: Path,
    device: str,
    kernel: str,
    work: Work,
    reports: multiprocessing.Queue[Any],
) -> None:
    """Report ("training", model, seconds), ("cell", kind, seconds) and ("peak", bytes), then None."""
    import torch

    torch.set_num_threads(1)
    if kernel != "auto":
        os.environ[VARIABLE] = kernel
    try:
        artifacts, spec = Artifacts(folder), trials[0][0].model
        short = replace(spec, epochs=EPOCHS, checkpoint=None)
        ends: list[float] = []
        started = time.monotonic()

        def on_epoch(epoch: int, epochs: int, accuracy: float) -> None:
            del epoch, epochs, accuracy
            ends.append(time.monotonic())

        work.train(short, artifacts, device=device, on_epoch=on_epoch)
        if len(ends) == EPOCHS:
            more = _epochs(spec) - EPOCHS
            reports.put(("training", spec.kind, ends[-1] - started + more * (ends[-1] - ends[-2])))
        reports.put(("peak", peak_bytes() or 0))
        for trial in sorted(trials, key=lambda trial: trial[0].bits is not None):  # the short ones first
            before = time.monotonic()
            for finished in work.run(
                [replace(cell, model=short) for cell in trial], artifacts, device=device
            ):
                now = time.monotonic()
                if finished.row["status"] == "ok":
                    reports.put(("cell", kind_of(trial[0]), now - before))
                    reports.put(("peak", peak_bytes() or 0))
                before = now
    finally:
        reports.put(None)


def _epochs(spec: ModelSpec) -> int:
    """The length of the model's training run."""
    from lstmptq.models.training import recipe_for

    return recipe_for(spec).epochs
