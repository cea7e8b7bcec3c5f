"""Latency, memory and the kernels that ran, of one cell in a process of its own.

A new process, because peak memory means nothing beside what ran before in the same one. The cell's model and
the FP32 model take turns, document by document, so that whatever else the machine does at a moment slows
both, and their ratio says more than two times taken minutes apart.

``python -m lstmptq.companion.latency`` reads what to measure from its parent; nobody else calls it.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import CompanionCell
from lstmptq.companion.kernels import kernel_columns
from lstmptq.companion.methods import Companion
from lstmptq.companion.stored import stored_bytes
from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch, make_batch
from lstmptq.text.vocabulary import EncodedCorpus

BATCHES = (1, 64)
FEWEST_REPEATS = 5
_PAYLOAD = "LSTMPTQ_MEASURED_CELL"
_MARK = "measured:"


class MeasuringError(RuntimeError):
    """The process that measures a cell did not end well; the text is what it said last."""


def measure_apart(cell: CompanionCell, artifacts: Artifacts) -> dict[str, Any]:
    """:func:`measure` in a new process.

    Raises:
        MeasuringError: if that process fails.
    """
    local = _made_local(cell, artifacts)
    threads = str(cell.timing.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    imported_from = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # its directory is another
    environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONPATH": imported_from}
    # of this program, for this program: no file is unpickled
    environment[_PAYLOAD] = base64.b64encode(pickle.dumps((cell, local))).decode()
    run = subprocess.run(
        [sys.executable, "-m", "lstmptq.companion.latency"],
        env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if line.startswith(_MARK)]
    if run.returncode or not lines:
        said = (run.stderr.strip() or run.stdout.strip() or "nothing").splitlines()[-1]
        problem = MeasuringError(f"measuring ended with code {run.returncode}: {said}")
        problem.add_note(run.stderr)  # for the cell's log: where in that process
        raise problem
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
    return found


def _made_local(cell: CompanionCell, artifacts: Artifacts) -> Artifacts:
    """What `cell` needs of `artifacts`, there or built, so that a process finds it in their directory alone.

    A client belongs to the process that has it: to an actor of Ray, for instance.
    """
    Companion(cell.reference, artifacts).bring(cell)
    return Artifacts(artifacts.root.absolute())


@torch.no_grad()
def measure(cell: CompanionCell, artifacts: Artifacts) -> dict[str, Any]:
    """The columns of a `cells` row on size, memory, kernel and latency.

    Call it in a process that has not loaded a model yet.
    """
    torch.set_num_threads(cell.timing.threads)
    companion = Companion(cell.reference, artifacts)
    documents = companion.documents(cell.limit)
    companion.import_libraries(cell)  # they are no part of the model
    before = resident_bytes()
    classifier = companion.prepare(cell).classifier
    del companion  # it may hold the float model
    size = stored_bytes(classifier)  # before it runs: some kernels lay out their weights anew
    batches = {count: draw(documents, count, cell.timing.repeats) for count in BATCHES}
    release_memory()
    can_reset = reset_peak()
    classifier.class_scores(batches[64][0])
    columns = {
        "stored_bytes": size,
        "peak_memory_bytes": peak_bytes() - before if can_reset else None,
        "threads": torch.get_num_threads(),
        **kernel_columns(classifier, [batches[1][0], batches[64][0]]),
    }
    float_model = None
    if cell.method != "fp32":
        reference = Companion(cell.reference, artifacts)
        float_model = reference.prepare(CompanionCell(cell.float_training)).classifier
    for batch_size, drawn in batches.items():
        repeats = cell.timing.repeats
        if batch_size > 1:
            repeats = max(FEWEST_REPEATS, repeats // 5)
        drawn = [drawn[number % len(drawn)] for number in range(repeats)]
        columns |= latency_columns(batch_size, classifier, float_model, drawn, cell.timing.warmup)
    return columns


def draw(documents: EncodedCorpus, size: int, repeats: int) -> list[Batch]:
    """Batches of `size` documents in their order, one a repeat; a corpus that is too small starts again."""
    count = repeats if size == 1 else 1
    places = np.arange(count * size) % len(documents)
    return [make_batch(documents, part) for part in places.reshape(count, size)]


def latency_columns(
    size: int, classifier: Classifier, float_model: Classifier | None, batches: Sequence[Batch], warmup: int
) -> dict[str, Any]:
    """Median and quartiles of the time of a batch, ms, and how many times faster than FP32 it is.

    Args:
        size: documents in a batch; part of the columns' names.
        classifier: what is measured.
        float_model: the FP32 model, which takes turns; None: `classifier` is it.
        batches: one a pass.
        warmup: passes before that do not count.
    """
    models = [classifier] if float_model is None else [classifier, float_model]
    for number in range(warmup):
        for model in models:
            model.class_scores(batches[number % len(batches)])
    times = np.empty((len(batches), len(models)))
    gc.disable()
    try:
        for row, batch in zip(times, batches, strict=True):
            for place, model in enumerate(models):
                started = time.perf_counter()
                model.class_scores(batch)
                row[place] = 1e3 * (time.perf_counter() - started)
    finally:
        gc.enable()
    low, median, high = np.percentile(times[:, 0], (25, 50, 75)).tolist()
    return {
        f"latency_{size}_ms": median,
        f"latency_{size}_low_ms": low,
        f"latency_{size}_high_ms": high,
        f"speedup_{size}": float(np.median(times[:, -1] / times[:, 0])),
    }


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that was in RAM since :func:`reset_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def reset_peak() -> bool:
    """Let the peak start anew; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def release_memory() -> None:
    """Give back what was freed, or it would count as the model's."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library: the peak is then an upper bound
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    """Measure what the environment says and print it."""
    cell, artifacts = pickle.loads(base64.b64decode(os.environ[_PAYLOAD]))
    print(_MARK + json.dumps(measure(cell, artifacts)))


if __name__ == "__main__":
    main()
