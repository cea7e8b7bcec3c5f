"""Seeds derived from what they are for, so that no draw depends on order, process or machine."""

import hashlib
import json

import numpy as np


def derive_seed(*parts: str | int | float | None) -> int:
    """A 63-bit seed that is a pure function of its parts.

    Args:
        *parts: JSON scalars naming the draw, e.g. ``derive_seed("calibration", 0, "class", 3)``.

    Returns:
        An integer in [0, 2**63), the head of the SHA-256 of the parts' JSON.
    """
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int | float | None) -> np.random.Generator:
    """A NumPy generator seeded by :func:`derive_seed` of the parts."""
    return np.random.default_rng(derive_seed(*parts))
