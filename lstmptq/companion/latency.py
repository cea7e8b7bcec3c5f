"""Latency, memory and the kernels that ran, of one cell in a process of its own.

The process is new because the peak memory of an older one includes what ran in it before. The cell's model
and the FP32 model take turns, document by document: whatever else the machine does slows both, so their ratio
is more reliable than two times taken minutes apart.

``python -m lstmptq.companion.latency`` reads its cell from the environment; only this module calls it.
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
from lstmptq.companion.methods import METHOD_TABLE
from lstmptq.companion.preparation import bring, import_libraries, make_assets, prepare
from lstmptq.companion.stored import list_levels, list_tensors, measure_file
from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch, make_batch
from lstmptq.text.vocabulary import EncodedCorpus

BATCHES = (1, 64)
FEWEST_REPEATS = 5
_PAYLOAD = "LSTMPTQ_MEASURED_CELL"
_MARK = "measured:"


class MeasuringError(RuntimeError):
    """The process that measures a cell failed; the text is its last line."""


def measure_apart(cell: CompanionCell, artifacts: Artifacts) -> dict[str, Any]:
    """Run :func:`measure` in a new process.

    Raises:
        MeasuringError: if that process fails.
    """
    bring(make_assets(cell.reference, artifacts), cell)
    # the directory alone: a client belongs to the process that has it, for instance an actor of Ray
    local = Artifacts(artifacts.root.absolute())
    threads = str(cell.timing.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # absolute, since the new process runs in another directory
    imported_from = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONPATH": imported_from}
    # pickled by this program for itself: no file is unpickled
    environment[_PAYLOAD] = base64.b64encode(pickle.dumps((cell, local))).decode()
    run = subprocess.run(
        [sys.executable, "-m", "lstmptq.companion.latency"],
        env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if line.startswith(_MARK)]
    if run.returncode or not lines:
        said = (run.stderr.strip() or run.stdout.strip() or "nothing").splitlines()[-1]
        problem = MeasuringError(f"measuring ended with code {run.returncode}: {said}")
        problem.add_note(run.stderr)  # for the cell's log: the traceback of that process
        raise problem
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
    return found


@torch.no_grad()
def measure(cell: CompanionCell, artifacts: Artifacts) -> dict[str, Any]:
    """Measure the columns of a `cells` row on size, memory, kernel and latency.

    Call it in a process that has not loaded a model yet.
    """
    torch.set_num_threads(cell.timing.threads)
    assets = make_assets(cell.reference, artifacts)
    documents = assets.documents(cell.limit)
    import_libraries(assets, cell)
    before = resident_bytes()
    classifier = prepare(assets, cell).classifier
    del assets  # it may hold the float model
    is_simulated = METHOD_TABLE[cell.model.kind][cell.method].quantization is not None
    # measured before it runs: some kernels lay out their weights anew
    size = measure_file(list_levels(classifier) if is_simulated else list_tensors(classifier))
    batches = {count: draw(documents, count, cell.timing.repeats) for count in BATCHES}
    release_memory()
    can_reset = reset_peak()
    classifier = classifier.evaluator()
    classifier.class_scores(batches[64][0])
    columns = {
        "stored_bytes": size,
        "peak_memory_bytes": peak_bytes() - before if can_reset else None,
        "threads": torch.get_num_threads(),
        **kernel_columns(classifier, [batches[1][0], batches[64][0]]),
    }
    float_model = None
    if cell.method != "fp32":
        reference = make_assets(cell.reference, artifacts)
        float_model = prepare(reference, CompanionCell(cell.float_training)).classifier.evaluator()
    for batch_size, drawn in batches.items():
        repeats = cell.timing.repeats
        if batch_size > 1:
            repeats = max(FEWEST_REPEATS, repeats // 5)
        drawn = [drawn[number % len(drawn)] for number in range(repeats)]
        columns |= latency_columns(batch_size, classifier, float_model, drawn, cell.timing.warmup)
    return columns


def draw(documents: EncodedCorpus, size: int, repeats: int) -> list[Batch]:
    """Draw batches of `size` documents in their order, starting again where the corpus ends.

    There are `repeats` batches of one document, or one larger batch.
    """
    count = repeats if size == 1 else 1
    index = np.arange(count * size) % len(documents)
    return [make_batch(documents, part) for part in index.reshape(count, size)]


def latency_columns(
    size: int, classifier: Classifier, float_model: Classifier | None, batches: Sequence[Batch], warmup: int
) -> dict[str, Any]:
    """Measure the median and the quartiles of the time of a batch, ms, and the speed-up over FP32.

    Args:
        size: documents per batch; part of the names of the columns.
        classifier: the model to measure.
        float_model: the FP32 model, which takes turns; None: `classifier` is the FP32 model.
        batches: one per counted pass.
        warmup: earlier passes that are not counted.
    """
    models = [classifier] if float_model is None else [classifier, float_model]
    for number in range(warmup):
        for model in models:
            model.class_scores(batches[number % len(batches)])
    times = np.empty((len(batches), len(models)))
    gc.disable()
    try:
        for row, batch in zip(times, batches, strict=True):
            for column, model in enumerate(models):
                started = time.perf_counter()
                model.class_scores(batch)
                row[column] = 1e3 * (time.perf_counter() - started)
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
    """Return the memory of this process that is in RAM."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the largest amount that was in RAM since :func:`reset_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def reset_peak() -> bool:
    """Reset the peak; return False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def release_memory() -> None:
    """Return freed memory to the system, where it would otherwise count as the model's."""
    gc.collect()
    with suppress(OSError, AttributeError):  # with another C library the peak is an upper bound
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    """Measure the cell in the environment and print its columns."""
    cell, artifacts = pickle.loads(base64.b64decode(os.environ[_PAYLOAD]))
    print(_MARK + json.dumps(measure(cell, artifacts)))


if __name__ == "__main__":
    main()
