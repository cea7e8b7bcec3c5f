"""Dynamic int8 PTQ: weights are quantized once, activations at every call from their own range."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.bert_assets import BertAssets, read_card
from lstmptq.companion.cells import CompanionCell
from lstmptq.companion.prepared import Prepared, prepare_timed
from lstmptq.model_assets import ModelAssets
from lstmptq.models.base import Classifier, TrainableClassifier, sum_by_document
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.models.scoring import ProductScorer


def prepare_bert(assets: BertAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the FP32 BERT from `path` and quantize it with the library of `cell`."""
    assert cell.asked_of is not None
    library = cell.asked_of
    return prepare_timed(read_card(path), lambda: dynamic_bert(assets.load(path), library))


def prepare_discriminative(assets: ModelAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Quantize the FP32 discriminative classifier; the time to load it is not counted."""
    del cell, path
    return prepare_timed(assets.card, partial(dynamic_discriminative, assets.model))


def prepare_generative(assets: ModelAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Quantize the FP32 generative classifier; the time to load it is not counted."""
    del cell, path
    return prepare_timed(assets.card, partial(DynamicGenerative, cast(GenerativeClassifier, assets.model)))


def dynamic_bert(classifier: BertClassifier, library: str, per_channel: bool = False) -> BertClassifier:
    """Return a copy of `classifier` in which every linear layer is dynamically quantized.

    Args:
        classifier: a float BERT.
        library: ``torch``: its own ``quantize_dynamic``, fused kernels of the engine in
            ``torch.backends.quantized``; ``torchao``: tensors of int8 under plain ``nn.Linear``.
        per_channel: torch only; one scale per output channel instead of one per tensor.
    """
    network = copy.deepcopy(classifier.network)
    if library == "torch":
        network = _quantize_dynamic(network, {nn.Linear}, per_channel)
    else:
        with quiet():
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            quantize_(network, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    return BertClassifier(network, classifier.pad).eval()


def _quantize_dynamic(module: nn.Module, kinds: set[type[nn.Module]], per_channel: bool = False) -> nn.Module:
    from torch.ao import quantization

    chosen: Any = kinds
    if per_channel:
        chosen = dict.fromkeys(kinds, quantization.per_channel_dynamic_qconfig)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of torchao, and still the faster one
        found: nn.Module = quantization.quantize_dynamic(module, chosen, dtype=torch.qint8)
    return found


def dynamic_discriminative(model: TrainableClassifier) -> Any:
    """Return a copy of `model` whose LSTM and output layer are dynamically quantized."""
    return _quantize_dynamic(copy.deepcopy(model), {nn.LSTM, nn.Linear}).eval()


class DynamicGenerative(nn.Module, Classifier):
    """The generative classifier on torch's dynamic int8 LSTM and linear kernels.

    The columns of the decoder that read the hidden state are one dynamic linear layer. The logits that a
    label adds are computed once, in float, from the other columns.

    Args:
        model: the trained float model, which is not changed.
    """

    label_logits: Tensor
    log_prior: Tensor

    def __init__(self, model: GenerativeClassifier) -> None:
        super().__init__()
        columns = nn.Linear(model.lstm.hidden_size, model.decoder.out_features, bias=False)
        columns.weight.data.copy_(model.state_columns().detach())
        # the whole model has layers whose weights other layers read: quantize the parts alone
        parts: Any = _quantize_dynamic(
            nn.ModuleDict({"lstm": copy.deepcopy(model.lstm), "decoder": columns}), {nn.LSTM, nn.Linear}
        )
        self.parts = parts
        self.embedding = copy.deepcopy(model.embedding)
        self.register_buffer("label_logits", model.label_logits().detach().clone())
        self.register_buffer("log_prior", model.log_prior.clone())
        self.scorer = ProductScorer(parts["decoder"], self.label_logits)

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes), log p(x | y) + log p(y), nats."""
        parts: Any = self.parts
        inputs, targets, mask = language_model_pair(batch)
        states = parts["lstm"](self.embedding(inputs))[0][mask]
        return sum_by_document(self.scorer.log_likelihood(states, targets[mask]), mask) + self.log_prior
