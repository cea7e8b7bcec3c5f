"""The quantized graphs in Brevitas' own modules: they observe, and they are the oracle of the tests.

Nothing is evaluated through them: see `lstm.py` for the evaluator that equals them bit for bit.

Every model here is new: Brevitas ignores a second calibration without a word, and a forward in training
mode contaminates the first.
"""

from __future__ import annotations

import brevitas.nn as qnn
import torch
from brevitas.core.scaling import ParameterFromStatsFromParameterScaling
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Int32Bias
from torch import Tensor, nn

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.discriminative import DiscriminativeClassifier, pool
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.spec.specs import OUTPUT_LAYER, QuantizationSpec

GATES = ("input", "forget", "cell", "output")  # in the order in which torch stacks them
OUTPUT_LAYER_PERCENTILE = 99.99  # of its absolute inputs; the LSTM keeps Brevitas' 99.999


class WeightQuantizer(Int8WeightPerTensorFloat):
    """Per tensor, absolute maximum, the full range of levels."""

    narrow_range = False


class FixedWeightQuantizer(WeightQuantizer):
    """The same with the scale fixed at the first forward, so that weight correction does not move it."""

    scaling_impl = ParameterFromStatsFromParameterScaling


class OutputLayerInputQuantizer(Int8ActPerTensorFloat):
    """Per tensor, the percentile that the output layer's input has."""

    high_percentile_q = OUTPUT_LAYER_PERCENTILE


def brevitas_graph(
    model: TrainableClassifier,
    spec: QuantizationSpec,
    weight_quantizer: type[WeightQuantizer] = FixedWeightQuantizer,
) -> BrevitasClassifier:
    """Rebuild a trained model from Brevitas' modules, ready to calibrate.

    Args:
        model: the trained float model; its weights are copied.
        spec: its bits, internal bits and isolated stage are read.
        weight_quantizer: quantizer of the output layer's weight: it fixes the scale at the first forward, or
            lets it follow the weight, which training needs.
    """
    graph: BrevitasClassifier = model.kind.load("oracle")(model, spec, weight_quantizer)
    return graph.to(model.output_layer.weight.device).eval()


