"""The graph of a trained classifier, with its quantizers off and on: the parts that the models share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch
from lstmptq.quantization.lstm import Encoder, QuantizedEncoder, Recorder
from lstmptq.quantization.observe import LAYER_QUANTIZERS, Observation
from lstmptq.quantization.quantizer import Quantizer, quantize_bias, weight_quantizer
from lstmptq.spec.specs import OUTPUT_LAYER, QuantizationSpec


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """One weight tensor before and after quantization; parts that share a scale are one tensor."""

    name: str
    original: Tensor  # float
    quantized: Tensor  # on the grid of `quantizer`
    quantizer: Quantizer
    is_output_layer: bool = False  # weight correction can change it
    parts: tuple[tuple[str, slice], ...] = ()  # columns that read different inputs, by name


class OutputLayer:
    """The last linear layer in float32."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.bias: Tensor | None = None if layer.bias is None else layer.bias.detach()

    def quantize_input(self, values: Tensor) -> Tensor:
        """Return `values` unchanged: the layer's input has no quantizer."""
        return values

    def clipped(self, values: Tensor) -> Tensor | None:
        """Return where the input's quantizer clips `values`; None without one."""
        del values
        return None

    def logits(self, inputs: Tensor) -> Tensor:
        """Return (rows, out features) of (rows, in features) inputs on their grid."""
        products = inputs @ self.weight.t()
        return products if self.bias is None else products + self.bias


class QuantizedOutputLayer(OutputLayer):
    """The last linear layer on quantized weights and inputs.

    Args:
        layer: the float layer.
        statistic: 0-dim, of the layer's input.
        bits: width of the weight and of the input.
    """

    def __init__(self, layer: nn.Linear, statistic: Tensor, bits: int) -> None:
        super().__init__(layer)
        self.input_quantizer = Quantizer.from_statistic(statistic.to(self.weight.device), bits)
        self.weight_quantizer = weight_quantizer(self.weight, bits=bits)
        if self.bias is not None:
            self.bias = quantize_bias(self.bias, self.input_quantizer.scale, self.weight_quantizer.scale)
        self.set_weight(self.weight)

    def set_weight(self, weight: Tensor) -> None:
        """Quantize a (corrected) float weight; its scale stays that of the original weight."""
        self.weight = self.weight_quantizer(weight)

    def quantize_input(self, values: Tensor) -> Tensor:
        """See :class:`OutputLayer`."""
        return self.input_quantizer(values)

    def clipped(self, values: Tensor) -> Tensor:
        """See :class:`OutputLayer`."""
        return self.input_quantizer.clipped(values)


class FloatGraph(Classifier):
    """The graph of a trained model with every quantizer off; the float model must agree with it.

    Attributes:
        output_stage: the name under which the output layer's input is recorded.
    """

    output_stage: ClassVar[str]

    def __init__(self, model: Any) -> None:
        self.model = model
        self.encoder = Encoder(model.embedding.weight, model.lstm)
        self.output_layer = OutputLayer(model.output_layer)

    def record(self, batch: Batch, record: Recorder) -> None:
        """Run `batch` and pass every stage's values to `record`.

        They are (real tokens, features), or (batch, features) for a stage without time, with a bool of the
        same shape that says where the stage's quantizer clipped, or None. See :data:`Recorder` for calls
        without values.
        """
        raise NotImplementedError

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """Return the inputs that weight correction fits the output layer to, (rows, in features).

        Args:
            batch: documents of the calibration set.
            labels: (batch,) the label that each document is decoded under; the generative model reads it.
        """
        raise NotImplementedError

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """Return the quantizer on whose grid each recorded stage lies; a stage without one is not listed."""
        return self.encoder.stage_quantizers()

    def fixed_activations(self) -> dict[str, tuple[Tensor, Quantizer]]:
        """Return, by name, the quantized activations that no document changes, before their quantizer."""
        return {}


class QuantizedClassifier(FloatGraph):
    """The same graph on quantized weights and activations.

    Args:
        model: the trained float model.
        spec: its bits, internal bits and isolated stage are read.
        observation: calibration statistics.
    """

    encoder: QuantizedEncoder
    output_layer: QuantizedOutputLayer

    def __init__(self, model: Any, spec: QuantizationSpec, observation: Observation) -> None:
        super().__init__(model)
        self.output_layer_bits = spec.isolation.width(OUTPUT_LAYER, spec.bits)
        self.encoder = QuantizedEncoder(model.embedding.weight, model.lstm, spec, observation)
        self.output_layer = QuantizedOutputLayer(
            model.output_layer, observation.statistics["head.input"], self.output_layer_bits
        )

    def output_layer_parts(self) -> tuple[tuple[str, slice], ...]:
        """Return the columns of the output layer that read different inputs; none if all read the same."""
        return ()

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """See :class:`FloatGraph`."""
        return super().stage_quantizers() | {self.output_stage: self.output_layer.input_quantizer}

    def activation_quantizers(self) -> int:
        """Count the activation quantizers; io and cell state serve all layers."""
        first = self.encoder.layers[0].quantizers
        separate = first["input"] is not first["io"]
        return 3 + separate + len(LAYER_QUANTIZERS) * len(self.encoder.layers)

    def quantized_weights(self) -> Iterator[QuantizedWeight]:
        """Yield every weight tensor with its quantizer; an LSTM gate joins its input and hidden parts."""
        model = self.model
        yield QuantizedWeight(
            "embedding.weight", model.embedding.weight.detach(), self.encoder.vectors,
            self.encoder.embedding_quantizer,
        )  # fmt: skip
        for layer in self.encoder.layers:
            yield from _gate_weights(model.lstm, layer.number, layer.weight_quantizers)
        name = next(n for n, m in model.named_modules() if m is model.output_layer)
        yield QuantizedWeight(
            f"{name}.weight", model.output_layer.weight.detach(), self.output_layer.weight,
            self.output_layer.weight_quantizer, is_output_layer=True, parts=self.output_layer_parts(),
        )  # fmt: skip


def record_real(record: Recorder, mask: Tensor) -> Recorder:
    """Return a recorder of (batch, time, features) that passes on real tokens only."""

    def select(stage: str, values: Tensor | None, clipped: Tensor | None) -> None:
        real = None if values is None else values[mask]
        record(stage, real, None if clipped is None else clipped[mask])

    return select


def _gate_weights(lstm: nn.LSTM, number: int, quantizers: list[Quantizer]) -> Iterator[QuantizedWeight]:
    joint = torch.cat([getattr(lstm, f"weight_{kind}_l{number}").detach() for kind in ("ih", "hh")], dim=1)
    input_gate, forget, cell, output = joint.chunk(4)
    gates = {"input": input_gate, "forget": forget, "output": output, "cell": cell}
    for (gate, weight), quantizer in zip(gates.items(), quantizers, strict=True):
        yield QuantizedWeight(f"lstm.{number}.{gate}_gate.weight", weight, quantizer(weight), quantizer)


def quantized_bytes(classifier: QuantizedClassifier) -> int:
    """Count the bytes of the model: packed weights, 32-bit biases, one 32-bit scale per quantizer."""
    weights = list(classifier.quantized_weights())
    packed = sum(-(-weight.original.numel() * weight.quantizer.bits // 8) for weight in weights)
    biases = sum(4 * layer.hidden for layer in classifier.encoder.layers)  # torch's two are summed
    biases += 0 if classifier.output_layer.bias is None else classifier.output_layer.bias.numel()
    return packed + 4 * (biases + len(weights) + classifier.activation_quantizers())
