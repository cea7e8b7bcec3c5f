"""Word vectors for a vocabulary: word2vec trained on the corpus, GloVe, spaCy, or any file of vectors."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import derive_seed, generator
from lstmptq.text.sources import Source, source_file
from lstmptq.text.vectors import FoundVectors, read_glove, read_packaged_glove, read_spacy, read_word2vec
from lstmptq.text.vocabulary import PAD, SPECIALS, Vocabulary

EMBEDDING_FORMS = "word2vec, glove, spacy, word2vec:PATH, glove:PATH or spacy:PIPELINE"
WORD2VEC_WIDTH = 100
WORD2VEC_EPOCHS = 10


@dataclass(frozen=True, slots=True, eq=False)
class WordVectors:
    """One vector per word of a vocabulary.

    Attributes:
        matrix: (words, dim) float32, in the order of the vocabulary; the row of the padding is zero.
        coverage: share of the ordinary words for which the source has a vector, in (0, 1].
        source: description of the vectors, with version or digest.
        found: (words,) bool, whether the row came from the source; False for the specials.
        packages: versions by name of the packages that hold or trained the vectors; empty for a file.
    """

    matrix: npt.NDArray[np.float32]
    coverage: float
    source: str
    found: npt.NDArray[np.bool_]
    packages: Mapping[str, str] = field(default_factory=dict)


def resolve_embedding(spec: str) -> Source:
    """Return the source for a kind of vectors, with an optional file or pipeline, that the user named.

    Args:
        spec: ``word2vec``, ``glove`` or ``spacy`` for the default of that kind, ``word2vec:PATH`` or
            ``glove:PATH`` for a file, ``spacy:PIPELINE`` for an installed pipeline.

    Raises:
        ValueError: if `spec` has another form.
        FileNotFoundError: if the file does not exist.
    """
    kind, colon, where = spec.partition(":")
    if kind not in ("word2vec", "glove", "spacy") or (colon and not where):
        raise ValueError(f"unknown embedding {spec!r}: use {EMBEDDING_FORMS}")
    if not where:
        return Source(kind)
    if kind == "spacy":
        return Source(kind, where, where)
    return Source.from_file(kind, Path(where).expanduser())


def load_vectors(
    source: Source,
    vocabulary: Vocabulary,
    training_tokens: Callable[[], list[list[str]]],
    seed: int,
    dim: int | None,
) -> WordVectors:
    """Look up or train the vectors of a vocabulary.

    A word that the source has only in title case or in capitals takes that vector. Words without a vector,
    and the specials other than the padding, get normal random vectors with mean zero and the standard
    deviation of all entries of the vectors found.

    Args:
        source: from :func:`resolve_embedding`.
        vocabulary: the words.
        training_tokens: returns the tokenized training split; called only when vectors are trained.
        seed: seed of trained and of random vectors.
        dim: width to reduce to by PCA (see :func:`project`); None keeps the original width.

    Raises:
        ValueError: if the source cannot be read, has no word of the vocabulary, or is narrower than `dim`.
        ModuleNotFoundError, FileNotFoundError: if the source is not on this machine.
    """
    found = _look_up(source, vocabulary.ordinary, training_tokens, seed)
    if not len(found.positions):
        raise ValueError(
            f"none of the {len(vocabulary.ordinary)} words of the vocabulary has a vector in {found.source}: "
            "check that the vectors are in the language of the corpus"
        )
    vectors = found.vectors if dim is None else project(found.vectors, dim, found.source)
    rows = found.positions + len(SPECIALS)
    shape = len(vocabulary), vectors.shape[1]
    spread = vectors.std(dtype=np.float64)
    matrix = generator("vectors", seed).normal(0.0, spread, shape).astype(np.float32)
    matrix[rows] = vectors
    matrix[PAD] = 0
    known = np.zeros(len(vocabulary), dtype=bool)
    known[rows] = True
    coverage = len(rows) / len(vocabulary.ordinary)
    return WordVectors(matrix, coverage, found.source, known, found.packages)


def project(vectors: npt.NDArray[np.float32], dim: int, source: str) -> npt.NDArray[np.float32]:
    """Project vectors onto their first `dim` principal axes after subtracting the mean.

    Vectors that already have this width are returned unchanged.

    Args:
        vectors: (n, width) vectors.
        dim: width of the result, in 1..min(n, width).
        source: description of the vectors, for the error message.

    Returns:
        (n, dim) vectors. The sign of each axis is fixed: its entry of largest magnitude is positive.

    Raises:
        ValueError: if there are fewer vectors than `dim`, or narrower ones.
    """
    count, width = vectors.shape
    if not 1 <= dim <= width:
        raise ValueError(f"embedding_dim must be in 1..{width}, the width of {source}, got {dim}")
    if dim == width:
        return vectors
    if dim > count:
        raise ValueError(
            f"embedding_dim {dim} needs at least {dim} words with a vector, but {source} has {count}"
        )
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:dim]
    # The sign of an axis is arbitrary and can differ between builds of LAPACK.
    axes *= np.sign(axes[np.arange(dim), np.abs(axes).argmax(axis=1)])[:, None]
    projected: npt.NDArray[np.float32] = (centred @ axes.T).astype(np.float32)
    return projected


def _look_up(
    source: Source, words: tuple[str, ...], training_tokens: Callable[[], list[list[str]]], seed: int
) -> FoundVectors:
    if source.name == "spacy":
        return _in_any_case(lambda forms: read_spacy(source.location, forms), words)
    if source.name in ("glove", "word2vec") and source.location:
        reader = read_glove if source.name == "glove" else read_word2vec
        path = source_file(source)
        label = f"file {path.name} sha256:{source.digest}"
        return _in_any_case(lambda forms: reader(path, forms, label), words)
    if source.name == "glove":
        return _in_any_case(read_packaged_glove, words)
    if source.name == "word2vec":
        return train_word2vec(words, training_tokens(), seed)
    raise ValueError(f"unknown embedding {source.name!r}: use {EMBEDDING_FORMS}")


def _in_any_case(read: Callable[[Sequence[str]], FoundVectors], words: tuple[str, ...]) -> FoundVectors:
    """Look up `words` in lower case, then in title case, then in capitals.

    The vocabulary is in lower case, but cased vectors have names such as Arafat and OPEC in their own case
    only. On AG News this raises the coverage of en_core_web_md from 0.91 to 0.98.
    """
    found = read([*words, *(word.title() for word in words), *(word.upper() for word in words)])
    # positions ascend, so the first form that is found wins
    positions, first = np.unique(found.positions % len(words), return_index=True)
    return FoundVectors(positions, found.vectors[first], found.source, found.packages)


def train_word2vec(words: tuple[str, ...], token_lists: list[list[str]], seed: int) -> FoundVectors:
    """Train skip-gram vectors (Mikolov et al. 2013) of `words` on tokenized documents with gensim.

    Skip-gram, because continuous bags of words need more text than these corpora have. For repeatable
    vectors, training uses one worker, since several race, and CRC-32, since Python's hash differs between
    processes.

    Args:
        words: the words to train vectors for; words that do not occur get none.
        token_lists: the tokenized training split.
        seed: seed of the training.
    """
    from gensim.models import Word2Vec

    known = set(words)
    # Words outside the vocabulary are never looked up; without them the windows span what the model reads.
    sentences = [[token for token in tokens if token in known] for tokens in token_lists]
    if not any(sentences):
        nothing = np.empty((0, WORD2VEC_WIDTH), np.float32)
        return FoundVectors(np.empty(0, np.int64), nothing, _trained_source())
    trained = Word2Vec(
        sentences, vector_size=WORD2VEC_WIDTH, window=5, min_count=1, sg=1, negative=5,
        epochs=WORD2VEC_EPOCHS, workers=1, seed=derive_seed("word2vec", seed) % 2**32,
        hashfxn=lambda text: zlib.crc32(text.encode()),
    ).wv  # fmt: skip
    places = [place for place, word in enumerate(words) if word in trained.key_to_index]
    vectors = trained[[words[place] for place in places]]
    packages = {"gensim": metadata.version("gensim")}
    return FoundVectors(np.array(places, np.int64), vectors, _trained_source(), packages)


def _trained_source() -> str:
    return f"gensim {metadata.version('gensim')} on the training split"
