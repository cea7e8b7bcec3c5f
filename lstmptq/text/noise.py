"""Input noise on characters, coupled across levels: what changes at 5 % changes identically at 10 %.

The draws of a document depend on its seed and the kind of noise alone. Each character i has one uniform
number u_i, and site i changes when u_i < level, so the sites of a lower level are among those of a higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstmptq.seeds import generator

NOISE_KINDS = ("clean", "typo", "swap", "drop")
NOISE_FORMS = "clean, typo:LEVEL, swap:LEVEL or drop:LEVEL with a level in (0, 1]"

# Letters around each letter of a QWERTY keyboard: same row, row above, row below.
NEIGHBOURS = {
    "q": "wa", "w": "qeas", "e": "wrsd", "r": "etdf", "t": "ryfg", "y": "tugh", "u": "yihj", "i": "uojk",
    "o": "ipkl", "p": "ol", "a": "qwsz", "s": "weadzx", "d": "ersfxc", "f": "rtdgcv", "g": "tyfhvb",
    "h": "yugjbn", "j": "uihknm", "k": "iojlm", "l": "opk", "z": "asx", "x": "sdzc", "c": "dfxv",
    "v": "fgcb", "b": "ghvn", "n": "hjbm", "m": "jkn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Noise:
    """A kind of noise and its level.

    The level is the probability that an eligible site changes. Sites are

    - typo: every ASCII letter; it becomes a letter beside it on the keyboard, in the same case;
    - drop: every ASCII letter; it is deleted;
    - swap: every whole pair of a word, a word being a run of ASCII letters and its pairs the letters 1-2, 3-4
      and so on; the two change places. Pairs never overlap, so each letter of a pair is displaced with the
      probability `level`, and the last letter of a word of odd length never is.

    Attributes:
        kind: one of ``NOISE_KINDS``.
        level: in (0, 1]; 0 for clean.

    Raises:
        ValueError: if the kind is unknown or the level does not suit it.
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
        # Equal noises must have equal JSON: 1 and 1.0, or 0.0 and -0.0, would give a cell two names.
        object.__setattr__(self, "level", abs(float(self.level)))

    @classmethod
    def parse(cls, text: str) -> Noise:
        """Read the form that ``str`` gives, e.g. ``clean`` or ``typo:0.05``.

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
        noise: what to apply; see :class:`Noise` for what its level means.
        seed: the document's own seed. Draws depend on it and on the kind, never on the level.

    Returns:
        The noisy text: as long as `text`, or shorter under ``drop``; possibly empty.
    """
    if noise.kind == "clean" or not text:
        return text
    # One row a character, drawn in the order of the text: cutting a document leaves its beginning as it was.
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
    """Put a neighbour on the keyboard in the place of each chosen letter."""
    for place in np.flatnonzero(chosen).tolist():
        case = int(codes[place]) & 32  # the bit that tells lower case from upper
        around = NEIGHBOURS[chr(int(codes[place]) | 32)]
        codes[place] = ord(around[int(choice[place] * len(around))]) & ~32 | case


def _swap_pairs(codes: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> None:
    """Exchange the chosen letters that are the first of a pair with the second."""
    letter = _is_letter(codes)
    position = np.arange(len(codes))
    # Place of the last character before each that is no letter; what follows it is the word's first letter.
    boundary = np.maximum.accumulate(np.where(letter, -1, position))
    first = letter & ((position - boundary) % 2 == 1) & np.append(letter[1:], False)
    sites = np.flatnonzero(first & chosen)
    codes[sites], codes[sites + 1] = codes[sites + 1], codes[sites]
