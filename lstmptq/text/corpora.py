"""Corpora by name or file, deduplicated, with numbered classes and splits that depend on the seed alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import generator
from lstmptq.text.readers import (
    FILE_SUFFIXES,
    HUB_CORPORA,
    NAMED_CORPORA,
    RawCorpus,
    read_bbc_news,
    read_file,
    read_hub,
)
from lstmptq.text.sources import Source, source_file
from lstmptq.text.vocabulary import clean

SPLITS = ("train", "valid", "test")
VALID_SHARE, TEST_SHARE = 0.1, 0.2  # for a corpus without splits
CARVED_SHARE = 0.1  # taken from the training split where there is no validation split


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A classification corpus without duplicates.

    Attributes:
        name: name of the source.
        texts: the n texts, unchanged.
        labels: (n,) int64 in 0..C-1.
        split: (n,) strings, each one of train, valid or test.
        classes: the C class names, in the order of the labels.
        packages: versions by name of the packages that hold the corpus; empty for a file.
    """

    name: str
    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    classes: tuple[str, ...]
    packages: Mapping[str, str] = field(default_factory=dict)


def resolve_corpus(spec: str) -> Source:
    """Return the source for a corpus or a file that the user named.

    Args:
        spec: one of ``NAMED_CORPORA``, or the path of a .parquet or .csv file.

    Raises:
        ValueError: if `spec` is neither.
        FileNotFoundError: if `spec` is a path and the file does not exist.
    """
    if spec in NAMED_CORPORA:
        return Source(spec)
    path = Path(spec).expanduser()
    if path.suffix.lower() not in FILE_SUFFIXES:
        kind = "file" if os.sep in spec or "/" in spec else "corpus"
        raise ValueError(
            f"unknown {kind} {spec!r}: use one of {', '.join(NAMED_CORPORA)}, or the path of a .parquet or "
            ".csv file with the columns text and label"
        )
    return Source.from_file(path.stem, path)


def load_corpus(source: Source, seed: int) -> Corpus:
    """Read a corpus, drop duplicates and split it.

    Documents with equal cleaned texts are duplicates. The first one is kept, except that a document in the
    test split takes precedence over one in valid, and valid over train. A corpus without splits is divided
    into 70 % train, 10 % valid and 20 % test within each class; a corpus without a validation split gets one
    from 10 % of train.

    Args:
        source: from :func:`resolve_corpus`.
        seed: seed of the split.

    Raises:
        ValueError: if the source is unknown, has unsuitable content, or is too small to split.
        ModuleNotFoundError, ConnectionError, FileNotFoundError: if the source is not available on this
            machine.
    """
    if source.location:
        found = read_file(source_file(source))
    elif source.name == "bbc_news":
        found = read_bbc_news()
    elif source.name in HUB_CORPORA:
        found = read_hub(source.name)
    else:
        raise ValueError(f"unknown corpus {source.name!r}: use one of {', '.join(NAMED_CORPORA)}, or a file")
    kept = _find_unique(found)
    labels = np.array(found.labels, dtype=np.int64)[kept]
    split = _split(labels, None if found.splits is None else np.array(found.splits)[kept], seed)
    _check_splits(source.name, labels, split, found.classes)
    texts = tuple(found.texts[i] for i in kept)
    return Corpus(source.name, texts, labels, split, found.classes, found.packages)


def draw_training_sample(corpus: Corpus, documents: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Draw a stratified sample of the training split; a larger sample contains every smaller one.

    Args:
        corpus: the corpus to sample.
        documents: sample size, at least one per class; None takes the whole training split.
        seed: seed of the sample.

    Returns:
        (documents,) indices into ``corpus.texts``, ascending. Each class has its share, rounded up or down.

    Raises:
        ValueError: if `documents` exceeds the training split, or is less than the number of classes.
    """
    train = np.flatnonzero(corpus.split == "train")
    if documents is None:
        return train
    if not len(corpus.classes) <= documents <= len(train):
        raise ValueError(
            f"training_documents must be in {len(corpus.classes)}..{len(train)} for {corpus.name} (from one "
            f"per class to the whole training split), got {documents}"
        )
    labels = corpus.labels[train]
    depth = np.empty(len(train))
    for name in range(len(corpus.classes)):
        members = np.flatnonzero(labels == name)
        order = generator("training sample", seed, "class", name).permutation(members)
        depth[order] = np.arange(len(members)) / len(members)
    # Each class is spread evenly over the depths 0..1, so any prefix of this order is stratified, and it
    # begins with one document of each class.
    return np.sort(train[np.argsort(depth, kind="stable")[:documents]])


def _find_unique(found: RawCorpus) -> list[int]:
    """Return the indices of the documents to keep, ascending."""
    order = list(range(len(found.texts)))
    if found.splits is not None:
        splits = found.splits
        order.sort(key=lambda i: -SPLITS.index(splits[i]))  # stable: within a split the first occurrence wins
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(clean(found.texts[i]), i)
    return sorted(first.values())


def _split(
    labels: npt.NDArray[np.int64], given: npt.NDArray[np.str_] | None, seed: int
) -> npt.NDArray[np.str_]:
    """Return the (n,) splits: the given ones, completed where splits are missing."""
    if given is not None and (given == "valid").any():
        return given
    split = np.full(len(labels), "train") if given is None else given.astype("<U5")
    shares = {"test": TEST_SHARE, "valid": VALID_SHARE} if given is None else {"valid": CARVED_SHARE}
    for name in np.unique(labels).tolist():
        members = np.flatnonzero((labels == name) & (split == "train"))
        order = generator("split", seed, "class", name).permutation(members)
        start = 0
        for part, share in shares.items():
            count = int(len(members) * share + 0.5)
            if len(members) > len(shares):
                count = max(count, 1)  # a class that can be in every split is in every split
            split[order[start : start + count]] = part
            start += count
    return split


def _check_splits(
    name: str, labels: npt.NDArray[np.int64], split: npt.NDArray[np.str_], classes: tuple[str, ...]
) -> None:
    for part in SPLITS:
        if not (split == part).any():
            raise ValueError(
                f"the {part} split of {name} is empty; the corpus has {len(split)} documents: "
                "give more documents"
            )
    absent = np.flatnonzero(np.bincount(labels[split == "train"], minlength=len(classes)) == 0)
    if len(absent):
        raise ValueError(
            f"the training split of {name} has no document of the class {classes[absent[0]]!r}: "
            "give every class at least one"
        )
