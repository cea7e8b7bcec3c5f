"""Draws never change: a cell names them by its seed alone, so that others would be other data under its name.

A list here that has to change means a new ARTIFACT_VERSION in lstmptq/artifacts.py and a new SCHEMA_VERSION.
Noise has a list of its own in tests/lstmptq/text/test_noise.py.
"""

import numpy as np
import pytest
import torch

from lstmptq.model_assets import ModelAssets, evaluated_documents
from lstmptq.models.batches import shuffled_batches
from lstmptq.models.training import new_model
from lstmptq.seeds import derive_seed, generator
from lstmptq.text.calibration import sample_calibration_set
from lstmptq.text.corpora import Corpus, draw_training_sample, load_corpus, resolve_corpus
from tests.lstmptq.synthetic import random_corpus

LABELS = np.repeat([0, 1], [12, 8])


def test_seeds():
    assert derive_seed("calibration", 0, "class", 3) == 6142394640074920565
    assert derive_seed("noise", 0, 7) == 603481969142006289
    assert derive_seed("x", None, 0.5) == 6901979834373936472
    assert generator("split", 0).integers(0, 1000, 5).tolist() == [362, 876, 646, 576, 167]


@pytest.mark.parametrize(
    ("given", "seed", "splits"),
    [
        (False, 0, "........vt.t..v..tt."),
        (False, 1, "...v....t.t.vtt....."),
        (True, 0, "t...tv..t...t...t.v."),
    ],
)
def test_splits(tmp_path, given, seed, splits):
    lines = [f"text {i},{label},{'test' if i % 4 == 0 else 'train'}" for i, label in enumerate(LABELS)]
    if not given:
        lines = [line.rpartition(",")[0] for line in lines]
    path = tmp_path / "made_up.csv"
    path.write_text("\n".join(["text,label,split" if given else "text,label", *lines]) + "\n")
    corpus = load_corpus(resolve_corpus(str(path)), seed)
    signs = {"train": ".", "valid": "v", "test": "t"}
    assert "".join(signs[split] for split in corpus.split.tolist()) == splits


@pytest.mark.parametrize(
    ("documents", "seed", "chosen"),
    [
        (6, 0, [2, 3, 10, 11, 15, 16]),
        (9, 0, [2, 3, 5, 8, 10, 11, 15, 16, 17]),
        (6, 1, [0, 1, 7, 10, 15, 16]),
    ],
)
def test_training_samples(documents, seed, chosen):
    split = np.where(np.arange(20) % 5 == 4, "test", "train")
    corpus = Corpus("made_up", tuple(map(str, range(20))), LABELS, split, ("a", "b"))
    assert draw_training_sample(corpus, documents, seed).tolist() == chosen


@pytest.mark.parametrize(
    ("ratio", "draw", "chosen"),
    [
        ("balanced", 0, [9, 28, 8, 22, 12, 23]),
        ("classes:1", 0, [15, 9, 18, 24, 27, 12]),
        ("0.5,0.3,0.2", 0, [9, 28, 24, 22, 12, 23]),
        ("balanced", 1, [14, 24, 27, 22, 28, 2]),
    ],
)
def test_calibration_sets(ratio, draw, chosen):
    assert sample_calibration_set(np.tile([0, 1, 2], 10), 3, ratio, 6, 0, draw).tolist() == chosen


def test_evaluated_documents():
    assert evaluated_documents(20, 6, 0).tolist() == [0, 9, 11, 13, 17, 18]
    assert evaluated_documents(20, 6, 1).tolist() == [0, 1, 9, 11, 12, 19]
    assert evaluated_documents(5, None, 0).tolist() == [0, 1, 2, 3, 4]


def test_shift_documents(tiny_spec, tiny_artifacts):
    assets = ModelAssets(tiny_spec("discriminative"), tiny_artifacts)
    assert assets.shift_documents(12, 5).tolist() == [2, 13, 16, 18, 26]
    assert assets.shift_documents(None, 5).tolist() == [1, 2, 8, 15, 29]


def test_the_order_of_an_epoch():
    corpus = random_corpus(documents=9, vocabulary=20, classes=2, longest=7)
    batches = shuffled_batches(corpus, generator("epoch", 0, 1), 4)
    assert [batch.index.tolist() for batch in batches] == [[1], [5, 0, 7, 6], [3, 8, 4, 2]]


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
def test_initial_weights(kind, tiny_spec):
    model = new_model(tiny_spec(kind), torch.zeros(9, 8), 3, torch.tensor([0, 1, 2]))
    assert model.lstm.weight_hh_l0[0, :3].tolist() == pytest.approx([0.281708, 0.147377, -0.159079], abs=1e-6)
