"""The embedding and the LSTM in plain torch, in float32 and quantized.

The quantized LSTM equals Brevitas' ``QuantLSTM`` bit for bit; tests/lstmptq/quantization/test_exact.py proves
it. It is faster because its weights are quantized once and its scales are fixed. Where numba is installed,
its steps run through `native.py`, which in turn equals this module bit for bit. The float LSTM is the same
graph without quantizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lstmptq.quantization.observe import LAYER_QUANTIZERS, Observation
from lstmptq.quantization.quantizer import Quantizer, quantize_bias, weight_quantizer
from lstmptq.runtime.kernel import choose_kernel
from lstmptq.spec.specs import QuantizationSpec

if TYPE_CHECKING:
    from lstmptq.quantization.native import NativeLayer

# Called as record(stage, values, clipped) with (batch, time, features) values and a mask of the clipped ones.
# Without values, `stage` is like "lstm.0.cell_state.kept", a further input of the quantizer of that stage.
Recorder = Callable[[str, Tensor | None, Tensor | None], None]

# A matrix product of few rows (up to 7 were seen) sums in another order than one of many rows, so the table's
# product of a word would differ from the token's: batches of fewer tokens than this do not use the table.
TABLE_ROWS = 64
GATE_FUNCTIONS = {
    "input_gate": "input_sigmoid",
    "forget_gate": "forget_sigmoid",
    "cell_gate": "cell_tanh",
    "output_gate": "output_sigmoid",
}
WORDS_KEPT = 100_000  # the largest vocabulary whose products are kept: 160 MB at 100 units


@dataclass(frozen=True, slots=True)
class StageFunction:
    """A quantized function of a recorded stage's values: a table from level to level."""

    name: str  # the name of the quantizer
    stage: str  # the stage whose values the function reads
    function: Callable[[Tensor], Tensor]
    quantizer: Quantizer  # quantizes the results


@dataclass(frozen=True, slots=True)
class _Grid:
    """Scales and outermost levels for columns that belong to several quantizers, (columns,) each."""

    scale: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def of(cls, quantizers: list[Quantizer], width: int) -> _Grid:
        device = quantizers[0].scale.device

        def spread(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).repeat_interleave(width)

        return cls(
            torch.stack([quantizer.scale for quantizer in quantizers]).repeat_interleave(width),
            spread([quantizer.lowest for quantizer in quantizers]),
            spread([quantizer.highest for quantizer in quantizers]),
        )

    def quantize_(self, values: Tensor) -> Tensor:
        levels = values.div_(self.scale).round_()
        return torch.clamp(levels, self.lowest, self.highest, out=levels).mul_(self.scale)

    def clipped(self, values: Tensor) -> Tensor:
        levels = (values / self.scale).round_()
        return (levels < self.lowest) | (levels > self.highest)


