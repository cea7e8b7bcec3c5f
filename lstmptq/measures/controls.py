"""Null controls: contrasts in which nothing differs, tested like all others.

Their tests must reject at about the nominal rate, and quantizers that are off must change nothing. The null
hypothesis holds by construction: halves and swaps are random given the data and drawn anew for each cell and
tensor, so the rejections are independent and their number is binomial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from lstmptq.measures.activations import RecordedStage, permutation_columns, quantizer_columns
from lstmptq.measures.documents import THRESHOLDS, choose_thresholds, find_row_documents, stack_curves
from lstmptq.measures.permutation import (
    CONTROL_DRAWS,
    PermutationResult,
    independent_test,
    paired_test,
    random_halves,
)
from lstmptq.measures.shift import Floats
from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch


def halves_rows(
    stages: Mapping[str, RecordedStage], documents: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the `null_halves` rows: random halves of the documents under one model, by label permutation.

    There is one row per stage; none if there is only one document.
    """
    if documents < 2:
        return []
    shares = stack_curves(
        [
            (stage.by_document, choose_thresholds(stage.distribution, stage.distribution))
            for stage in stages.values()
        ]
    )
    halves = random_halves(len(stages), documents, rng)
    tested = independent_test(shares, halves, rng, CONTROL_DRAWS)
    return _rows("null_halves", stages, documents, tested)


def swapped_rows(
    stages: Mapping[str, RecordedStage],
    curves: tuple[Floats, Floats],
    documents: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return the `null_swapped` rows: a paired contrast with arms swapped at random, by sign flips.

    Args:
        stages: the stages of the contrast's second side.
        curves: see :func:`lstmptq.measures.activations.compute_paired_curves`.
        documents: number of documents.
        rng: draws the swaps and the flips.
    """
    tested = paired_test(*curves, rng, CONTROL_DRAWS, swap_at_random=True)
    return _rows("null_swapped", stages, documents, tested)


def _rows(
    contrast: str, stages: Mapping[str, RecordedStage], documents: int, tested: PermutationResult
) -> list[dict[str, Any]]:
    return [
        {
            "tensor": name,
            "kind": "activation",
            "contrast": contrast,
            **quantizer_columns(stage.quantizer),
            "documents": documents,
            "n": stage.distribution.n,
            **permutation_columns(tested, place),
        }
        for place, (name, stage) in enumerate(stages.items())
    ]


def float_row(
    model: TrainableClassifier, batches: Iterable[Batch], stages: Mapping[str, RecordedStage]
) -> dict[str, Any]:
    """Return the `null_float` row: hidden states of the float model against its graph with quantizers off.

    Args:
        model: the trained float model.
        batches: the documents that `stages` were recorded on.
        stages: the stages of the graph with its quantizers off.

    Returns:
        A row without a p-value: D must be 0, except for values that rounding moves across a threshold.
    """
    name = f"lstm.{model.lstm.num_layers - 1}.hidden_state"
    own, graph = _hidden_states(model, batches), stages[name]
    # hidden states lie in -1..1; no threshold is -1, 0 or 1, where many states may lie exactly
    at = np.linspace(-1, 1, THRESHOLDS + 2, dtype=np.float32)[1:-1]
    gap = own.by_document.shares_below(at) - graph.by_document.shares_below(at)
    return {
        "tensor": name,
        "kind": "activation",
        "contrast": "null_float",
        **quantizer_columns(None),
        "documents": len(gap),
        "n": graph.values.size,
        "document_d": float(np.abs(gap.mean(axis=0)).max()),
    }


@torch.no_grad()
def _hidden_states(model: TrainableClassifier, batches: Iterable[Batch]) -> RecordedStage:
    values, documents = [], []
    for batch in batches:
        inputs, mask = model.lstm_inputs(batch)
        found = model.hidden_states(inputs)[mask].cpu().numpy()
        values.append(found)
        documents.append(find_row_documents(batch, len(found)))
    return RecordedStage(np.concatenate(values), np.concatenate(documents), None, None)
