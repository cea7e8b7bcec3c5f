"""FP32 and static PTQ of the LSTM classifiers: the models of the main study."""

from __future__ import annotations

from pathlib import Path

from lstmptq.companion.cells import CompanionCell
from lstmptq.companion.prepared import Prepared, prepare_timed
from lstmptq.model_assets import ModelAssets
from lstmptq.models.batches import batches_by_length
from lstmptq.quantization.build import quantize


def prepare_fp32(assets: ModelAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the FP32 model."""
    del cell, path
    return Prepared(assets.model, assets.card)


def prepare_static(assets: ModelAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Quantize the FP32 model as the main study does."""
    del path
    assert cell.quantization is not None
    spec, model, card = cell.quantization, assets.model, assets.card
    calibration = assets.calibration_set(spec)
    observation, seconds = assets.observation(spec)
    return prepare_timed(
        card,
        lambda: quantize(model, spec, observation, batches_by_length(calibration)),
        observe_seconds=seconds,
        calibration_documents=len(calibration),
    )
