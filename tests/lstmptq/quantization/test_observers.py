"""Statistics beyond Brevitas': against plain recomputation, and bit-exact in Brevitas' own graph."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from brevitas.graph.calibrate import calibration_mode

from lstmptq.models.batches import batches_in_order, make_batch
from lstmptq.quantization import observers
from lstmptq.quantization.build import quantize
from lstmptq.quantization.lstm import QuantizedEncoder
from lstmptq.quantization.observe import Observation, observe, read_statistics, scalings
from lstmptq.quantization.observers import Collector
from lstmptq.quantization.oracle import brevitas_graph
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.axes import IO_SCALES, OBSERVERS, PADDINGS
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.quantization.test_exact import CORPUS
from tests.lstmptq.synthetic import random_model

KINDS = pytest.mark.parametrize("kind", ["discriminative", "generative"])


def observed(model, **options):
    return observe(model, batches_in_order(CORPUS, 8), QuantizationSpec(8, 8, **options)).statistics


@cache
def observed_once(observer, io_scales, padding):
    """A model and its statistics, which serve every width."""
    model = random_model("discriminative", layers=2)
    return model, observed(model, observer=observer, io_scales=io_scales, padding=padding)


class Percentile:
    """Brevitas' operator: the value of the 1-indexed rank floor(q / 100 * n + 1/2)."""

    def __init__(self, q):
        self.q = q

    def __call__(self, values):
        return values.abs().reshape(-1).kthvalue(int(0.01 * self.q * values.numel() + 0.5)).values


def collected(observer, q, parts):
    collector = Collector(observer, Percentile(q))
    for part in parts:
        collector.add(part)
    return float(collector.statistic)


@pytest.mark.parametrize("q", [99.999, 99.9, 90.0])
def test_collectors_equal_plain_recomputation(q, monkeypatch):
    monkeypatch.setattr(observers, "KEPT", 3000)
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    parts = values.split([1, 4999, 7000, 3000, 5000])
    assert collected("max", q, parts) == float(values.abs().max())
    assert collected("percentile", q, parts) == float(Percentile(q)(values))
    expected = np.mean([float(Percentile(q)(part)) for part in parts])
    assert collected("mean", q, [*parts, values[:0]]) == pytest.approx(expected, rel=1e-6)


@KINDS
@pytest.mark.slow
def test_our_mean_is_brevitas_own(kind):
    """The hooks see what Brevitas sees: separate scales with the input alone, all others equal."""
    model = random_model(kind, layers=2)
    brevitas, ours = observed(model), observed(model, io_scales="separate")
    assert set(ours) - set(brevitas) == {"lstm.input"}
    for name in set(brevitas) - {"lstm.io"}:
        torch.testing.assert_close(ours[name], brevitas[name], rtol=1e-5, atol=0)
    assert ours["lstm.input"] > brevitas["lstm.io"] > ours["lstm.io"]


@KINDS
@pytest.mark.slow
def test_a_maximum_is_above_a_percentile_above_the_mean_of_percentiles(kind):
    model = random_model(kind)
    largest, percentile, mean = (observed(model, observer=name) for name in ("max", "percentile", "mean"))
    for name in mean:
        assert largest[name] >= percentile[name] >= mean[name] * (1 - 1e-6)
    assert largest["lstm.io"] > mean["lstm.io"]


@KINDS
@pytest.mark.slow
def test_statistics_with_padding_masked_do_not_depend_on_the_padding(kind):
    """The same documents, one at a time and together, differ in their padding alone."""
    model = random_model(kind)
    batches = {
        "alone": [make_batch(CORPUS, [place]) for place in range(5)],
        "together": [make_batch(CORPUS, np.arange(5))],
    }
    found = {
        (way, padding): observe(
            model, parts, QuantizationSpec(8, 8, observer="max", padding=padding)
        ).statistics
        for way, parts in batches.items()
        for padding in PADDINGS
    }
    for name, alone in found["alone", "counted"].items():
        torch.testing.assert_close(found["together", "masked"][name], alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["alone", "masked"][name], alone, rtol=0, atol=0)
    padded = found["together", "counted"]
    assert any(padded[name] > 1.001 * value for name, value in found["alone", "counted"].items())


VARIANTS = [
    options
    for options in itertools.product(OBSERVERS, ["shared"], PADDINGS)
    if options[::2] != ("mean", "counted")
]