class LSTMLayer:
    """Layer `number` of `lstm` in float32. Gates are stacked input, forget, output, cell.

    In that order, one call computes all sigmoids.
    """

    ORDER = (0, 1, 3, 2)  # torch stacks input, forget, cell, output

    def __init__(self, lstm: nn.LSTM, number: int) -> None:
        self.number, self.hidden = number, lstm.hidden_size
        inputs, hiddens, *biases = (
            [getattr(lstm, f"{name}_l{number}").detach().chunk(4)[place] for place in self.ORDER]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        self._set_weights(inputs, hiddens, [a + b for a, b in zip(*biases, strict=True)])

    def _set_weights(self, inputs: list[Tensor], hiddens: list[Tensor], biases: list[Tensor]) -> None:
        """Set the weights from those of the four gates."""
        self.input_weight, self.hidden_weight = torch.cat(inputs), torch.cat(hiddens)
        self.bias = torch.cat(biases)

    def run(self, inputs: Tensor, record: Recorder | None = None) -> Tensor:
        """Return the states, (batch, time, hidden), of (batch, time, width) inputs."""
        batch, time, _ = inputs.shape
        products = inputs @ self.input_weight.t()
        recurrent = self.hidden_weight.t().contiguous()
        hidden, cell = inputs.new_zeros(batch, self.hidden), inputs.new_zeros(batch, self.hidden)
        states = inputs.new_empty(batch, time, self.hidden)
        tape = _Tape(batch, time) if record else None
        for step in range(time):
            gates = products[:, step] + hidden @ recurrent
            gates += self.bias
            hidden, cell = self._step(gates, cell, tape, step)
            states[:, step] = hidden
        if tape and record:
            tape.play(f"lstm.{self.number}", record, states)
        return states

    def _step(self, gates: Tensor, cell: Tensor, tape: _Tape | None, step: int) -> tuple[Tensor, Tensor]:
        """Return the hidden state and the cell state after a step; `gates` are overwritten."""
        if tape:
            tape.keep(step, gates=gates)
        enter, keep, leave, new = self._activate(gates)
        cell = (keep * cell).add_(enter * new)
        if tape:
            tape.keep(step, cell_state=cell)
        return leave * cell.tanh(), cell

    def _activate(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the four parts of `gates` after their sigmoids and tanh, taken in place."""
        gates[:, : 3 * self.hidden].sigmoid_()
        gates[:, 3 * self.hidden :].tanh_()
        parts: tuple[Tensor, ...] = gates.split(self.hidden, dim=1)
        return parts


class QuantizedLSTMLayer(LSTMLayer):
    """Layer `number` of `lstm` on quantized weights and activations.

    ``quantizers["io"]`` belongs to the hidden state, ``quantizers["input"]`` to the layer's input. They are
    the same unless their scales are separate. In both cases the 32-bit bias lies on the grid of the input's
    accumulator, input scale times weight scale, as in Brevitas. Of `spec` the bits, internal bits and
    isolated stage are read.
    """

    def __init__(self, lstm: nn.LSTM, number: int, spec: QuantizationSpec, observation: Observation) -> None:
        self.spec, self.statistics = spec, observation.statistics
        self.quantizers: dict[str, Quantizer] = {}
        super().__init__(lstm, number)
        self.native = self._compile()

    def _set_weights(self, inputs: list[Tensor], hiddens: list[Tensor], biases: list[Tensor]) -> None:
        """Quantize the weights and set the quantizers of the activations."""
        width, internal, found = self.spec.isolation.width, self.spec.internal_bits, self.quantizers
        statistics = {name: value.to(biases[0].device) for name, value in self.statistics.items()}
        for name, (_, signed) in LAYER_QUANTIZERS.items():
            stage = f"{name.rpartition('_')[2]}s"  # gates, sigmoids, tanhs
            statistic = statistics[f"lstm.{self.number}.{name}"]
            found[name] = Quantizer.from_statistic(statistic, width(stage, internal), signed)
        for name in ("io", "cell_state"):
            found[name] = Quantizer.from_statistic(statistics[f"lstm.{name}"], width(name, internal))
        found["input"] = found["io"]
        if self.number == 0 and "lstm.input" in statistics:  # deeper layers read hidden states
            found["input"] = Quantizer.from_statistic(statistics["lstm.input"], found["io"].bits)
        names = ("input_gate", "forget_gate", "output_gate", "cell_gate")
        self.gates = _Grid.of([found[name] for name in names], self.hidden)
        self.activations = _Grid.of([found[GATE_FUNCTIONS[name]] for name in names], self.hidden)
        bits = width("lstm_weights", self.spec.bits)
        self.weight_quantizers = [
            weight_quantizer(w, u, bits=bits) for w, u in zip(inputs, hiddens, strict=True)
        ]
        super()._set_weights(
            [q(w) for q, w in zip(self.weight_quantizers, inputs, strict=True)],
            [q(w) for q, w in zip(self.weight_quantizers, hiddens, strict=True)],
            [
                quantize_bias(b, found["input"].scale, q.scale)
                for q, b in zip(self.weight_quantizers, biases, strict=True)
            ],
        )

    def _compile(self) -> NativeLayer | None:
        """Compile the layer if it is finite float32 on the CPU and the native kernel is chosen, else None."""
        tensors = (self.input_weight, self.hidden_weight, self.bias)
        if self.bias.device.type != "cpu" or choose_kernel() == "eager":
            return None
        scales = torch.stack([quantizer.scale for quantizer in self.quantizers.values()])
        if any(t.dtype != torch.float32 or not t.isfinite().all() for t in (*tensors, scales)):
            return None
        from lstmptq.quantization.native import NativeLayer

        return NativeLayer(self.hidden_weight, self.bias, self.gates.scale, self.quantizers)

    def function(self, name: str, stage: str, function: Callable[[Tensor], Tensor]) -> StageFunction:
        """Describe `function` of the layer's stage `stage`, whose results the quantizer `name` quantizes."""
        prefix = f"lstm.{self.number}"
        return StageFunction(f"{prefix}.{name}", f"{prefix}.{stage}", function, self.quantizers[name])

    def run(self, inputs: Tensor, record: Recorder | None = None) -> Tensor:
        """See :meth:`LSTMLayer.run`. Inputs and states lie on their grids; recording runs in plain torch."""
        if record is not None or self.native is None:
            return super().run(inputs, record)
        batch, time, _ = inputs.shape
        products = (inputs @ self.input_weight.t()).view(batch * time, -1)
        return self.native.run(products, torch.arange(batch * time).view(batch, time))

    def _step(self, gates: Tensor, cell: Tensor, tape: _Tape | None, step: int) -> tuple[Tensor, Tensor]:
        io, of_cell = self.quantizers["io"], self.quantizers["cell_state"]
        if tape:
            tape.keep(step, gates_clipped=self.gates.clipped(gates))
        self.gates.quantize_(gates)
        if tape:
            tape.keep(step, gates=gates)
        self._activate(gates)
        enter, keep, leave, new = self.activations.quantize_(gates).split(self.hidden, dim=1)
        kept, entered = keep * cell, enter * new
        total = of_cell(kept).add_(of_cell(entered))
        cell = of_cell(total)
        output = leave * self.quantizers["hidden_tanh"](cell.tanh())
        if tape:
            tape.keep(
                step, cell_state=cell, kept_clipped=of_cell.clipped(kept),
                entered_clipped=of_cell.clipped(entered), cell_state_clipped=of_cell.clipped(total),
                hidden_state_clipped=io.clipped(output),
            )  # fmt: skip
        return io(output), cell


class _Tape:
    """The values of each stage in one pass of a layer, collected step by step for a recorder."""

    def __init__(self, batch: int, time: int) -> None:
        self.batch, self.time = batch, time
        self.parts: dict[str, Tensor] = {}

    def keep(self, step: int, **parts: Tensor) -> None:
        for name, values in parts.items():
            if name not in self.parts:
                self.parts[name] = values.new_empty(self.batch, self.time, values.shape[1])
            self.parts[name][:, step] = values

    def play(self, layer: str, record: Recorder, states: Tensor) -> None:
        gates, width = self.parts["gates"], states.shape[2]
        names = ("input", "forget", "output", "cell")
        parts = (part.split(width, dim=2) for part in (gates, self._clipped("gates", gates)))
        for gate, values, clipped in zip(names, *parts, strict=True):
            record(f"{layer}.{gate}_gate", values, clipped)
        cell = self.parts["cell_state"]
        record(f"{layer}.cell_state", cell, self._clipped("cell_state", cell))
        for name in ("kept", "entered"):
            if f"{name}_clipped" in self.parts:
                record(f"{layer}.cell_state.{name}", None, self.parts[f"{name}_clipped"])
        record(f"{layer}.hidden_state", states, self._clipped("hidden_state", states))

    def _clipped(self, name: str, values: Tensor) -> Tensor:
        """Return the mask of a stage's clipped values; without a quantizer none are."""
        clipped = self.parts.get(f"{name}_clipped")
        return torch.zeros_like(values, dtype=torch.bool) if clipped is None else clipped


class Encoder:
    """Embedding, (vocabulary, width), and LSTM in float32: tokens to hidden states."""

    def __init__(self, embedding: Tensor, lstm: nn.LSTM) -> None:
        self.vectors = embedding.detach()
        self.layers: Sequence[LSTMLayer] = [LSTMLayer(lstm, number) for number in range(lstm.num_layers)]

    def hidden_states(self, tokens: Tensor, record: Recorder | None = None) -> Tensor:
        """Return the top layer's states, (batch, time, hidden) float32, of (batch, time) int64 tokens."""
        states = self._read(tokens, record)
        for layer in self.layers:
            states = layer.run(states, record)
        return states

    def _read(self, tokens: Tensor, record: Recorder | None) -> Tensor:
        """Return the word vectors, (batch, time, width)."""
        vectors = self.vectors[tokens]
        if record:
            record("embedding", vectors, None)
        return vectors

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """Return, by recorded stage, the quantizer on whose grid its values lie; others are not listed."""
        return {}

    def functions(self) -> Iterator[StageFunction]:
        """Yield the elementwise functions of recorded stages that have a quantizer of their own."""
        yield from ()


class QuantizedEncoder(Encoder):
    """Embedding, (vocabulary, width), and LSTM on quantized weights and activations.

    Of `spec` the bits, internal bits and isolated stage are read.
    """

    layers: Sequence[QuantizedLSTMLayer]

    def __init__(
        self, embedding: Tensor, lstm: nn.LSTM, spec: QuantizationSpec, observation: Observation
    ) -> None:
        table = embedding.detach()
        self.embedding_quantizer = weight_quantizer(table, bits=spec.isolation.width("embedding", spec.bits))
        self.vectors = self.embedding_quantizer(table)  # on the weights' grid, not yet on the io quantizer's
        self.layers = [
            QuantizedLSTMLayer(lstm, number, spec, observation) for number in range(lstm.num_layers)
        ]
        self.io = self.layers[0].quantizers["input"]  # for word vectors, and for states that share the scale
        self._tokens_read = 0

    def hidden_states(self, tokens: Tensor, record: Recorder | None = None) -> Tensor:
        """See :meth:`Encoder.hidden_states`; the states lie on the io quantizer's grid."""
        states = None if record else self._native_states(tokens)
        return super().hidden_states(tokens, record) if states is None else states

    def _read(self, tokens: Tensor, record: Recorder | None) -> Tensor:
        vectors = self.vectors[tokens]
        inputs = self.io(vectors)
        if record:
            record("embedding", inputs, self.io.clipped(vectors))
        return inputs

    def _native_states(self, tokens: Tensor) -> Tensor | None:
        """Return the states from a table of the first layer's products per word, once that saves time.

        Until then, for few tokens and in plain torch, return None.
        """
        first = self.layers[0].native
        self._tokens_read += tokens.numel()
        if first is None or self._tokens_read < len(self.vectors) or len(self.vectors) > WORDS_KEPT:
            return None
        if tokens.numel() < TABLE_ROWS:
            return None
        states = first.run(self._word_products, tokens)
        for layer in self.layers[1:]:
            states = layer.run(states)
        return states

    @cached_property
    def _word_products(self) -> Tensor:
        """Every word's vector, on the io grid, times the first layer's weights, (vocabulary, 4 hidden)."""
        return self.io(self.vectors) @ self.layers[0].input_weight.t()

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """See :meth:`Encoder.stage_quantizers`."""
        found = {"embedding": self.io}
        for layer in self.layers:
            for name in ("input_gate", "forget_gate", "cell_gate", "output_gate", "cell_state"):
                found[f"lstm.{layer.number}.{name}"] = layer.quantizers[name]
            found[f"lstm.{layer.number}.hidden_state"] = layer.quantizers["io"]
        return found

    def functions(self) -> Iterator[StageFunction]:
        """See :meth:`Encoder.functions`: these are the sigmoids and tanhs."""
        for layer in self.layers:
            for gate, name in GATE_FUNCTIONS.items():
                function = torch.tanh if name == "cell_tanh" else torch.sigmoid
                yield layer.function(name, gate, function)
            yield layer.function("hidden_tanh", "cell_state", torch.tanh)
