"""Calibration statistics: one pass of the float graph under Brevitas' observers serves every bit width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from brevitas.graph.calibrate import calibration_mode
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch
from lstmptq.quantization.observers import Observers
from lstmptq.quantization.oracle import GATES, BrevitasClassifier, brevitas_graph
from lstmptq.spec.specs import QuantizationSpec

# The quantizers of an LSTM layer: our name -> Brevitas' attribute of the cell, and whether it is signed.
LAYER_QUANTIZERS = {f"{gate}_gate": (f"{gate}_acc_quant", True) for gate in GATES} | {
    "input_sigmoid": ("input_sigmoid_quant", False),
    "forget_sigmoid": ("forget_sigmoid_quant", False),
    "cell_tanh": ("cell_tanh_quant", True),
    "output_sigmoid": ("output_sigmoid_quant", False),
    "hidden_tanh": ("hidden_state_tanh_quant", True),
}

BREVITAS = QuantizationSpec(8, 8)  # observes as Brevitas does by default


@dataclass(frozen=True, slots=True)
class Observation:
    """The statistics of absolute values by the name of the activation quantizer, 0-dim float32 each.

    The names are ``lstm.io`` (shared by word vectors and hidden states), ``lstm.cell_state``,
    ``lstm.<layer>.<name>`` for each of LAYER_QUANTIZERS, and ``head.input``. With separate scales,
    ``lstm.input`` covers the word vectors and ``lstm.io`` the hidden states alone.
    """

    statistics: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write to a safetensors file."""
        save_file(self.statistics, path)

    @classmethod
    def load(cls, path: Path) -> Observation:
        """Read a file that :meth:`save` wrote."""
        return cls(load_file(path))


@torch.no_grad()
def observe(
    model: TrainableClassifier,
    batches: Iterable[Batch],
    spec: QuantizationSpec = BREVITAS,
) -> Observation:
    """Run the float graph over a calibration set and collect each quantizer's statistic.

    The default is Brevitas' own statistic: a percentile of absolute values per call, averaged over calls
    (time steps and batches), padded steps included. The statistics do not depend on the bit width.

    Args:
        model: trained float model; it is not changed.
        batches: the calibration set, in the order that defines the means.
        spec: its observer, io scales and padding select the statistic and the values, its calibration labels
            those under which the generative decoder's input is read. Its widths are ignored.

    Returns:
        One statistic per quantizer, on the CPU.
    """
    oracle = brevitas_graph(model, QuantizationSpec(8, 8))
    statistic = (spec.observer, spec.io_scales, spec.padding)
    if statistic == (BREVITAS.observer, BREVITAS.io_scales, BREVITAS.padding):
        with calibration_mode(oracle):
            for batch in batches:
                for labels in model.calibration_label_sets(batch, spec.calibration_labels):
                    oracle.observe_output_layer(batch, labels)
        return read_statistics(oracle)
    observers = Observers(scalings(oracle), *statistic)
    with calibration_mode(oracle), observers.watching():
        for batch in batches:
            for labels in model.calibration_label_sets(batch, spec.calibration_labels):
                observers.start(model.lstm_inputs(batch)[1])
                oracle.observe_output_layer(batch, labels)
    return Observation(observers.statistics())


def read_statistics(oracle: BrevitasClassifier) -> Observation:
    """Return the statistics of a calibrated Brevitas model."""
    return Observation(
        {name: scaling.value.detach().cpu().clone() for name, scaling in scalings(oracle).items()}
    )


def scalings(oracle: BrevitasClassifier) -> dict[str, Any]:
    """Return, by our name of each activation quantizer, the module that collects and holds its statistic."""

    def scaling(proxy: Any) -> nn.Module:
        found: nn.Module = proxy.fused_activation_quant_proxy.tensor_quant.scaling_impl
        return found

    first = oracle.lstm.layers[0][0]
    found = {
        "lstm.io": scaling(first.cell.output_quant),
        "lstm.cell_state": scaling(first.cell.cell_state_quant),
    }
    for number, (layer,) in enumerate(oracle.lstm.layers):
        for name, (attribute, _) in LAYER_QUANTIZERS.items():
            found[f"lstm.{number}.{name}"] = scaling(getattr(layer.cell, attribute))
    found["head.input"] = scaling(oracle.output_layer.input_quant)
    return found