@pytest.mark.parametrize(("observer", "io_scales", "padding"), VARIANTS)
@pytest.mark.parametrize(
    ("bits", "internal_bits"),
    [(4, 4), *(pytest.param(*widths, marks=pytest.mark.slow) for widths in ((8, 8), (3, 8)))],
)
@torch.no_grad()
def test_variants_equal_brevitas_bit_for_bit(observer, io_scales, padding, bits, internal_bits, monkeypatch):
    """Brevitas' graph with the same statistics put in gives the same hidden states and scores."""
    model, statistics = observed_once(observer, io_scales, padding)
    observation = Observation(statistics)
    options = {"observer": observer, "io_scales": io_scales, "padding": padding}
    spec = QuantizationSpec(bits, internal_bits, "none", **options)
    oracle = brevitas_graph(model, spec)
    with calibration_mode(oracle):  # once, so that its scales count as initialized
        batch = make_batch(CORPUS, np.arange(8))
        oracle.observe_output_layer(batch, batch.labels)
    for name, scaling in scalings(oracle).items():
        scaling.value.fill_(observation.statistics[name])
    assert read_statistics(oracle).statistics == observation.statistics
    batch = make_batch(CORPUS, np.arange(37))
    expected = oracle(batch, batch.labels).log_softmax(dim=1)
    for kernel in ("eager", "auto"):
        monkeypatch.setenv(KERNEL_VARIABLE, kernel)
        ours = quantize(model, spec, observation, [])
        assert torch.equal(ours.encoder.hidden_states(batch.tokens), oracle.hidden_states(batch.tokens))
        assert torch.equal(ours.class_scores(batch), expected)


@torch.no_grad()
def test_separate_scales_that_are_equal_are_the_shared_one():
    model = random_model("discriminative", layers=2)
    shared = observed(model, observer="max")
    separate = Observation(shared | {"lstm.input": shared["lstm.io"].clone()})
    tokens = make_batch(CORPUS, np.arange(37)).tokens
    a, b = (
        QuantizedEncoder(model.embedding.weight, model.lstm, QuantizationSpec(4, 4), observation)
        for observation in (Observation(shared), separate)
    )
    assert torch.equal(a.hidden_states(tokens), b.hidden_states(tokens))


@pytest.mark.parametrize("kernel", ["eager", "auto"])
@torch.no_grad()
def test_separate_scales_step_by_step(kernel, monkeypatch):
    """One layer against the formula: input and hidden state on grids of their own, bias on the input's."""
    model = random_model("discriminative")
    observation = Observation(observed(model, io_scales="separate"))
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    spec = QuantizationSpec(8, 8, "none", io_scales="separate")
    encoder = quantize(model, spec, observation, []).encoder
    (layer,) = encoder.layers
    q = layer.quantizers
    scale = observation.statistics["lstm.input"] / 128
    assert torch.equal(q["input"].scale, scale)
    assert torch.equal(q["io"].scale, observation.statistics["lstm.io"] / 128)
    assert encoder.stage_quantizers()["embedding"] is q["input"]
    assert encoder.stage_quantizers()["lstm.0.hidden_state"] is q["io"]
    width = layer.hidden
    steps = [q_.scale * scale for q_ in layer.weight_quantizers]
    for part, step in zip(layer.bias.split(width), steps, strict=True):
        assert torch.equal((part / step).round() * step, part)
    tokens = make_batch(CORPUS, np.arange(37)).tokens
    hidden, cell = torch.zeros(37, width), torch.zeros(37, width)
    names = ("input", "forget", "output", "cell")
    states = encoder.hidden_states(tokens)
    for time in range(tokens.shape[1]):
        read = q["input"](encoder.vectors[tokens[:, time]])
        sums = read @ layer.input_weight.t() + hidden @ layer.hidden_weight.t() + layer.bias
        gates = [q[f"{name}_gate"](part) for name, part in zip(names, sums.split(width, 1), strict=True)]
        enter, keep, leave = (
            q[f"{name}_sigmoid"](gate.sigmoid()) for name, gate in zip(names[:3], gates[:3], strict=True)
        )
        kept, entered = q["cell_state"](keep * cell), q["cell_state"](enter * q["cell_tanh"](gates[3].tanh()))
        cell = q["cell_state"](kept + entered)
        hidden = q["io"](leave * q["hidden_tanh"](cell.tanh()))
        assert (states[:, time] == hidden).float().mean() > 0.999  # a product of one step adds otherwise
        hidden = states[:, time]


def test_separate_scales_are_one_quantizer_more():
    model = random_model("generative")
    counts = [
        quantize(
            model, QuantizationSpec(4, 4, "none"), Observation(observed(model, io_scales=way)), []
        ).activation_quantizers()
        for way in IO_SCALES
    ]
    assert counts[1] == counts[0] + 1
