"""Which LSTM text classifiers survive post-training quantization, and why: the study as a library.

The names below are imported when they are first used, so that ``import lstmptq`` needs no torch::

    import polars as pl
    from lstmptq import Artifacts, Grid, run_cells

    grid = Grid.parse(models=["generative"], embeddings=["glove"], bits=["fp32", "4"], noise=["clean"])
    rows = [finished.row for finished in run_cells(grid.cells(), Artifacts("artifacts"))]
    print(pl.DataFrame(rows).select("bits", "class_ratio", "accuracy", "accuracy_drop"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmptq.artifacts import Artifacts as Artifacts
    from lstmptq.model_assets import ModelAssets as ModelAssets
    from lstmptq.results import FinishedCell as FinishedCell
    from lstmptq.spec.cells import Cell as Cell
    from lstmptq.spec.grid import Grid as Grid
    from lstmptq.spec.specs import ModelSpec as ModelSpec
    from lstmptq.spec.specs import QuantizationSpec as QuantizationSpec
    from lstmptq.text.noise import Noise as Noise
    from lstmptq.text.sources import Source as Source
    from lstmptq.trial import run_cells as run_cells
    from lstmptq.trial import run_trial as run_trial
    from lstmptq.trial import train_model as train_model

_HOMES = {
    "Artifacts": "lstmptq.artifacts",
    "Cell": "lstmptq.spec.cells",
    "FinishedCell": "lstmptq.results",
    "Grid": "lstmptq.spec.grid",
    "ModelAssets": "lstmptq.model_assets",
    "ModelSpec": "lstmptq.spec.specs",
    "Noise": "lstmptq.text.noise",
    "QuantizationSpec": "lstmptq.spec.specs",
    "Source": "lstmptq.text.sources",
    "run_cells": "lstmptq.trial",
    "run_trial": "lstmptq.trial",
    "train_model": "lstmptq.trial",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"lstmptq offers {', '.join(__all__)}; got {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
