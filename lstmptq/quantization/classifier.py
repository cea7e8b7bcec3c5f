"""A quantized classifier as the rest of the study sees it, and the parts the two kinds share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lstmptq.models.base import Classifier, TrainableClassifier
from lstmptq.models.batches import Batch
from lstmptq.quantization.lstm import NOTHING, QuantizedEncoder, Recorder
from lstmptq.quantization.observe import LAYER_QUANTIZERS, Observation
from lstmptq.quantization.quantizer import Quantizer, weight_quantizer
from lstmptq.spec.specs import Isolation


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """One weight tensor before and after; parts that share a scale come as one."""

    name: str
    original: Tensor  # float
    quantized: Tensor  # on the grid of `quantizer`
    quantizer: Quantizer
    correctable: bool  # weight correction can change it
    parts: tuple[tuple[str, slice], ...] = ()  # columns that read different things, by name


class QuantizedClassifier(Classifier):
    """The same graph as a trained model, on quantized weights and activations.

    Args:
        model: the trained float model.
        bits: width of weights and of the last linear layer's input; None turns every quantizer off, which
            gives the float graph that the float model must agree with.
        internal_bits: width of the LSTM's own quantizers.
        observation: calibration statistics; not read when `bits` is None.
        kernel: what runs the LSTM: see :func:`lstmptq.runtime.kernel.choose_kernel`.
        isolation: the stage that has another width.
    """

    def __init__(
        self,
        model: TrainableClassifier,
        bits: int | None,
        internal_bits: int = 8,
        observation: Observation | None = None,
        kernel: str = "auto",
        isolation: Isolation = NOTHING,
    ) -> None:
        self.model = model
        self.bits = bits
        self.encoder = QuantizedEncoder(
            model.embedding.weight, model.lstm, bits, internal_bits, observation, kernel, isolation
        )
        self.head_weight = model.output_layer.weight.detach()
        self.head_quantizer: Quantizer | None = None
        self.head_input: Quantizer | None = None
        if bits is not None:
            assert observation is not None
            statistic = observation.statistics["head.input"].to(self.head_weight.device)
            width = isolation.width("head", bits)
            self.head_input = Quantizer.from_statistic(statistic, width)
            self.head_quantizer = weight_quantizer(self.head_weight, bits=width)
            self.set_head_weight(self.head_weight)

    def set_head_weight(self, weight: Tensor) -> None:
        """Take a (corrected) float weight for the last linear layer; its scale stays the original's."""
        assert self.head_quantizer is not None
        self.head_weight = self.head_quantizer(weight)

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): see :class:`lstmptq.models.base.Classifier`."""
        raise NotImplementedError

    def record(self, batch: Batch, record: Recorder) -> None:
        """Run `batch` and hand every stage's values to `record`.

        They come as (real tokens, features), or (batch, features) for a stage without time, with a bool of
        the same shape that tells where the stage's quantizer clipped, or None. See :data:`Recorder` for what
        comes without values.
        """
        raise NotImplementedError

    def head_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """(rows, in features): what weight correction fits the last linear layer to.

        Args:
            batch: documents of the calibration set.
            labels: (batch,) the label each document is decoded under; the discriminative model has none.
        """
        raise NotImplementedError

    def head_parts(self) -> tuple[tuple[str, slice], ...]:
        """Columns of the last linear layer's weight that read different things; none if all read the same."""
        return ()

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """The quantizer whose grid each recorded stage lies on; a stage without one is not listed."""
        raise NotImplementedError

    def fixed_activations(self) -> dict[str, tuple[Tensor, Quantizer]]:
        """Activations that no document changes, before their quantizer, by name; none with them off."""
        return {}

    def activation_quantizers(self) -> int:
        """How many activation quantizers the model has: io and cell state serve all layers."""
        first = self.encoder.layers[0].quantizers
        separate = first["input"] is not first["io"]
        return 3 + separate + len(LAYER_QUANTIZERS) * len(self.encoder.layers)

    def quantized_weights(self) -> Iterator[QuantizedWeight]:
        """Every weight tensor with its quantizer; LSTM gates join their input and hidden parts."""
        assert self.encoder.embedding_quantizer is not None
        assert self.head_quantizer is not None
        yield QuantizedWeight(
            "embedding.weight", self.model.embedding.weight.detach(), self.encoder.vectors,
            self.encoder.embedding_quantizer, correctable=False,
        )  # fmt: skip
        for layer in self.encoder.layers:
            yield from _gate_weights(self.model, layer.number, layer.weight_quantizers)
        name = next(n for n, m in self.model.named_modules() if m is self.model.output_layer)
        yield QuantizedWeight(
            f"{name}.weight", self.model.output_layer.weight.detach(), self.head_weight,
            self.head_quantizer, correctable=True, parts=self.head_parts(),
        )  # fmt: skip


def masked(record: Recorder, mask: Tensor) -> Recorder:
    """A recorder of (batch, time, features) that passes on real tokens only."""

    def select(stage: str, values: Tensor | None, clipped: Tensor | None) -> None:
        real = None if values is None else values[mask]
        record(stage, real, None if clipped is None else clipped[mask])

    return select


def _gate_weights(
    model: TrainableClassifier, number: int, quantizers: list[Quantizer]
) -> Iterator[QuantizedWeight]:
    joint = torch.cat(
        [getattr(model.lstm, f"weight_{kind}_l{number}").detach() for kind in ("ih", "hh")], dim=1
    )
    input_gate, forget, cell, output = joint.chunk(4)
    gates = {"input": input_gate, "forget": forget, "output": output, "cell": cell}
    for (gate, weight), quantizer in zip(gates.items(), quantizers, strict=True):
        yield QuantizedWeight(
            f"lstm.{number}.{gate}_gate.weight", weight, quantizer(weight), quantizer, correctable=False
        )


def quantized_bytes(classifier: QuantizedClassifier) -> int:
    """Bytes of the model at its bits: packed weights, 32-bit biases and one 32-bit scale a quantizer."""
    weights = list(classifier.quantized_weights())
    packed = sum(-(-weight.original.numel() * weight.quantizer.bits // 8) for weight in weights)
    head_bias = classifier.model.output_layer.bias
    biases = sum(
        4 * layer.hidden for layer in classifier.encoder.layers
    )  # one a gate: torch's two are summed
    biases += 0 if head_bias is None else head_bias.numel()
    return packed + 4 * (biases + len(weights) + classifier.activation_quantizers())