class BrevitasClassifier(nn.Module):
    """The parts that the models share: embedding, LSTM and output layer; see :func:`brevitas_graph`."""

    def __init__(
        self, model: TrainableClassifier, spec: QuantizationSpec, weight_quantizer: type[WeightQuantizer]
    ) -> None:
        super().__init__()
        bits, internal_bits, width = spec.bits, spec.internal_bits, spec.isolation.width
        lstm, output = model.lstm, model.output_layer
        self.embedding = quantized_embedding(model.embedding, width("embedding", bits))
        self.lstm = qnn.QuantLSTM(
            lstm.input_size, lstm.hidden_size, lstm.num_layers, batch_first=True,
            weight_quant=WeightQuantizer, weight_bit_width=width("lstm_weights", bits),
            io_bit_width=width("io", internal_bits), gate_acc_bit_width=width("gates", internal_bits),
            sigmoid_bit_width=width("sigmoids", internal_bits),
            tanh_bit_width=width("tanhs", internal_bits),
            cell_state_bit_width=width("cell_state", internal_bits),
        )  # fmt: skip
        self.output_layer = qnn.QuantLinear(
            output.in_features, output.out_features, bias=output.bias is not None,
            weight_quant=weight_quantizer, weight_bit_width=width(OUTPUT_LAYER, bits),
            input_quant=OutputLayerInputQuantizer, input_bit_width=width(OUTPUT_LAYER, bits),
            bias_quant=Int32Bias if output.bias is not None else None,
        )  # fmt: skip
        self.output_layer.weight.data.copy_(output.weight.data)
        if output.bias is not None:
            self.output_layer.bias.data.copy_(output.bias.data)
        for number, (layer,) in enumerate(self.lstm.layers):
            parts = {
                name: getattr(lstm, f"{name}_l{number}").data.chunk(4)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            for place, gate in enumerate(GATES):
                target = getattr(layer, f"{gate}_gate_params")
                target.input_weight.weight.data.copy_(parts["weight_ih"][place])
                target.hidden_weight.weight.data.copy_(parts["weight_hh"][place])
                target.bias.data.copy_(parts["bias_ih"][place] + parts["bias_hh"][place])

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Return (batch, time, hidden) of (batch, time). The initial state is an unquantized zero."""
        states: Tensor = self.lstm(self.embedding(tokens))[0]
        return states

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """Return the inputs of the output layer, before they are quantized.

        Args:
            batch: documents.
            labels: (batch,) the label that each document is decoded under; for the generative model alone.

        Returns:
            (batch, hidden) pooled, or (real tokens, hidden + label width).
        """
        raise NotImplementedError

    def observe_output_layer(self, batch: Batch, labels: Tensor) -> None:
        """Run the graph up to the output layer's input quantizer.

        The layer itself is left out: its product is the costly part, and no quantizer follows it.
        """
        self.output_layer.input_quant(self.output_layer_inputs(batch, labels))

    def forward(self, batch: Batch, labels: Tensor) -> Tensor:
        """Return logits: (batch, classes), or (real tokens, vocabulary) under `labels`."""
        logits: Tensor = self.output_layer(self.output_layer_inputs(batch, labels))
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean training loss of the batch, a scalar."""
        raise NotImplementedError

    @torch.no_grad()
    def copy_weights_to(self, model: TrainableClassifier) -> None:
        """Copy the float weights into `model`, of the kind that the graph was built from."""
        model.embedding.weight.copy_(self.embedding.weight)
        model.output_layer.weight.copy_(self.output_layer.weight)
        if model.output_layer.bias is not None:
            model.output_layer.bias.copy_(self.output_layer.bias)
        for number, (layer,) in enumerate(self.lstm.layers):
            gates = [getattr(layer, f"{gate}_gate_params") for gate in GATES]
            parts = {
                "weight_ih": torch.cat([gate.input_weight.weight for gate in gates]),
                "weight_hh": torch.cat([gate.hidden_weight.weight for gate in gates]),
                "bias_ih": torch.cat([gate.bias for gate in gates]),
            }
            for name, value in parts.items():
                getattr(model.lstm, f"{name}_l{number}").copy_(value)
            getattr(model.lstm, f"bias_hh_l{number}").zero_()


class BrevitasDiscriminative(BrevitasClassifier):
    """See :class:`BrevitasClassifier`."""

    def __init__(
        self,
        model: DiscriminativeClassifier,
        spec: QuantizationSpec,
        weight_quantizer: type[WeightQuantizer],
    ) -> None:
        super().__init__(model, spec, weight_quantizer)
        self.pooling = model.pooling

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`BrevitasClassifier`."""
        return pool(self.hidden_states(batch.tokens), batch.lengths, batch.mask, self.pooling)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy, nats per document."""
        return nn.functional.cross_entropy(self(batch, batch.labels), batch.labels)


class BrevitasGenerative(BrevitasClassifier):
    """See :class:`BrevitasClassifier`."""

    def __init__(
        self, model: GenerativeClassifier, spec: QuantizationSpec, weight_quantizer: type[WeightQuantizer]
    ) -> None:
        super().__init__(model, spec, weight_quantizer)
        bits = spec.isolation.width(OUTPUT_LAYER, spec.bits)
        self.label_embedding = quantized_embedding(model.label_embedding, bits)

    def output_layer_inputs(self, batch: Batch, labels: Tensor) -> Tensor:
        """See :class:`BrevitasClassifier`."""
        inputs, _, mask = language_model_pair(batch)
        label_vectors = self.label_embedding(labels)[:, None].expand(-1, inputs.shape[1], -1)
        return torch.cat([self.hidden_states(inputs), label_vectors], dim=-1)[mask]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy of the next word under the document's own label, nats per token."""
        _, targets, mask = language_model_pair(batch)
        return nn.functional.cross_entropy(self(batch, batch.labels), targets[mask])

    @torch.no_grad()
    def copy_weights_to(self, model: TrainableClassifier) -> None:
        """See :class:`BrevitasClassifier`."""
        super().copy_weights_to(model)
        model.get_submodule("label_embedding").load_state_dict({"weight": self.label_embedding.weight})


def quantized_embedding(embedding: nn.Embedding, bits: int) -> qnn.QuantEmbedding:
    """Return Brevitas' module of an embedding, its weights copied."""
    quantized = qnn.QuantEmbedding(
        embedding.num_embeddings, embedding.embedding_dim,
        weight_quant=WeightQuantizer, weight_bit_width=bits,
    )  # fmt: skip
    quantized.weight.data.copy_(embedding.weight.data)
    return quantized
