"""Calibration sets by class ratio: nested prefixes of one permutation per class, under one budget.

Whatever the ratio, each class contributes the first N documents of a single permutation. Two calibration sets
therefore differ in their class shares alone, never by the luck of a second draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import generator

RATIO_KINDS = ("balanced", "natural", "classes", "head", "explicit")
RATIO_FORMS = "balanced, natural, classes:K, head:P, or one share per class such as 0.4,0.3,0.1,0.1,0.1"
# Documents. The cost of observing grows with their number, and the statistics settle well before this one.
LARGEST_DEFAULT_BUDGET = 512
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class ClassRatio:
    """Shares of the classes in a calibration set, before the number of classes is known.

    Attributes:
        kind: ``balanced`` (equal shares), ``natural`` (the shares of the corpus), ``classes`` (equal shares
            for the first `count` classes, none for the others), ``head`` (class 0 has the share `head`, the
            others split the rest evenly) or ``explicit``. Classes come in the order of the corpus: by number
            or alphabet for a file, by alphabet for BBC News, in the hub's own order for a corpus of the hub.
        count: number of classes that take part, at least 1; ``classes`` only.
        head: share of class 0, in (0, 1); ``head`` only.
        explicit: one share per class, non-negative, adding up to 1; ``explicit`` only.

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
            # -0.0 equals 0.0, so both must be spelled alike
            object.__setattr__(self, "explicit", tuple(abs(float(share)) for share in self.explicit))

    def _check_explicit(self) -> None:
        listed = _format_shares(self.explicit)
        if len(self.explicit) < 2:
            raise ValueError(f"a list of shares needs at least 2, got {listed!r}: use {RATIO_FORMS}")
        if not all(0 <= share <= 1 for share in self.explicit):
            raise ValueError(f"every share must be in [0, 1], got {listed!r}: use {RATIO_FORMS}")
        total = math.fsum(self.explicit)
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the shares must add up to 1, got {listed!r}, which add up to {total:.9g}")

    def shares(self, classes: int, available: Sequence[int] | None = None) -> tuple[float, ...]:
        """Return the share of each of `classes` classes; the shares add up to 1.

        Args:
            classes: number of classes.
            available: number of eligible documents of each class; only ``natural`` needs it.

        Raises:
            ValueError: if the ratio does not fit this number of classes.
        """
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if self.kind == "natural":
            if available is None or len(available) != classes or sum(available) < 1:
                raise ValueError(
                    f"natural needs the number of documents of each of the {classes} classes, at least 1 in "
                    f"all, got {available}"
                )
            whole = sum(available)
            return tuple(count / whole for count in available)
        if self.kind == "balanced":
            return (1 / classes,) * classes
        if self.kind == "classes":
            if self.count > classes:
                raise ValueError(
                    f"classes:{self.count} asks for more classes than the {classes} of the corpus: "
                    f"use classes:1 to classes:{classes}"
                )
            return (1 / self.count,) * self.count + (0.0,) * (classes - self.count)
        if self.kind == "head":
            if classes < 2:
                raise ValueError(f"{self} needs at least 2 classes, but the corpus has {classes}")
            return (self.head,) + ((1 - self.head) / (classes - 1),) * (classes - 1)
        if len(self.explicit) != classes:
            raise ValueError(
                f"{len(self.explicit)} shares for {classes} classes: give one share per class, in order"
            )
        total = math.fsum(self.explicit)
        return tuple(share / total for share in self.explicit)

    def __str__(self) -> str:
        """Format this ratio in its canonical form, which `parse_class_ratio` reads back."""
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
    """Format a share with the six digits of ``:g`` if they are exact, else with all digits it needs.

    Existing cell_ids contain the short form (1, not 1.0), so it comes first.
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
        raise ValueError(f"{text!r} is not a whole number: use {RATIO_FORMS}") from None


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number: use {RATIO_FORMS}") from None


def allocate_documents(shares: tuple[float, ...], budget: int) -> npt.NDArray[np.int64]:
    """Divide `budget` documents among the classes by largest remainder; ties go to the lower class.

    Args:
        shares: one share per class, adding up to 1.
        budget: total number of documents.

    Returns:
        (classes,) counts that add up to `budget`, each within 1 of its exact share.
    """
    quotas = np.array(shares) * budget
    counts: npt.NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    # Mathematically equal remainders must tie: 0.1 * 14 and 0.6 * 14 both leave 0.4, up to rounding.
    remainders = np.round(quotas - counts, 9)
    counts[np.argsort(-remainders, kind="stable")[: budget - counts.sum()]] += 1
    return counts


def sample_calibration_set(
    labels: npt.NDArray[np.int64], classes: int, ratio: str, documents: int | None, seed: int, draw: int = 0
) -> npt.NDArray[np.int64]:
    """Choose calibration documents by class ratio.

    Args:
        labels: (n,) class of each eligible document, in 0..classes-1.
        classes: number of classes.
        ratio: shares of the classes, see :func:`parse_class_ratio`.
        documents: number to choose, the same for every ratio; None takes the size of the smallest class, at
            most 512, so that every ratio can be met.
        seed: seed of the permutations. The permutation of a class depends only on the seed, the draw and the
            class.
        draw: 0 for the calibration set of the seed; 1, 2, ... for redraws, which show the effect of chance.

    Returns:
        (documents,) distinct indices into `labels`, shuffled. Any two documents keep their relative order in
        all calibration sets of one seed and draw.

    Raises:
        ValueError: if the ratio does not fit the classes, or a class has too few documents.
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
                "give the number of calibration documents and a class ratio that leaves this class out"
            )
    origin: tuple[str | int, ...] = (
        ("calibration", seed) if draw == 0 else ("calibration", seed, "draw", draw)
    )
    chosen = []
    for name, asked in enumerate(allocate_documents(shares, documents).tolist()):
        if asked > available[name]:
            raise ValueError(
                f"class ratio {ratio!r} with {documents} documents needs {asked} of class {name}, "
                f"which has {available[name]}: ask for fewer calibration documents"
            )
        members = np.flatnonzero(labels == name)
        chosen.append(generator(*origin, "class", name).permutation(members)[:asked])
    index = np.concatenate(chosen)
    rank = generator(*origin, "order").permutation(len(labels))
    return index[np.argsort(rank[index])]
