"""The generative classifier on quantized weights and activations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from lstmptq.models.base import sum_by_document
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.models.scoring import LabelScorer, Steps
from lstmptq.quantization.classifier import QuantizedClassifier, QuantizedWeight, masked
from lstmptq.quantization.lstm import NOTHING, Recorder
from lstmptq.quantization.observe import Observation
from lstmptq.quantization.quantizer import Quantizer, weight_quantizer
from lstmptq.spec.specs import Isolation


class QuantizedGenerative(QuantizedClassifier):
    """See :class:`QuantizedClassifier`.

    The decoder reads [h_t ; v_y] through one quantizer. Both parts share its scale, so that splitting the
    product into one per token and one per label stays exact.
    """

    model: GenerativeClassifier

    def __init__(
        self,
        model: GenerativeClassifier,
        bits: int | None,
        internal_bits: int = 8,
        observation: Observation | None = None,
        kernel: str = "auto",
        isolation: Isolation = NOTHING,
    ) -> None:
        super().__init__(model, bits, internal_bits, observation, kernel, isolation)
        self.kernel = kernel
        self.label_vectors = model.label_embedding.weight.detach()
        self.label_quantizer: Quantizer | None = None
        if bits is not None:
            self.label_quantizer = weight_quantizer(self.label_vectors, bits=isolation.width("head", bits))
            self.label_vectors = self.label_quantizer(self.label_vectors)

    def set_head_weight(self, weight: Tensor) -> None:
        """See :class:`QuantizedClassifier`."""
        super().set_head_weight(weight)
        self.__dict__.pop("scorer", None)  # of the weight before

    @cached_property
    def scorer(self) -> LabelScorer:
        """The quantized decoder, ready to score tokens."""
        steps = None
        if self.head_input is not None and self.head_quantizer is not None:
            steps = Steps(self.head_input.scale, self.head_quantizer.scale)
        return LabelScorer(self._state_columns(), self._label_logits(), steps, self.kernel)

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(x | y) + log p(y), nats."""
        inputs, targets, mask = language_model_pair(batch)
        states = self._quantize_input(self.encoder.hidden_states(inputs)[mask])
        tokens = self.scorer.log_likelihood(states, targets[mask])
        return sum_by_document(tokens, mask) + self.model.log_prior

    def head_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """(real tokens, hidden + label width), on the grid of the decoder's input."""
        inputs, _, mask = language_model_pair(batch)
        states = self.encoder.hidden_states(inputs)[mask]
        label_vectors = self.label_vectors[labels].repeat_interleave(mask.sum(dim=1), dim=0)
        return self._quantize_input(torch.cat([states, label_vectors], dim=1))

    def record(self, batch: Batch, record: Recorder) -> None:
        """See :class:`QuantizedClassifier`; `decoder_input` is the part of h_t, `logits` the next word's
        logit under each label."""
        inputs, targets, mask = language_model_pair(batch)
        states = self.encoder.hidden_states(inputs, masked(record, mask))[mask]
        clipped = self.head_input.clipped(states) if self.head_input else None
        states = self._quantize_input(states)
        record("decoder_input", states, clipped)
        own = (states * self._state_columns()[targets[mask]]).sum(dim=1, keepdim=True)
        record("logits", own + self._label_logits().t()[targets[mask]], None)

    def head_parts(self) -> tuple[tuple[str, slice], ...]:
        """The decoder's columns for h_t, and those for the label's vector."""
        width = self.model.lstm.hidden_size
        return ("hidden", slice(None, width)), ("label", slice(width, None))

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """See :class:`QuantizedClassifier`."""
        found = self.encoder.stage_quantizers()
        return found | {"decoder_input": self.head_input} if self.head_input else found

    def fixed_activations(self) -> dict[str, tuple[Tensor, Quantizer]]:
        """The label vectors, the decoder input's other part: the same for every token."""
        return {"decoder_input.label": (self.label_vectors, self.head_input)} if self.head_input else {}

    def quantized_weights(self) -> Iterator[QuantizedWeight]:
        """See :class:`QuantizedClassifier`."""
        yield from super().quantized_weights()
        assert self.label_quantizer is not None
        original = self.model.label_embedding.weight.detach()
        yield QuantizedWeight(
            "label_embedding.weight", original, self.label_vectors, self.label_quantizer, correctable=False
        )

    def _quantize_input(self, values: Tensor) -> Tensor:
        return self.head_input(values) if self.head_input else values

    def _state_columns(self) -> Tensor:
        return self.head_weight[:, : self.model.lstm.hidden_size]

    def _label_logits(self) -> Tensor:
        columns = self.head_weight[:, self.model.lstm.hidden_size :]
        return self._quantize_input(self.label_vectors) @ columns.t()
