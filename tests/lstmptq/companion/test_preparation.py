"""From a cell to its model: what each method leaves alone, and what it must not share."""

import json
from dataclasses import replace
from pkgutil import resolve_name

import pytest
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import CompanionCell, Training
from lstmptq.companion.methods import METHOD_TABLE, METHODS, REGIMES, qat_quantization
from lstmptq.companion.preparation import bring, make_assets, prepare, train
from lstmptq.companion.recipes import QatRecipe
from lstmptq.models.batches import make_batch


@pytest.fixture
def assets(lstm_spec, bert_artifacts):
    return make_assets(lstm_spec(), bert_artifacts)


def qat_cell(spec, bits):
    training = Training(spec, "qat", QatRecipe(1, 1e-3, 16), bits)
    return CompanionCell(training, "qat", quantization=qat_quantization(bits))


def test_every_method_is_a_function_or_a_reason_for_every_model():
    for methods in METHOD_TABLE.values():
        assert methods.keys() == set(METHODS)
        for name, method in methods.items():
            assert bool(method.reason) != bool(method.prepare)
            assert (
                bool(method.train)
                == (method.recipe is not None)
                == (not method.reason and name in REGIMES and name != "fp32")
            )
            for function in filter(None, (method.prepare, method.train)):
                assert callable(resolve_name(f"lstmptq.companion.{function}"))


def test_the_card_of_a_qat_is_no_change_of_the_fp32_model_s(assets):
    before = json.dumps(assets.card)
    cell = qat_cell(assets.spec, 8)
    prepared = prepare(assets, cell)
    assert json.dumps(assets.card) == before
    assert prepare(assets, CompanionCell(Training(assets.spec))).card == json.loads(before)
    trained = json.loads((train(assets, cell.model) / "card.json").read_text())
    assert prepared.card == json.loads(before) | {"epochs": trained["best_epoch"]}


def test_methods_leave_the_fp32_model_as_it_is(assets):
    """Scores are all taken without gradients: with them nn.LSTM may differ in the last bits."""
    batch = make_batch(assets.documents(9), range(9))
    with torch.no_grad():
        before = assets.model.class_scores(batch)
    cells = [
        CompanionCell(Training(assets.spec), "dynamic_ptq"),
        CompanionCell(Training(assets.spec), "static_ptq", quantization=qat_quantization(3)),
        qat_cell(assets.spec, 3),
    ]
    prepared = [prepare(assets, cell).classifier for cell in cells]  # as in a sweep, with gradients enabled
    with torch.no_grad():
        assert torch.equal(assets.model.class_scores(batch), before)
        scores = [classifier.class_scores(batch) for classifier in prepared]
    assert all(not torch.equal(found, before) for found in scores)
    assert prepare(assets, CompanionCell(Training(assets.spec))).classifier is assets.model


def test_a_limit_takes_the_same_documents_each_time_and_no_more_than_there_are(assets):
    nine, all_of_them = assets.documents(9), assets.documents(10_000)
    assert len(nine) == 9
    assert len(all_of_them) == len(assets.documents(None)) == 60
    assert nine.labels.tolist() == assets.documents(9).labels.tolist()


def test_a_checkpoint_that_is_not_here_says_so(bert_spec, bert_artifacts, tmp_path):
    gone = replace(bert_spec.checkpoint, location=str(tmp_path / "gone"))
    moved = replace(bert_spec, checkpoint=gone, seed=9)
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*gone on this machine: put tiny there$"):
        train(make_assets(moved, bert_artifacts), Training(moved))


def test_what_is_brought_is_all_that_a_cell_needs(lstm_spec, driver, bert_artifacts, tmp_path):
    """A second look builds nothing: the driver has it, and this machine has it afterwards."""
    spec = lstm_spec("generative")
    assets = make_assets(spec, bert_artifacts)
    cells = [
        CompanionCell(Training(spec), "static_ptq", quantization=qat_quantization(8), limit=9),
        qat_cell(spec, 8),
    ]
    for cell in cells:
        prepare(assets, cell)
        node = Artifacts(tmp_path / cell.method, driver(bert_artifacts))
        bring(make_assets(spec, node), cell)
        brought = sorted(node.root.glob("*/*/key.json"))
        alone = Artifacts(node.root)
        prepare(make_assets(spec, alone), cell)
        prepare(make_assets(spec, alone), CompanionCell(Training(spec)))
        make_assets(spec, alone).documents(9)
        assert sorted(node.root.glob("*/*/key.json")) == brought
