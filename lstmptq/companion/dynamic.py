"""Dynamic int8 PTQ: weights quantized once, activations at every call from their own range."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.models.base import TrainableClassifier, select_real, sum_by_document
from lstmptq.models.batches import Batch, language_model_pair, real_tokens
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.models.scoring import ProductScorer


def dynamic_bert(classifier: BertClassifier, library: str, per_channel: bool = False) -> BertClassifier:
    """`classifier` with every linear layer dynamically quantized; the original is left as it is.

    Args:
        classifier: a float BERT.
        library: ``torch``: its own ``quantize_dynamic``, fused kernels of the engine in
            ``torch.backends.quantized``; ``torchao``: tensors of int8 under plain ``nn.Linear``.
        per_channel: torch only; a scale an output channel instead of one a tensor.
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
        warnings.simplefilter("ignore")  # it is deprecated in favour of torchao, and still the fast one
        found: nn.Module = quantization.quantize_dynamic(module, chosen, dtype=torch.qint8)
    return found


def dynamic_lstm(model: TrainableClassifier) -> Any:
    """`model` with its LSTM and its last linear layer dynamically quantized; it answers ``class_scores``."""
    if isinstance(model, GenerativeClassifier):
        return DynamicGenerative(model)
    return _quantize_dynamic(copy.deepcopy(model), {nn.LSTM, nn.Linear}).eval()


class DynamicGenerative(nn.Module):
    """The generative classifier on torch's dynamic int8 LSTM and linear kernels.

    The decoder's columns for the hidden state are one dynamic linear layer; what a label adds to the logits
    is computed once, in float, from the decoder's other columns.

    Args:
        model: the trained float model, left as it is.
    """

    label_logits: Tensor
    log_prior: Tensor

    def __init__(self, model: GenerativeClassifier) -> None:
        super().__init__()
        columns = nn.Linear(model.lstm.hidden_size, model.decoder.out_features, bias=False)
        columns.weight.data.copy_(model.state_columns().detach())
        # only the parts are quantized: the whole would meet layers whose weights others read
        parts: Any = _quantize_dynamic(
            nn.ModuleDict({"lstm": copy.deepcopy(model.lstm), "decoder": columns}), {nn.LSTM, nn.Linear}
        )
        self.parts = parts
        self.embedding = copy.deepcopy(model.embedding)
        self.register_buffer("label_logits", model.label_logits().detach().clone())
        self.register_buffer("log_prior", model.log_prior.clone())
        self.scorer = ProductScorer(parts["decoder"], self.label_logits)

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(x | y) + log p(y), nats."""
        parts: Any = self.parts
        inputs, targets, lengths = language_model_pair(batch)
        mask = real_tokens(lengths, inputs.shape[1])
        states = select_real(parts["lstm"](self.embedding(inputs))[0], mask)
        return sum_by_document(self.scorer.log_likelihood(states, targets[mask]), mask) + self.log_prior
