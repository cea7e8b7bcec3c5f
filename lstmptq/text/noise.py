"""Character noise, coupled across levels: every change at 5 % also happens, identically, at 10 %.

The draws for a document depend only on its seed and the kind of noise. Each character i gets one uniform
number u_i and changes if u_i < level, so the changes at a lower level are a subset of those at a higher
level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import generator

NOISE_KINDS = ("clean", "typo", "swap", "drop")
NOISE_FORMS = "clean, typo:LEVEL, swap:LEVEL or drop:LEVEL with a level in (0, 1]"

# The neighbours of each letter on a QWERTY keyboard: same row, row above, row below.
NEIGHBOURS = {
    "q": "wa", "w": "qeas", "e": "wrsd", "r": "etdf", "t": "ryfg", "y": "tugh", "u": "yihj", "i": "uojk",
    "o": "ipkl", "p": "ol", "a": "qwsz", "s": "weadzx", "d": "ersfxc", "f": "rtdgcv", "g": "tyfhvb",
    "h": "yugjbn", "j": "uihknm", "k": "iojlm", "l": "opk", "z": "asx", "x": "sdzc", "c": "dfxv",
    "v": "fgcb", "b": "ghvn", "n": "hjbm", "m": "jkn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Noise:
    """A kind of noise and its level.

    The level is the probability that a site changes. The sites and changes are

    - typo: every ASCII letter becomes a neighbour on the keyboard, in the same case;
    - drop: every ASCII letter is deleted;
    - swap: the letters of a pair change places. A word is a run of ASCII letters, and its pairs are the
    letters
      1-2, 3-4 and so on. Pairs never overlap, so each letter of a pair moves with probability `level`, and
      the last letter of a word of odd length never moves.

    Attributes:
        kind: one of ``NOISE_KINDS``.
        level: in (0, 1]; 0 for clean.

    Raises:
        ValueError: if the kind is unknown or the level is out of its range.
    """

    kind: str = "clean"
    level: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in NOISE_KINDS:
            raise ValueError(f"unknown kind of noise {self.kind!r}: use {NOISE_FORMS}")
        if self.kind == "clean" and self.level != 0:
            raise ValueError(f"clean takes no level, got {self.level}: use {NOISE_FORMS}")
        if self.kind != "clean" and not 0 < self.level <= 1:
            raise ValueError(
                f"the level of {self.kind} must be in (0, 1], got {self.level}: use {NOISE_FORMS}"
            )
        # Equal noises need equal JSON: 1 and 1.0, or 0.0 and -0.0, would give one cell two cell_ids.
        object.__setattr__(self, "level", abs(float(self.level)))

    @classmethod
    def parse(cls, text: str) -> Noise:
        """Parse the form that ``str`` gives, e.g. ``clean`` or ``typo:0.05``.

        Raises:
            ValueError: if `text` has another form.
        """
        kind, colon, level = text.strip().partition(":")
        if kind not in NOISE_KINDS:
            raise ValueError(f"unknown kind of noise {kind!r} in {text!r}: use {NOISE_FORMS}")
        if kind == "clean":
            if colon:
                raise ValueError(f"clean takes no level, got {text!r}: use {NOISE_FORMS}")
            return cls()
        if not level:
            raise ValueError(f"{kind} needs a level, got {text!r}: use {NOISE_FORMS}")
        try:
            number = float(level)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ValueError(
                f"the level of {kind} must be a number, got {level!r} in {text!r}: use {NOISE_FORMS}"
            )
        return cls(kind, number)

    def __str__(self) -> str:
        return self.kind if self.kind == "clean" else f"{self.kind}:{self.level}"


CLEAN = Noise()


def add_noise(text: str, noise: Noise, seed: int) -> str:
    """Apply `noise` to one document.

    Args:
        text: the document.
        noise: kind and level.
        seed: seed of this document. The draws depend on it and on the kind, never on the level.

    Returns:
        The noisy text: as long as `text`, or shorter with ``drop``; possibly empty.
    """
    if noise.kind == "clean" or not text:
        return text
    # One row per character, in the order of the text, so cutting a document leaves its beginning unchanged.
    draws = generator("noise", noise.kind, seed).random((len(text), 2))
    codes = np.array([ord(character) for character in text])
    chosen = _is_letter(codes) & (draws[:, 0] < noise.level)
    if noise.kind == "drop":
        codes = codes[~chosen]
    elif noise.kind == "typo":
        _mistype(codes, chosen, draws[:, 1])
    else:
        _swap_pairs(codes, chosen)
    return "".join(map(chr, codes.tolist()))


def _is_letter(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    lower = codes | 32
    return (codes < 128) & (lower >= ord("a")) & (lower <= ord("z"))


def _mistype(
    codes: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_], choice: npt.NDArray[np.float64]
) -> None:
    """Replace each chosen letter with a neighbour on the keyboard, in place."""
    for place in np.flatnonzero(chosen).tolist():
        case = int(codes[place]) & 32  # the bit that distinguishes lower from upper case
        around = NEIGHBOURS[chr(int(codes[place]) | 32)]
        codes[place] = ord(around[int(choice[place] * len(around))]) & ~32 | case


def _swap_pairs(codes: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> None:
    """Swap each pair of letters whose first letter is chosen, in place."""
    letter = _is_letter(codes)
    position = np.arange(len(codes))
    # For each character, the position of the last non-letter up to it; the next character begins a word.
    boundary = np.maximum.accumulate(np.where(letter, -1, position))
    first = letter & ((position - boundary) % 2 == 1) & np.append(letter[1:], False)
    sites = np.flatnonzero(first & chosen)
    codes[sites], codes[sites + 1] = codes[sites + 1], codes[sites]
