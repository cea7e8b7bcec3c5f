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
from lstmptq.models.batches import Batch, language_model_pair, real_tokens
from lstmptq.models.discriminative import DiscriminativeClassifier, pool
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.spec.cells import Isolation

GATES = ("input", "forget", "cell", "output")  # in the order in which torch stacks them
HEAD_PERCENTILE = 99.99  # of absolute inputs, at the last linear layer; the LSTM keeps Brevitas' 99.999


class WeightQuantizer(Int8WeightPerTensorFloat):
    """Per tensor, absolute maximum, the full range of levels."""

    narrow_range = False


class FixedWeightQuantizer(WeightQuantizer):
    """The same with the scale fixed at the first forward, so that weight correction does not move it."""

    scaling_impl = ParameterFromStatsFromParameterScaling


class HeadInputQuantizer(Int8ActPerTensorFloat):
    """Of the last linear layer's input."""

    high_percentile_q = HEAD_PERCENTILE


def head_layer(
    head: nn.Linear, bits: int, weight_quantizer: type[WeightQuantizer] = FixedWeightQuantizer
) -> qnn.QuantLinear:
    """Brevitas' module of a classifier's last linear layer, its weights not yet copied.

    Args:
        head: the float layer.
        bits: width of its weight and its input.
        weight_quantizer: fixes the weight's scale at the first forward, or lets it follow the weight.
    """
    return qnn.QuantLinear(
        head.in_features, head.out_features, bias=head.bias is not None,
        weight_quant=weight_quantizer, weight_bit_width=bits,
        input_quant=HeadInputQuantizer, input_bit_width=bits,
        bias_quant=Int32Bias if head.bias is not None else None,
    )  # fmt: skip


class BrevitasClassifier(nn.Module):
    """A trained classifier rebuilt from Brevitas' modules.

    Args:
        model: the trained float model; its weights are copied.
        bits: width of weights and of the last linear layer's input.
        internal_bits: width of the LSTM's own quantizers.
        isolation: the stage that has another width.
    """

    def __init__(
        self,
        model: TrainableClassifier,
        bits: int,
        internal_bits: int,
        isolation: Isolation = Isolation(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        width, head_bits = isolation.width, isolation.width("head", bits)
        embedding, lstm, head = model.embedding, model.lstm, model.correctable
        self.embedding = qnn.QuantEmbedding(
            embedding.num_embeddings, embedding.embedding_dim,
            weight_quant=WeightQuantizer, weight_bit_width=width("embedding", bits),
        )  # fmt: skip
        self.lstm = qnn.QuantLSTM(
            lstm.input_size, lstm.hidden_size, lstm.num_layers, batch_first=True,
            weight_quant=WeightQuantizer, weight_bit_width=width("lstm_weights", bits),
            io_bit_width=width("io", internal_bits), gate_acc_bit_width=width("gates", internal_bits),
            sigmoid_bit_width=width("sigmoids", internal_bits),
            tanh_bit_width=width("tanhs", internal_bits),
            cell_state_bit_width=width("cell_state", internal_bits),
        )  # fmt: skip
        self.head = head_layer(head, head_bits)
        self.label_embedding: qnn.QuantEmbedding | None = None
        if isinstance(model, GenerativeClassifier):
            labels = model.label_embedding
            self.label_embedding = qnn.QuantEmbedding(
                labels.num_embeddings, labels.embedding_dim,
                weight_quant=WeightQuantizer, weight_bit_width=head_bits,
            )  # fmt: skip
            self.label_embedding.weight.data.copy_(labels.weight.data)
        self.pooling = model.pooling if isinstance(model, DiscriminativeClassifier) else "none"
        self._copy_weights(model)
        self.to(head.weight.device).eval()

    def _copy_weights(self, model: TrainableClassifier) -> None:
        self.embedding.weight.data.copy_(model.embedding.weight.data)
        self.head.weight.data.copy_(model.correctable.weight.data)
        if model.correctable.bias is not None:
            self.head.bias.data.copy_(model.correctable.bias.data)
        for number, (layer,) in enumerate(self.lstm.layers):
            parts = {
                name: getattr(model.lstm, f"{name}_l{number}").data.chunk(4)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            for place, gate in enumerate(GATES):
                target = getattr(layer, f"{gate}_gate_params")
                target.input_weight.weight.data.copy_(parts["weight_ih"][place])
                target.hidden_weight.weight.data.copy_(parts["weight_hh"][place])
                target.bias.data.copy_(parts["bias_ih"][place] + parts["bias_hh"][place])

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """(batch, time) to (batch, time, hidden). The initial state is Brevitas' own: unquantized zero."""
        states: Tensor = self.lstm(self.embedding(tokens))[0]
        return states

    def head_input(self, batch: Batch, labels: Tensor | None = None) -> Tensor:
        """What the last linear layer reads, before its input quantizer.

        Args:
            batch: documents.
            labels: (batch,) the label each document is decoded under; generative only.

        Returns:
            (batch, hidden) pooled, or (real tokens, hidden + label width).
        """
        if self.label_embedding is None:
            return pool(self.hidden_states(batch.tokens), batch.lengths, batch.mask, self.pooling)
        assert labels is not None
        inputs, _, lengths = language_model_pair(batch)
        mask = real_tokens(lengths, inputs.shape[1])
        label_vectors = self.label_embedding(labels)[:, None].expand(-1, inputs.shape[1], -1)
        return torch.cat([self.hidden_states(inputs), label_vectors], dim=-1)[mask]

    def forward(self, batch: Batch, labels: Tensor | None = None) -> Tensor:
        """Logits: (batch, classes), or (real tokens, vocabulary) under `labels`."""
        logits: Tensor = self.head(self.head_input(batch, labels))
        return logits
