"""The unigram baseline: naive Bayes by direct arithmetic, and what a sweep makes of it."""

import math

import numpy as np
import pytest

from lstmptq.models.batches import make_batch
from lstmptq.models.unigram import UnigramClassifier
from lstmptq.spec.grid import Grid
from lstmptq.spec.models import NO_VECTORS
from lstmptq.text.noise import CLEAN
from lstmptq.text.vocabulary import EncodedCorpus
from lstmptq.trial import run_cells
from tests.lstmptq.synthetic import random_corpus

# pad, unk, bos, eos, and two words; three documents, the last of another class
DOCUMENTS, LABELS = [[4, 4, 5], [4], [5, 1]], np.array([0, 0, 1], dtype=np.int32)


def encode(documents, labels):
    ends = np.cumsum([0, *map(len, documents)])
    return EncodedCorpus(np.concatenate(documents).astype(np.int32), ends, labels)


def test_the_scores_are_those_of_direct_arithmetic():
    corpus = encode(DOCUMENTS, LABELS)
    model = UnigramClassifier.from_spec(None, _rows(6), 2, _labels(corpus))
    model.count(corpus)
    # three words, the unknown one among them; counts plus one, over their sum
    shares = {0: {1: 1 / 7, 4: 4 / 7, 5: 2 / 7}, 1: {1: 2 / 5, 4: 1 / 5, 5: 2 / 5}}
    prior = {0: 3 / 5, 1: 2 / 5}
    scores = model.class_scores(make_batch(corpus, np.arange(3)))
    for document, words in enumerate(DOCUMENTS):
        for label in (0, 1):
            expected = math.log(prior[label]) + sum(math.log(shares[label][word]) for word in words)
            assert scores[document, label].item() == pytest.approx(expected, abs=1e-6)


def test_padding_changes_no_score():
    corpus = random_corpus(documents=12, vocabulary=30, classes=3, longest=9)
    model = UnigramClassifier.from_spec(None, _rows(34), 3, _labels(corpus))
    model.count(corpus)
    together = model.class_scores(make_batch(corpus, np.arange(12)))
    for document in range(12):
        alone = model.class_scores(make_batch(corpus, np.array([document])))
        assert together[document].tolist() == pytest.approx(alone[0].tolist(), abs=1e-5)


def test_a_grid_has_it_once_and_in_fp32_only():
    grid = Grid.parse(models=["unigram", "generative"], bits=["fp32", "4"], hidden=[50, 100], epochs=[1, 2])
    cells = [cell for cell in grid.cells() if cell.model.kind == "unigram"]
    assert len({cell.model for cell in cells}) == 1
    spec = cells[0].model
    assert (spec.embedding, spec.hidden, spec.layers, spec.epochs) == (NO_VECTORS, None, None, None)
    assert [cell.bits for cell in cells] == [None] * len(grid.noise)
    assert grid.left_out == ["unigram x bits 4: it has no LSTM, and is there as a baseline in FP32"]
    assert Grid.parse().left_out == []
    with pytest.raises(ValueError, match=r"no cell is left: unigram x bits 4: .*: add fp32 to the bits"):
        Grid.parse(models=["unigram"], bits=["4"])


def test_its_rows_have_what_applies(tiny_files, tmp_path):
    from lstmptq import Artifacts

    corpus, vectors = tiny_files
    noise = ["clean", "typo:0.2"]
    words = {"dataset": [str(corpus)], "embeddings": [f"glove:{vectors}"]}
    grid = Grid.parse(models=["unigram"], noise=noise, **words)
    clean, noisy = run_cells(grid.cells(), Artifacts(tmp_path))
    assert (grid.noise[0], clean.row["noise"], noisy.row["noise"]) == (CLEAN, "clean", "typo")
    for finished in (clean, noisy):
        row = finished.row
        assert row["status"] == "ok", row["error"]
        said = ("model", "embedding", "method", "bits")
        assert [row[name] for name in said] == ["unigram", "none", "fp32", None]
        absent = ("embedding_source", "embedding_dim", "embedding_coverage", "hidden", "layers", "epochs")
        assert [row[name] for name in absent] == [None] * 6
        assert (row["dead_signal"], row["float_reference_accuracy"]) == (None, None)
        assert row["eligible_parameters"] == 0
        assert row["accuracy"] == row["fp32_accuracy"]
        assert finished.tensors == []
        assert len(finished.predictions["predicted"]) == row["documents"] == 30
    assert clean.row["accuracy"] > 0.9  # the topics have words of their own


def _rows(words):
    import torch

    return torch.zeros(words, 0)


def _labels(corpus):
    import torch

    return torch.from_numpy(corpus.labels.astype(np.int64))
