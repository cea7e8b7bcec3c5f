"""The generative classifier makes its scorer when evaluation starts, and scores under its weights of then."""

import copy
import pickle

import numpy as np
import pytest
import torch

from lstmptq.models import generative
from lstmptq.models.batches import make_batch
from lstmptq.models.scoring import LabelScorer
from lstmptq.models.training import validate
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=200, vocabulary=307, classes=4, longest=11)
BATCH = make_batch(CORPUS, np.arange(9))


@pytest.fixture
def made(monkeypatch):
    """A list that grows by one with every scorer that is made."""
    found = []

    class Counted(LabelScorer):
        def __init__(self, *arguments):
            found.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(generative, "LabelScorer", Counted)
    return found


def changed_weights(seed=3):
    """The weights of another model of the same shape."""
    other = random_model("generative")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return other.state_dict()


def load(model):
    model.load_state_dict(changed_weights())


def assign(model):
    model.load_state_dict(changed_weights(), assign=True)


def load_from_outside(model):
    torch.nn.ModuleDict({"part": model}).load_state_dict(
        {f"part.{name}": value for name, value in changed_weights().items()}
    )


@torch.no_grad()
def change_in_place(model):
    model.decoder.weight.mul_(0.5)


@torch.no_grad()
def change_a_label_in_place(model):
    model.label_embedding.weight[1] += 1


def replace_a_weight(model):
    model.label_embedding.weight = torch.nn.Parameter(changed_weights()["label_embedding.weight"])


def train_a_step(model):
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.1, fused=True)
    model.loss(BATCH).backward()
    optimizer.step()
    model.eval()


def train_a_step_without_train_mode(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    model.loss(BATCH).backward()
    optimizer.step()


def fill_behind_torch_s_back(model):
    model.decoder.weight.data.mul_(0.5)  # no version of the weight tells


@torch.no_grad()
def test_an_evaluator_makes_it_once(made):
    evaluator = random_model("generative").evaluator()
    first = [evaluator.class_scores(BATCH) for _ in range(3)][-1]
    assert len(made) == 1
    assert torch.equal(first, random_model("generative").class_scores(BATCH))


def test_a_whole_corpus_is_validated_by_one(made):
    validate(random_model("generative"), CORPUS)
    assert len(made) == 1


@pytest.mark.parametrize(
    "change",
    [
        load,
        assign,
        load_from_outside,
        change_in_place,
        change_a_label_in_place,
        replace_a_weight,
        train_a_step,
        train_a_step_without_train_mode,
        fill_behind_torch_s_back,
    ],
)
def test_a_model_scores_under_its_weights_of_now(change):
    model = random_model("generative")
    with torch.no_grad():
        before = model.class_scores(BATCH)
    change(model)
    with torch.no_grad():
        after = model.class_scores(BATCH)
        fresh = random_model("generative")
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(after, fresh.class_scores(BATCH))
    assert not torch.equal(after, before)


def test_it_follows_the_model_to_another_precision():
    model = random_model("generative")
    model.class_scores(BATCH)
    assert model.double().class_scores(BATCH).dtype == torch.float64


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()
def test_a_copy_has_weights_of_its_own(copied):
    model = random_model("generative")
    before = model.class_scores(BATCH)
    other = copied(model)
    change_in_place(other)
    assert not torch.equal(other.class_scores(BATCH), before)
    assert torch.equal(model.class_scores(BATCH), before)


def test_it_is_no_part_of_the_weights():
    model = random_model("generative")
    names = set(model.state_dict())
    model.evaluator().class_scores(BATCH)
    assert set(model.state_dict()) == names
