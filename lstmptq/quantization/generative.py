"""The graph of the generative classifier, with its quantizers off and on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from lstmptq.models.base import sum_by_document
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.models.scoring import LabelScorer, Steps
from lstmptq.quantization.classifier import FloatGraph, QuantizedClassifier, QuantizedWeight, record_real
from lstmptq.quantization.lstm import Recorder
from lstmptq.quantization.observe import Observation
from lstmptq.quantization.quantizer import Quantizer, weight_quantizer
from lstmptq.spec.specs import QuantizationSpec


class GenerativeGraph(FloatGraph):
    """See :class:`FloatGraph`. The weights are final once it scores."""

    model: GenerativeClassifier
    output_stage = "decoder_input"
    steps: Steps | None = None  # of a quantized decoder

    def __init__(self, model: GenerativeClassifier) -> None:
        super().__init__(model)
        self.label_vectors = model.label_embedding.weight.detach()

    @cached_property
    def scorer(self) -> LabelScorer:
        """The decoder, ready to score tokens."""
        return LabelScorer(self._state_columns(), self._label_logits(), self.steps)

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes): log p(x | y) + log p(y), nats."""
        inputs, targets, mask = language_model_pair(batch)
        states = self.output_layer.quantize_input(self.encoder.hidden_states(inputs)[mask])
        tokens = self.scorer.log_likelihood(states, targets[mask])
        return sum_by_document(tokens, mask) + self.model.log_prior

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """See :class:`FloatGraph`: (real tokens, hidden + label width)."""
        inputs, _, mask = language_model_pair(batch)
        states = self.encoder.hidden_states(inputs)[mask]
        label_vectors = self.label_vectors[labels].repeat_interleave(batch.lengths + 1, dim=0)
        return self.output_layer.quantize_input(torch.cat([states, label_vectors], dim=1))

    def record(self, batch: Batch, record: Recorder) -> None:
        """See :class:`FloatGraph`.

        `decoder_input` is the hidden state's part; `logits` is the next word's logit under each label.
        """
        inputs, targets, mask = language_model_pair(batch)
        states = self.encoder.hidden_states(inputs, record_real(record, mask))[mask]
        clipped = self.output_layer.clipped(states)
        states = self.output_layer.quantize_input(states)
        record(self.output_stage, states, clipped)
        own = (states * self._state_columns()[targets[mask]]).sum(dim=1, keepdim=True)
        record("logits", own + self._label_logits().t()[targets[mask]], None)

    def _state_columns(self) -> Tensor:
        return self.output_layer.weight[:, : self.model.lstm.hidden_size]

    def _label_logits(self) -> Tensor:
        columns = self.output_layer.weight[:, self.model.lstm.hidden_size :]
        return self.output_layer.quantize_input(self.label_vectors) @ columns.t()


class QuantizedGenerative(QuantizedClassifier, GenerativeGraph):
    """See :class:`QuantizedClassifier`.

    The decoder reads [h_t ; v_y] through one quantizer. Both parts share its scale, so splitting the product
    into one per token and one per label stays exact.
    """

    def __init__(self, model: GenerativeClassifier, spec: QuantizationSpec, observation: Observation) -> None:
        super().__init__(model, spec, observation)
        self.label_quantizer = weight_quantizer(self.label_vectors, bits=self.output_layer_bits)
        self.label_vectors = self.label_quantizer(self.label_vectors)
        self.steps = Steps(self.output_layer.input_quantizer.scale, self.output_layer.weight_quantizer.scale)

    def output_layer_parts(self) -> tuple[tuple[str, slice], ...]:
        """Return the decoder's columns for h_t and those for the label's vector."""
        width = self.model.lstm.hidden_size
        return ("hidden", slice(None, width)), ("label", slice(width, None))

    def fixed_activations(self) -> dict[str, tuple[Tensor, Quantizer]]:
        """See :class:`FloatGraph`: the label vectors, the same part of the decoder's input at every token."""
        return {"decoder_input.label": (self.label_vectors, self.output_layer.input_quantizer)}

    def quantized_weights(self) -> Iterator[QuantizedWeight]:
        """See :class:`QuantizedClassifier`."""
        yield from super().quantized_weights()
        original = self.model.label_embedding.weight.detach()
        yield QuantizedWeight("label_embedding.weight", original, self.label_vectors, self.label_quantizer)
