"""Readers of the words that stand for numbers on the command line: ``fp32``, ``same`` and ``all``."""

from __future__ import annotations

from typing import Any

from lstmptq.spec.requirements import HIGHEST_BITS, LOWEST_BITS

SAME = "same"  # internal bits that follow the bits of the weights


def parse_bits(text: Any) -> int | None:
    """Read a bit width of the weights, or ``fp32`` as None.

    Raises:
        ValueError: if `text` is neither.
    """
    if text == "fp32":
        return None
    return _parse_width("bits", text, "fp32", "use fp32 for the FP32 baseline")


def parse_internal_bits(text: Any) -> int | str:
    """Read a bit width of the LSTM's own quantizers, or ``same``.

    Raises:
        ValueError: if `text` is neither.
    """
    if text == SAME:
        return SAME
    return _parse_width("internal-bits", text, SAME, "use same for the width of the weights")


def _parse_width(name: str, given: Any, word: str, advice: str) -> int:
    text = str(given)
    if text.isascii() and text.isdecimal() and LOWEST_BITS <= int(text) <= HIGHEST_BITS:
        return int(text)
    raise ValueError(f"{name} must be in {LOWEST_BITS}..{HIGHEST_BITS} or {word}, got {text}: {advice}")


def parse_documents(given: Any) -> int | None:
    """Read a number of training documents, or ``all`` as None.

    Raises:
        ValueError: if `given` is neither.
    """
    text = str(given)
    if text == "all":
        return None
    if text.isascii() and text.isdecimal() and int(text) >= 2:
        return int(text)
    raise ValueError(f"training-documents must be a number, at least 2, or all, got {text}")
