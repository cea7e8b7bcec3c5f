"""From a cell to the model that is evaluated and measured, whatever its kind and method."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lstmptq.artifacts import Artifacts
from lstmptq.companion.bert import quiet
from lstmptq.companion.bert_assets import BertAssets
from lstmptq.companion.cells import CompanionCell, Training
from lstmptq.companion.methods import METHOD_TABLE
from lstmptq.companion.prepared import Prepared
from lstmptq.model_assets import ModelAssets
from lstmptq.models.training import OnEpoch

Assets = ModelAssets | BertAssets


def make_assets(spec: Any, artifacts: Artifacts) -> Assets:
    """Make the assets of the FP32 model `spec`."""
    return BertAssets(spec, artifacts) if spec.kind == "bert" else ModelAssets(spec, artifacts)


def train(assets: Assets, training: Training, on_epoch: OnEpoch | None = None) -> Path:
    """Run `training`, or find it: a directory with ``model.safetensors`` and ``card.json``."""
    if training.regime == "fp32":
        return assets.train_model(on_epoch)
    run = _find_function(METHOD_TABLE[training.kind][training.regime].train)
    return assets.artifacts.get_or_build(
        *training.training, lambda path: run(assets, training, path, on_epoch)
    )


def prepare(assets: Assets, cell: CompanionCell) -> Prepared:
    """Make the model of `cell` ready to evaluate."""
    run = _find_function(METHOD_TABLE[cell.model.kind][cell.method].prepare)
    prepared: Prepared = run(assets, cell, train(assets, cell.model))
    return prepared


def bring(assets: Assets, cell: CompanionCell) -> None:
    """Find or build all artifacts that measuring `cell` beside its FP32 model reads."""
    train(assets, cell.model)
    assets.bring(cell.quantization if cell.method == "static_ptq" else None)


def import_libraries(assets: Assets, cell: CompanionCell) -> None:
    """Import the modules that preparing `cell` needs: they are no part of a model's memory."""
    assets.import_libraries()
    method = METHOD_TABLE[cell.model.kind][cell.method]
    modules = [*method.modules, *method.libraries.get(cell.asked_of or "", ())]
    if modules:
        with quiet():
            for name in modules:
                import_module(name)


def _find_function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = resolve_name(f"{__package__}.{name}")
    return found
