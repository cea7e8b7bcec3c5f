"""Calibration sets by class ratio: nested prefixes of one permutation a class, under one budget.

Whatever the ratio, a class contributes the first so many documents of its one permutation. Two calibration
sets therefore differ by their shares alone, never by the luck of a second draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import generator

RATIO_KINDS = ("balanced", "natural", "classes", "head", "explicit")
RATIO_FORMS = "balanced, natural, classes:K, head:P, or one share a class such as 0.4,0.3,0.1,0.1,0.1"
LARGEST_DEFAULT_BUDGET = (
    512  # documents; observation costs grow with it and the statistics settle well before
)
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class ClassRatio:
    """Shares of the classes in a calibration set, before the number of classes is known.

    Attributes:
        kind: ``balanced`` (all even), ``natural`` (as the corpus has them), ``classes`` (the first so many
            even, the rest absent), ``head`` (class 0 has a share of its own, the others split the rest
            evenly) or ``explicit``. Classes are in the corpus' order: a file's by number or alphabet, BBC
            News' by alphabet, the hub's own for a named corpus of the hub, which may be another.
        count: classes that take part, at least 1; ``classes`` only.
        head: share of class 0, in (0, 1); ``head`` only.
        explicit: one share a class, non-negative, adding up to 1; ``explicit`` only.

    Raises:
        ValueError: if a value is out of range.
    """

    kind: str = "balanced"
    count: int = 0
    head: float = 0.0
    explicit: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in RATIO_KINDS:
            raise ValueError(
                f"the kind of a class ratio must be one of {', '.join(RATIO_KINDS)}, got {self.kind!r}"
            )
        if self.kind == "classes" and self.count < 1:
            raise ValueError(f"classes:K needs K of at least 1, got {self.count}: use {RATIO_FORMS}")
        if self.kind == "head" and not 0 < self.head < 1:
            raise ValueError(f"head:P needs P in (0, 1), got {self.head}: use {RATIO_FORMS}")
        if self.kind == "explicit":
            self._check_explicit()
            # -0.0 is 0.0, and must be spelled like it
            object.__setattr__(self, "explicit", tuple(abs(float(share)) for share in self.explicit))

    def _check_explicit(self) -> None:
        listed = _format_shares(self.explicit)
        if len(self.explicit) < 2:
            raise ValueError(f"a list of shares needs at least 2, got {listed!r}: use {RATIO_FORMS}")
        if not all(0 <= share <= 1 for share in self.explicit):
            raise ValueError(f"every share must be in [0, 1], got {listed!r}: use {RATIO_FORMS}")
        total = math.fsum(self.explicit)
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the shares must add up to 1, got {listed!r} which add up to {total:.9g}")

    def shares(self, classes: int, available: Sequence[int] | None = None) -> tuple[float, ...]:
        """The share of each of `classes` classes; they add up to 1.

        Args:
            classes: number of classes.
            available: documents of each class that may be chosen; ``natural`` only, which needs them.

        Raises:
            ValueError: if the ratio does not suit that many classes.
        """
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if self.kind == "natural":
            if available is None or len(available) != classes or sum(available) < 1:
                raise ValueError(
                    f"natural needs the documents of each of {classes} classes, at least 1 in all, "
                    f"got {available}"
                )
            whole = sum(available)
            return tuple(count / whole for count in available)
        if self.kind == "balanced":
            return (1 / classes,) * classes
        if self.kind == "classes":
            if self.count > classes:
                raise ValueError(
                    f"classes:{self.count} asks for more classes than the corpus has, which is {classes}: "
                    f"use classes:1 to classes:{classes}"
                )
            return (1 / self.count,) * self.count + (0.0,) * (classes - self.count)
        if self.kind == "head":
            if classes < 2:
                raise ValueError(f"{self} needs at least 2 classes, the corpus has {classes}")
            return (self.head,) + ((1 - self.head) / (classes - 1),) * (classes - 1)
        if len(self.explicit) != classes:
            raise ValueError(
                f"{len(self.explicit)} shares for {classes} classes: give one share a class, in order"
            )
        total = math.fsum(self.explicit)
        return tuple(share / total for share in self.explicit)

    def __str__(self) -> str:
        """The one spelling of this ratio, which `parse_class_ratio` reads back."""
        return {
            "balanced": "balanced",
            "natural": "natural",
            "classes": f"classes:{self.count}",
            "head": f"head:{_format_share(self.head)}",
            "explicit": _format_shares(self.explicit),
        }[self.kind]


def _format_shares(shares: tuple[float, ...]) -> str:
    return ",".join(map(_format_share, shares))


def _format_share(share: float) -> str:
    """The six digits of ``:g`` where they are the number, or else all that it takes to read it back.

    The short form comes first because it names the cells of before: 1, not 1.0.
    """
    short = f"{share:g}"
    return short if float(short) == share else repr(float(share))


def parse_class_ratio(ratio: str) -> ClassRatio:
    """Read a class ratio: ``balanced``, ``natural``, ``classes:K``, ``head:P`` or a comma list of shares.

    Raises:
        ValueError: if `ratio` has another form or a value is out of range.
    """
    kind, _, value = ratio.partition(":")
    try:
        if ratio in ("balanced", "natural"):
            return ClassRatio(ratio)
        if kind == "classes":
            return ClassRatio("classes", count=_parse_int(value))
        if kind == "head":
            return ClassRatio("head", head=_parse_float(value))
        if "," in ratio:
            shares = tuple(_parse_float(part) for part in ratio.split(","))
            return ClassRatio("explicit", explicit=shares)
    except ValueError as problem:
        raise ValueError(f"bad class ratio {ratio!r}: {problem}") from None
    raise ValueError(f"unknown class ratio {ratio!r}: use {RATIO_FORMS}")


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number: use {RATIO_FORMS}") from None


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number: use {RATIO_FORMS}") from None


def allocate_documents(shares: tuple[float, ...], budget: int) -> npt.NDArray[np.int64]:
    """Documents of each class: `shares` of `budget` by largest remainder, ties to the lower class.

    Args:
        shares: one share a class, adding up to 1.
        budget: documents in all.

    Returns:
        (classes,) counts that add up to `budget`, each less than 1 away from its exact share.
    """
    quotas = np.array(shares) * budget
    counts: npt.NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    # Remainders that are equal on paper must tie: 0.1 * 14 and 0.6 * 14 both leave 0.4, give or take a bit.
    remainders = np.round(quotas - counts, 9)
    counts[np.argsort(-remainders, kind="stable")[: budget - counts.sum()]] += 1
    return counts


def sample_calibration_set(
    labels: npt.NDArray[np.int64], classes: int, ratio: str, documents: int | None, seed: int, draw: int = 0
) -> npt.NDArray[np.int64]:
    """Choose the calibration documents among `labels`' documents.

    Args:
        labels: (n,) class of each document that may be chosen, in 0..classes-1.
        classes: number of classes.
        ratio: shares of the classes, see :func:`parse_class_ratio`.
        documents: how many to choose, the same for every ratio; None takes as many as the smallest class
            has, at most 512, so that every ratio can be met.
        seed: of the permutations. A class' permutation depends on it, the draw and the class alone.
        draw: 0 for the one calibration set of a seed; 1, 2, ... for others, which show what luck does.

    Returns:
        (documents,) distinct indices into `labels`, shuffled. Any two documents stand in the same order in
        every calibration set of one seed.

    Raises:
        ValueError: if the ratio does not suit the classes, or a class has fewer documents than asked.
    """
    if documents is not None and documents < 1:
        raise ValueError(f"a calibration set needs at least 1 document, got {documents}")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    available = np.bincount(labels, minlength=classes)
    shares = parse_class_ratio(ratio).shares(classes, available.tolist())
    if documents is None:
        documents = min(int(available.min()), LARGEST_DEFAULT_BUDGET)
        if documents == 0:
            raise ValueError(
                f"class {available.argmin()} has no document to calibrate with: "
                "give the number of calibration documents, and a class ratio without that class"
            )
    origin: tuple[str | int, ...] = (
        ("calibration", seed) if draw == 0 else ("calibration", seed, "draw", draw)
    )
    chosen = []
    for name, asked in enumerate(allocate_documents(shares, documents).tolist()):
        if asked > available[name]:
            raise ValueError(
                f"class ratio {ratio!r} with {documents} documents asks class {name} for {asked}, "
                f"and it has {available[name]}: ask for fewer calibration documents"
            )
        members = np.flatnonzero(labels == name)
        chosen.append(generator(*origin, "class", name).permutation(members)[:asked])
    index = np.concatenate(chosen)
    rank = generator(*origin, "order").permutation(len(labels))
    return index[np.argsort(rank[index])]
