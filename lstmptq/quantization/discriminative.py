"""The graph of the discriminative classifier, with its quantizers off and on."""

from __future__ import annotations

from torch import Tensor

from lstmptq.models.batches import Batch
from lstmptq.models.discriminative import DiscriminativeClassifier, pool
from lstmptq.quantization.classifier import FloatGraph, QuantizedClassifier, record_real
from lstmptq.quantization.lstm import Recorder


class DiscriminativeGraph(FloatGraph):
    """See :class:`FloatGraph`."""

    model: DiscriminativeClassifier
    output_stage = "pooled"

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes): log p(y | x)."""
        inputs = self.output_layer_inputs(batch, batch.labels)
        return self.output_layer.logits(inputs).log_softmax(dim=1)

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`FloatGraph`: (batch, hidden) pooled states; labels play no part."""
        return self.output_layer.quantize_input(self._pooled(batch))

    def record(self, batch: Batch, record: Recorder) -> None:
        """See :class:`FloatGraph`."""
        pooled = self._pooled(batch, record_real(record, batch.mask))
        inputs = self.output_layer.quantize_input(pooled)
        record(self.output_stage, inputs, self.output_layer.clipped(pooled))
        record("logits", self.output_layer.logits(inputs), None)

    def _pooled(self, batch: Batch, record: Recorder | None = None) -> Tensor:
        states = self.encoder.hidden_states(batch.tokens, record)
        return pool(states, batch.lengths, batch.mask, self.model.pooling)


class QuantizedDiscriminative(QuantizedClassifier, DiscriminativeGraph):
    """See :class:`QuantizedClassifier`."""
