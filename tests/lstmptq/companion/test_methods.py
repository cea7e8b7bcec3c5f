"""From a cell to its model: what each method leaves alone, and what it must not share."""

import json
from dataclasses import replace

import pytest
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import CompanionCell, Training, qat_quantization
from lstmptq.companion.methods import Companion
from lstmptq.companion.recipes import QatRecipe
from lstmptq.models.batches import make_batch


@pytest.fixture
def companion(lstm_spec, bert_artifacts):
    return Companion(lstm_spec(), bert_artifacts)


def qat_cell(companion, bits):
    training = Training(companion.base, "qat", QatRecipe(1, 1e-3, 16), bits)
    return CompanionCell(training, "qat", quantization=qat_quantization(bits))


def test_the_card_of_a_qat_is_no_change_of_the_fp32_model_s(companion):
    before = json.dumps(companion.study.card)
    prepared = companion.prepare(qat_cell(companion, 8))
    assert json.dumps(companion.study.card) == before
    assert companion.prepare(CompanionCell(Training(companion.base))).card == json.loads(before)
    trained = json.loads((companion.train(qat_cell(companion, 8).model) / "card.json").read_text())
    assert prepared.card == json.loads(before) | {"epochs": trained["best_epoch"]}


@torch.no_grad()
def test_methods_leave_the_fp32_model_as_it_is(companion):
    # all scores are taken without gradients: nn.LSTM may take another path there, with other last bits
    batch = make_batch(companion.documents(9), range(9))
    before = companion.study.model.class_scores(batch)
    with torch.enable_grad():
        cells = [
            CompanionCell(Training(companion.base), "dynamic_ptq"),
            CompanionCell(Training(companion.base), "static_ptq", quantization=qat_quantization(3)),
            qat_cell(companion, 3),
        ]
        prepared = [companion.prepare(cell).classifier for cell in cells]
    assert torch.equal(companion.study.model.class_scores(batch), before)
    scores = [classifier.class_scores(batch) for classifier in prepared]
    assert all(not torch.equal(found, before) for found in scores)
    assert companion.prepare(CompanionCell(Training(companion.base))).classifier is companion.study.model


def test_a_limit_takes_the_same_documents_each_time_and_no_more_than_there_are(companion):
    nine, all_of_them = companion.documents(9), companion.documents(10_000)
    assert len(nine) == 9
    assert len(all_of_them) == len(companion.documents(None)) == 60
    assert nine.labels.tolist() == companion.documents(9).labels.tolist()


def test_a_checkpoint_that_is_not_here_says_so(bert_spec, bert_artifacts, tmp_path):
    gone = replace(bert_spec.checkpoint, location=str(tmp_path / "gone"))
    moved = replace(bert_spec, checkpoint=gone, seed=9)
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*gone on this machine: put tiny there$"):
        Companion(moved, bert_artifacts).train(Training(moved))


def test_what_is_brought_is_all_that_a_cell_needs(lstm_spec, driver, bert_artifacts, tmp_path):
    """A second look builds nothing: the driver has it, and this machine has it afterwards."""
    spec = lstm_spec("generative")
    companion = Companion(spec, bert_artifacts)
    cells = [
        CompanionCell(Training(spec), "static_ptq", quantization=qat_quantization(8), limit=9),
        qat_cell(companion, 8),
    ]
    for cell in cells:
        companion.prepare(cell)
        node = Artifacts(tmp_path / cell.method, driver(bert_artifacts))
        Companion(spec, node).bring(cell)
        brought = sorted(node.root.glob("*/*/key.json"))
        alone = Artifacts(node.root)
        Companion(spec, alone).prepare(cell)
        Companion(spec, alone).prepare(CompanionCell(Training(spec)))
        Companion(spec, alone).documents(9)
        assert sorted(node.root.glob("*/*/key.json")) == brought
