"""Corpora by name or file: deduplicated, numbered, split once and for all by the seed."""

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
VALID_SHARE, TEST_SHARE = 0.1, 0.2  # of a corpus that comes without splits
CARVED_SHARE = 0.1  # of the training split of a corpus that comes without a valid split


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A classification corpus without duplicates.

    Attributes:
        name: the source's name.
        texts: n texts, as they came.
        labels: (n,) int64 in 0..C-1.
        split: (n,) strings, each one of train, valid, test.
        classes: C names, in the order of the labels.
        packages: versions of the packages it came from, by name; none for a file.
    """

    name: str
    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    classes: tuple[str, ...]
    packages: Mapping[str, str] = field(default_factory=dict)


def resolve_corpus(spec: str) -> Source:
    """Find what the user named: a corpus by name, or a file.

    Args:
        spec: one of ``NAMED_CORPORA``, or the path of a .parquet or .csv file.

    Raises:
        ValueError: if it is neither.
        FileNotFoundError: if it is a path and there is no such file.
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

    Documents whose cleaned texts are equal are one document: the first one stays, and where they lie in
    different splits the one in test stays rather than in valid, and in valid rather than in train. A corpus
    without splits gets 70 % train, 10 % valid and 20 % test, class by class; one without a valid split gives
    10 % of train to it.

    Args:
        source: from :func:`resolve_corpus`.
        seed: of the split.

    Raises:
        ValueError: if the source is unknown, its content is unsuitable, or it is too small to split.
        ModuleNotFoundError, ConnectionError, FileNotFoundError: if the source is not to be had here.
    """
    if source.location:
        found = read_file(source_file(source))
    elif source.name == "bbc_news":
        found = read_bbc_news()
    elif source.name in HUB_CORPORA:
        found = read_hub(source.name)
    else:
        raise ValueError(f"unknown corpus {source.name!r}: use one of {', '.join(NAMED_CORPORA)}, or a file")
    kept = _without_duplicates(found)
    labels = np.array(found.labels, dtype=np.int64)[kept]
    split = _split(labels, None if found.splits is None else np.array(found.splits)[kept], seed)
    _check_splits(source.name, labels, split, found.classes)
    texts = tuple(found.texts[i] for i in kept)
    return Corpus(source.name, texts, labels, split, found.classes, found.packages)


def draw_training_sample(corpus: Corpus, documents: int | None, seed: int) -> npt.NDArray[np.int64]:
    """A stratified part of the training split; a smaller sample is contained in a larger one.

    Args:
        corpus: where to choose.
        documents: how many, at least one a class; None takes all.
        seed: of the choice.

    Returns:
        (documents,) indices into ``corpus.texts``, ascending. Each class has its share, rounded up or down.

    Raises:
        ValueError: if there are fewer documents than asked, or fewer are asked than there are classes.
    """
    train = np.flatnonzero(corpus.split == "train")
    if documents is None:
        return train
    if not len(corpus.classes) <= documents <= len(train):
        raise ValueError(
            f"training_documents must be in {len(corpus.classes)}..{len(train)} for {corpus.name} (from one "
            f"a class to the whole training split), got {documents}"
        )
    labels = corpus.labels[train]
    depth = np.empty(len(train))
    for name in range(len(corpus.classes)):
        members = np.flatnonzero(labels == name)
        order = generator("training sample", seed, "class", name).permutation(members)
        depth[order] = np.arange(len(members)) / len(members)
    # Every class reaches the depth t with its share of t: the head of this order is stratified at any length,
    # and its first documents are one of each class.
    return np.sort(train[np.argsort(depth, kind="stable")[:documents]])


def _without_duplicates(found: RawCorpus) -> list[int]:
    """Indices of the documents that stay, ascending."""
    order = list(range(len(found.texts)))
    if found.splits is not None:
        splits = found.splits
        order.sort(key=lambda i: -SPLITS.index(splits[i]))  # stable: first occurrence first within a split
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(clean(found.texts[i]), i)
    return sorted(first.values())


def _split(
    labels: npt.NDArray[np.int64], given: npt.NDArray[np.str_] | None, seed: int
) -> npt.NDArray[np.str_]:
    """(n,) the split of each document: the given one, completed where parts are missing."""
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
                count = max(count, 1)  # a class large enough to be in every split is in every split
            split[order[start : start + count]] = part
            start += count
    return split


def _check_splits(
    name: str, labels: npt.NDArray[np.int64], split: npt.NDArray[np.str_], classes: tuple[str, ...]
) -> None:
    for part in SPLITS:
        if not (split == part).any():
            raise ValueError(
                f"the {part} split of {name} is empty, of {len(split)} documents: give more documents"
            )
    absent = np.flatnonzero(np.bincount(labels[split == "train"], minlength=len(classes)) == 0)
    if len(absent):
        raise ValueError(
            f"the training split of {name} has no document of the class {classes[absent[0]]!r}: "
            "give every class at least one"
        )
