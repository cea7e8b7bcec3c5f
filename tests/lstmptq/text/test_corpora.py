"""Corpora: names and files, duplicates, splits, nested training samples."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmptq.text.corpora import Corpus, draw_training_sample, load_corpus, resolve_corpus
from lstmptq.text.sources import Source
from lstmptq.text.vocabulary import clean


@pytest.fixture
def source(tmp_path):
    """Write columns as a Parquet file and name it as a source."""

    def write(**columns):
        pl.DataFrame(columns).write_parquet(tmp_path / "small.parquet")
        return resolve_corpus(str(tmp_path / "small.parquet"))

    return write


def splits_of(corpus):
    return dict(zip(corpus.texts, corpus.split.tolist(), strict=True))


@pytest.mark.parametrize("name", ["bbc_news", "ag_news", "dbpedia_14", "emotion"])
def test_named_corpora(name):
    assert resolve_corpus(name) == Source(name)


def test_files_are_named_by_stem_and_content(tmp_path, monkeypatch):
    for name in ("mine.parquet", "mine.CSV"):
        (tmp_path / name).write_text("content")
    found = resolve_corpus(str(tmp_path / "mine.parquet"))
    assert (found.name, found.digest) == ("mine", "ed7002b439e9ac84")
    assert found.location == str(tmp_path / "mine.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("mine.parquet", "./mine.CSV", "~/mine.parquet"):
        assert resolve_corpus(spec) == found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reuters", "unknown corpus 'reuters': "),
        ("", "unknown corpus '': "),
        ("data/reuters.txt", "unknown file 'data/reuters.txt': "),
        ("data/reuters", "unknown file 'data/reuters': "),
    ],
)
def test_what_is_neither_name_nor_file(spec, message):
    rest = (
        "use one of bbc_news, ag_news, dbpedia_14, emotion, or the path of a .parquet or .csv file "
        "with the columns text and label"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message + rest)}$"):
        resolve_corpus(spec)


def test_a_path_without_a_file():
    with pytest.raises(FileNotFoundError, match=r"^no file no/such\.csv: give the path of an existing file$"):
        resolve_corpus("no/such.csv")


def test_a_source_that_nobody_resolved():
    message = "unknown corpus 'reuters': use one of bbc_news, ag_news, dbpedia_14, emotion, or a file"
    with pytest.raises(ValueError, match=f"^{message}$"):
        load_corpus(Source("reuters"), 0)


@pytest.fixture(scope="module")
def bbc_news():
    return load_corpus(resolve_corpus("bbc_news"), 0)


def test_bbc_news(bbc_news):
    assert bbc_news.name == "bbc_news"
    assert bbc_news.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert len(bbc_news.texts) == len(bbc_news.labels) == len(bbc_news.split) == 2124
    assert len({clean(text) for text in bbc_news.texts}) == 2124
    assert bbc_news.labels.dtype == np.int64


def test_splits_are_70_10_20_class_by_class(bbc_news):
    for label in range(5):
        split = bbc_news.split[bbc_news.labels == label]
        for part, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
            assert abs((split == part).sum() - share * len(split)) <= 1


def test_the_split_is_the_seed_s(bbc_news):
    again, other = (load_corpus(resolve_corpus("bbc_news"), seed) for seed in (0, 1))
    assert np.array_equal(again.split, bbc_news.split)
    assert again.texts == bbc_news.texts == other.texts
    both = ((other.split == "test") & (bbc_news.split == "test")).sum() / (bbc_news.split == "test").sum()
    assert 0.1 < both < 0.3  # as chance has it


def test_the_first_of_equal_documents_stays(source):
    texts = ["Oil  UP", "oil up", "gas", "&quot;gas&quot;", '"gas"', *"abcdefghij"]
    corpus = load_corpus(source(text=texts, label=[0, 1, 0, 1, 0, *([0, 1] * 5)]), 0)
    assert corpus.texts == ("Oil  UP", "gas", "&quot;gas&quot;", *"abcdefghij")
    assert corpus.labels[:3].tolist() == [0, 0, 1]


def test_no_document_is_in_two_splits(source):
    rows = [
        ("a", "train"), ("A ", "valid"), ("a\t", "test"),
        ("b", "train"), ("B", "valid"),
        ("c", "valid"), ("C", "train"),
        ("d", "test"), ("D", "train"), ("e", "train"), ("f", "train"), ("F", "train"),
        ("G", "test"), ("g", "test"),
    ]  # fmt: skip
    texts, splits = zip(*rows, strict=True)
    corpus = load_corpus(source(text=texts, label=[0, 1] * 7, split=splits), 0)
    assert splits_of(corpus) == {
        "a\t": "test", "B": "valid", "c": "valid", "d": "test", "e": "train", "f": "train", "G": "test",
    }  # fmt: skip


def test_given_splits_are_kept_whatever_the_seed(source):
    given = ["train", "train", "dev", "test"] * 3
    found = source(text=list("abcdefghijkl"), label=[0, 1, 0, 1] * 3, split=given)
    for seed in (0, 1):
        assert load_corpus(found, seed).split.tolist() == ["train", "train", "valid", "test"] * 3


def test_a_missing_valid_split_is_carved_out_of_train(source):
    texts = [f"document {i}" for i in range(300)]
    labels = [0] * 200 + [1] * 100
    given = (["train"] * 80 + ["test"] * 20) * 3
    found = source(text=texts, label=labels, split=given)
    a, b = load_corpus(found, 0), load_corpus(found, 1)
    for corpus in (a, b):
        assert ((corpus.split == "test") == (np.array(given) == "test")).all()
        assert [((corpus.split == "valid") & (corpus.labels == label)).sum() for label in (0, 1)] == [16, 8]
    assert (a.split != b.split).any()


def test_small_classes_are_in_every_split(source):
    corpus = load_corpus(source(text=list("abcdef"), label=[0, 0, 0, 1, 1, 1]), 0)
    for label in (0, 1):
        assert sorted(corpus.split[corpus.labels == label].tolist()) == ["test", "train", "valid"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["a", "b", "c"], "label": [0, 1, 1]},
            "the valid split of small is empty; the corpus has 3 documents: give more documents",
        ),
        (
            {"text": ["a", "A", "b"], "label": [0, 1, 1], "split": ["train", "test", "test"]},
            "the train split of small is empty; the corpus has 2 documents: give more documents",
        ),
        (
            {
                "text": list("abcd"),
                "label": ["x", "x", "y", "x"],
                "split": ["train", "valid", "test", "test"],
            },
            "the training split of small has no document of the class 'y': give every class at least one",
        ),
    ],
)
def test_a_corpus_too_small_is_refused(source, columns, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_corpus(source(**columns), 0)


def test_a_file_that_changed_is_refused(source, tmp_path):
    found = source(text=list("abcdef"), label=[0, 1] * 3)
    (tmp_path / "small.parquet").write_bytes(b"other")
    with pytest.raises(ValueError, match="changed while it was in use"):
        load_corpus(found, 0)


def test_the_extra_corpora(shared_corpus):
    corpus = load_corpus(resolve_corpus(str(shared_corpus("emotion"))), 0)
    assert corpus.classes == ("anger", "fear", "joy", "love", "sadness", "surprise")
    assert (corpus.split == "test").sum() == 2000  # its duplicates in train are dropped there
    assert len({clean(text) for text in corpus.texts}) == len(corpus.texts) == 19948


def made_up(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    split = np.where(np.arange(len(labels)) % 5 == 4, "test", "train")
    split[[int(np.flatnonzero(labels == name)[0]) for name in range(len(counts))]] = "train"
    names = tuple(map(str, range(len(counts))))
    return Corpus("made_up", tuple(map(str, range(len(labels)))), labels, split, names)


COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=6)


@given(COUNTS, st.data(), st.integers(0, 2**40))
def test_training_samples_are_nested_and_stratified(counts, data, seed):
    corpus = made_up(counts)
    train = np.flatnonzero(corpus.split == "train")
    sizes = st.integers(len(counts), len(train))
    small, large = sorted([data.draw(sizes), data.draw(sizes)])
    a, b = (draw_training_sample(corpus, size, seed) for size in (small, large))
    assert (len(a), len(b)) == (small, large)
    assert set(a.tolist()) <= set(b.tolist()) <= set(train.tolist())
    assert (np.diff(a) > 0).all()
    had = np.bincount(corpus.labels[train])
    got = np.bincount(corpus.labels[a], minlength=len(counts))
    assert (got >= 1).all()
    # There is a depth t that every class has reached, and none has passed by a whole document.
    assert ((got - 1) / had).max() <= (got / had).min() + 1e-12


def test_a_training_sample_is_the_seed_s():
    corpus = made_up([60, 60])
    assert np.array_equal(draw_training_sample(corpus, 30, 0), draw_training_sample(corpus, 30, 0))
    assert not np.array_equal(draw_training_sample(corpus, 30, 0), draw_training_sample(corpus, 30, 1))
    train = np.flatnonzero(corpus.split == "train")
    assert np.array_equal(draw_training_sample(corpus, None, 0), train)
    assert np.array_equal(draw_training_sample(corpus, len(train), 1), train)


@pytest.mark.parametrize("documents", [1, 97, 0])
def test_a_training_sample_out_of_range(documents):
    corpus = made_up([60, 60])
    message = (
        "training_documents must be in 2..96 for made_up (from one per class to the whole training split), "
        f"got {documents}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        draw_training_sample(corpus, documents, 0)
