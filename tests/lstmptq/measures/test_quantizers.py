"""Every quantizer leaves its scale and its clipping; those behind no stage are worked out again here."""

from functools import cache

import numpy as np
import pytest
import torch

from lstmptq.measures.activations import record_stages
from lstmptq.measures.quantizers import quantizer_rows
from lstmptq.models.batches import batches_in_order
from lstmptq.quantization.build import float_graph, quantize
from lstmptq.quantization.observe import observe
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=23, vocabulary=307, classes=4, longest=23)
KINDS = pytest.mark.parametrize("kind", ["discriminative", "generative"])


@cache
def observed_once(kind, layers):
    """A model and its statistics with ranges that are all too narrow; they serve every width."""
    model = random_model(kind, layers=layers)
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    for name, statistic in observation.statistics.items():
        statistic *= 0.1 if name.endswith("hidden_tanh") else 0.5  # the cell state is small already
    return model, observation


def clipping(kind, bits=8, internal_bits=8, layers=2):
    """A classifier all of whose ranges are too narrow, its stages and its rows."""
    model, observation = observed_once(kind, layers)
    classifier = quantize(model, QuantizationSpec(bits, internal_bits, "none"), observation, [])
    stages = record_stages(classifier, batches_in_order(CORPUS, 5))
    return classifier, stages, {row["tensor"]: row for row in quantizer_rows(classifier, stages, 23)}


@KINDS
@pytest.mark.parametrize(("bits", "internal_bits"), [(8, 8), (3, 3), (4, 8)])
def test_clipping_of_sigmoids_and_tanhs(kind, bits, internal_bits):
    """From every recorded value, where the rows come from counts of levels."""
    classifier, stages, rows = clipping(kind, bits, internal_bits)
    clipped = {}
    for number, layer in enumerate(classifier.encoder.layers):
        for name, source in (
            ("input_sigmoid", "input_gate"), ("forget_sigmoid", "forget_gate"), ("cell_tanh", "cell_gate"),
            ("output_sigmoid", "output_gate"), ("hidden_tanh", "cell_state"),
        ):  # fmt: skip
            values = torch.from_numpy(stages[f"lstm.{number}.{source}"].values)
            values = values.tanh() if name.endswith("tanh") else values.sigmoid()
            quantizer, row = layer.quantizers[name], rows[f"lstm.{number}.{name}"]
            clipped[name] = float(quantizer.clipped(values).double().mean())
            assert row["clip_fraction"] == pytest.approx(clipped[name], abs=1e-12)
            assert row["levels_used"] == len(quantizer(values).unique())
            assert (row["bits"], row["scale"]) == (internal_bits, float(quantizer.scale))
            assert (row["n"], row["documents"]) == (values.numel(), 23)
    assert min(clipped.values()) > 0.001


@KINDS
def test_clipping_of_what_enters_the_cell_state(kind):
    """Worked out from the recorded gates, document by document."""
    classifier, stages, rows = clipping(kind, layers=1)
    layer, clipped = classifier.encoder.layers[0], {"kept": [], "entered": []}
    documents = stages["lstm.0.cell_state"].documents
    for document in np.unique(documents):
        own = {
            name: torch.from_numpy(stages[f"lstm.0.{name}"].values[documents == document])
            for name in ("input_gate", "forget_gate", "cell_gate", "cell_state")
        }
        enter = layer.quantizers["input_sigmoid"](own["input_gate"].sigmoid())
        keep = layer.quantizers["forget_sigmoid"](own["forget_gate"].sigmoid())
        new = layer.quantizers["cell_tanh"](own["cell_gate"].tanh())
        before = torch.cat([torch.zeros(1, own["cell_state"].shape[1]), own["cell_state"][:-1]])
        for part, values in (("kept", keep * before), ("entered", enter * new)):
            clipped[part].append(layer.quantizers["cell_state"].clipped(values))
    for part, found in clipped.items():
        row = rows[f"lstm.0.cell_state.{part}"]
        expected = torch.cat(found)
        assert row["clip_fraction"] == pytest.approx(float(expected.double().mean()), abs=1e-12)
        assert row["n"] == expected.numel()
        assert row["scale"] == float(layer.quantizers["cell_state"].scale)


def test_clipping_of_the_label_vectors():
    classifier, _, rows = clipping("generative", bits=4)
    expected = classifier.output_layer.input_quantizer.clipped(classifier.label_vectors).double().mean()
    row = rows["decoder_input.label"]
    assert row["clip_fraction"] == pytest.approx(float(expected))
    assert row["clip_fraction"] > 0
    assert (row["bits"], row["n"], row.get("documents")) == (4, classifier.label_vectors.numel(), None)
    assert "decoder_input.label" not in clipping("discriminative")[2]


@KINDS
def test_every_quantizer_of_an_activation_has_a_row(kind):
    classifier, stages, rows = clipping(kind)
    shared = sum(name.endswith(("cell_state", "hidden_state")) for name in stages)  # one quantizer each kind
    named = {name for name, stage in stages.items() if stage.quantizer} | {
        name for name in rows if not name.endswith((".kept", ".entered", ".label"))
    }
    # io: embedding and hidden states; the cell state of both layers
    assert len(named) - (shared - 1) == classifier.activation_quantizers()


@KINDS
def test_with_the_quantizers_off_there_is_none(kind):
    graph = float_graph(random_model(kind))
    assert quantizer_rows(graph, record_stages(graph, batches_in_order(CORPUS, 5)), 23) == []
