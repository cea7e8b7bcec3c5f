"""The quantized LSTM's step as one compiled pass between torch's matrix products.

The pass is bit-exact because it reorders nothing. Torch still computes the products, since their order of
summation is part of the result. A gate is quantized before and after its sigmoid or tanh, so the function is
a table of at most 2^8 values, which torch fills. The rest is a sum, a division, a rounding and a clamp, in
Brevitas' order.

This module is imported only where numba is installed: see ``lstmptq/runtime/kernel.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmptq.quantization.quantizer import Quantizer

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

ROWS = 256  # documents that run together: the gates of more would not stay in the cache
SLOTS = 256  # size of a table: one slot per level of at most 8 bits


class NativeLayer:
    """A layer of the LSTM, ready for the compiled step. Gates are stacked input, forget, output, cell.

    Args:
        hidden_weight: (4 hidden, hidden) float32, on its grid.
        bias: (4 hidden,) float32, on its grid.
        gate_scale: (4 hidden,) float32, the scale of each gate's quantizer.
        quantizers: the layer's activation quantizers by name, of at most 8 bits; those of the four gates
            have the same width.
    """

    def __init__(
        self, hidden_weight: Tensor, bias: Tensor, gate_scale: Tensor, quantizers: Mapping[str, Quantizer]
    ) -> None:
        self.hidden = hidden_weight.shape[1]
        self.recurrent = hidden_weight.t().contiguous()
        self.bias = bias.numpy()
        gates = [quantizers[f"{gate}_gate"] for gate in ("input", "forget", "output", "cell")]
        tables = [
            _table(gate, torch.sigmoid, quantizers[f"{name}_sigmoid"])
            for name, gate in zip(("input", "forget", "output"), gates, strict=False)
        ]
        tables.append(_table(gates[3], torch.tanh, quantizers["cell_tanh"]))
        tables.append(_table(quantizers["cell_state"], torch.tanh, quantizers["hidden_tanh"]))
        self.tables = torch.cat(tables).numpy()
        self.scale = gate_scale.numpy()
        # from a level to its slot: a table starts at the lowest level, the gates' tables follow each other
        starts = np.arange(4) * SLOTS - gates[0].lowest
        self.offsets = np.repeat(starts, self.hidden).astype(np.int32)
        ranges = [(q.scale.item(), q.lowest, q.highest) for q in
                  (gates[0], quantizers["cell_state"], quantizers["io"])]  # fmt: skip
        self.constants = np.array(ranges, dtype=np.float32)

    def run(self, products: Tensor, places: Tensor) -> Tensor:
        """Return the states, (batch, time, hidden).

        Args:
            products: (rows, 4 hidden) float32, inputs times input weights.
            places: (batch, time) int64, the row of `products` for each token.
        """
        batch, time = places.shape
        states = torch.empty(batch, time, self.hidden)
        steps = places.t().contiguous()
        # blocks of equal size: a product of few rows sums in another order than that of the whole batch
        blocks = -(-batch // ROWS)
        for number in range(blocks):
            rows = slice(number * batch // blocks, (number + 1) * batch // blocks)
            self._run(products.numpy(), steps[:, rows], states[rows])
        return states

    def _run(self, products: Floats, steps: Tensor, states: Tensor) -> None:
        time, batch = steps.shape
        hidden, cell = torch.zeros(batch, self.hidden), np.zeros((batch, self.hidden), np.float32)
        recurrent = torch.zeros(batch, 4 * self.hidden)
        places, out = steps.contiguous().numpy(), states.numpy()
        gates, state = recurrent.numpy(), hidden.numpy()  # views of the same memory
        for step in range(time):
            if step:  # before the first step the hidden state, and hence its product, is zero
                torch.mm(hidden, self.recurrent, out=recurrent)
            _step(
                products, places[step], gates, self.bias, self.scale, self.offsets, self.tables,
                self.constants, cell, state, out, step,
            )  # fmt: skip


def _table(before: Quantizer, function: Callable[[Tensor], Tensor], after: Quantizer) -> Tensor:
    """Return `function` of each level of `before`, on the grid of `after`, (SLOTS,)."""
    levels = torch.arange(SLOTS, dtype=torch.float32).add_(before.lowest).clamp_(max=before.highest)
    return after(function(levels * before.scale))


@numba.njit(error_model="numpy", cache=True)
def _step(
    products: Floats,
    places: npt.NDArray[np.int64],
    recurrent: Floats,
    bias: Floats,
    scale: Floats,
    offsets: Integers,
    tables: Floats,
    constants: Floats,
    cells: Floats,
    hiddens: Floats,
    states: Floats,
    step: int,
) -> None:
    """Advance `cells` and `hiddens` by a step and copy the hidden states to ``states[:, step]``.

    Arithmetic and look-ups run in separate loops over a row, so that the arithmetic becomes vector code. The
    clamps turn a NaN into the lowest level, so that no look-up leaves its table. Fast-math stays off: the
    arithmetic has to be IEEE.
    """
    documents, width = cells.shape
    lowest, highest = constants[0, 1], constants[0, 2]
    cell_scale, cell_lowest, cell_highest = constants[1, 0], constants[1, 1], constants[1, 2]
    io_scale, io_lowest, io_highest = constants[2, 0], constants[2, 1], constants[2, 2]
    slots = np.empty(4 * width, np.int32)
    values = np.empty(4 * width, np.float32)
    cell_table = tables[4 * SLOTS :]
    for document in range(documents):
        product, gates = products[places[document]], recurrent[document]
        cell, hidden = cells[document], hiddens[document]
        for i in range(4 * width):
            level = np.rint(((product[i] + gates[i]) + bias[i]) / scale[i])
            level = level if level > lowest else lowest
            level = level if level < highest else highest
            slots[i] = np.int32(level) + offsets[i]
        for i in range(4 * width):
            values[i] = tables[np.uint32(slots[i])]
        enter, keep = values[:width], values[width : 2 * width]
        leave, new = values[2 * width : 3 * width], values[3 * width :]
        for i in range(width):
            kept = np.rint(keep[i] * cell[i] / cell_scale)
            kept = kept if kept > cell_lowest else cell_lowest
            kept = kept if kept < cell_highest else cell_highest
            entered = np.rint(enter[i] * new[i] / cell_scale)
            entered = entered if entered > cell_lowest else cell_lowest
            entered = entered if entered < cell_highest else cell_highest
            total = kept + entered  # at most 9 bits: multiplying and dividing by the scale changes nothing
            total = total if total > cell_lowest else cell_lowest
            total = total if total < cell_highest else cell_highest
            cell[i] = total * cell_scale
            slots[i] = np.int32(total - cell_lowest)
        for i in range(width):
            new[i] = cell_table[np.uint32(slots[i])]
        for i in range(width):
            level = np.rint(leave[i] * new[i] / io_scale)
            level = level if level > io_lowest else io_lowest
            level = level if level < io_highest else io_highest
            hidden[i] = level * io_scale
        states[document, step, :] = hidden
