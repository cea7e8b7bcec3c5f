"""Input noise, applied to the text before tokenizing and coupled across levels (stub, to be completed)."""

from dataclasses import dataclass

KINDS = ("clean", "typo", "swap", "drop")


@dataclass(frozen=True, slots=True, order=True)
class Noise:
    """A kind of noise and its level, the share of characters it touches (0 for clean)."""

    kind: str = "clean"
    level: float = 0.0


CLEAN = Noise()
