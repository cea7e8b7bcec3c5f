"""Seeds derived from the purpose of a draw, so that no draw depends on order, process or machine."""

import hashlib
import json

import numpy as np


def derive_seed(*parts: str | int | float | None) -> int:
    """Derive a 63-bit seed as a pure function of its parts.

    Args:
        *parts: JSON scalars that name the draw, e.g. ``derive_seed("calibration", 0, "class", 3)``.

    Returns:
        An integer in [0, 2**63), the leading bits of the SHA-256 of the parts in JSON.
    """
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int | float | None) -> np.random.Generator:
    """Create a NumPy generator with the seed that :func:`derive_seed` derives from the parts."""
    return np.random.default_rng(derive_seed(*parts))
