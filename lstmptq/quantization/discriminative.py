"""The discriminative classifier on quantized weights and activations."""

from __future__ import annotations

from torch import Tensor

from lstmptq.models.batches import Batch
from lstmptq.models.discriminative import DiscriminativeClassifier, pool
from lstmptq.quantization.classifier import QuantizedClassifier, masked
from lstmptq.quantization.lstm import Recorder
from lstmptq.quantization.quantizer import Quantizer, quantize_bias


class QuantizedDiscriminative(QuantizedClassifier):
    """See :class:`QuantizedClassifier`."""

    model: DiscriminativeClassifier

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(y | x)."""
        return self.logits(self.head_inputs(batch, batch.labels)).log_softmax(dim=1)

    def head_inputs(self, batch: Batch, labels: Tensor) -> Tensor:  # noqa: ARG002
        """(batch, hidden) pooled states, on the grid of the classifier's input; labels play no part."""
        return self._quantize_input(self._pooled(batch))

    def logits(self, head_input: Tensor) -> Tensor:
        """(batch, hidden) quantized pooled states to (batch, classes)."""
        bias = self.model.classifier.bias.detach()
        if self.head_input is not None and self.head_quantizer is not None:
            bias = quantize_bias(bias, self.head_input.scale, self.head_quantizer.scale)
        return head_input @ self.head_weight.t() + bias

    def record(self, batch: Batch, record: Recorder) -> None:
        """See :class:`QuantizedClassifier`."""
        pooled = self._pooled(batch, masked(record, batch.mask))
        head_input = self._quantize_input(pooled)
        record("pooled", head_input, self.head_input.clipped(pooled) if self.head_input else None)
        record("logits", self.logits(head_input), None)

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """See :class:`QuantizedClassifier`."""
        found = self.encoder.stage_quantizers()
        return found | {"pooled": self.head_input} if self.head_input else found

    def _pooled(self, batch: Batch, record: Recorder | None = None) -> Tensor:
        states = self.encoder.hidden_states(batch.tokens, record)
        return pool(states, batch.lengths, batch.mask, self.model.pooling)

    def _quantize_input(self, pooled: Tensor) -> Tensor:
        return self.head_input(pooled) if self.head_input else pooled
