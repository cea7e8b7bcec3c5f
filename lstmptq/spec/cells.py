"""Cells, the points of the grid: what identifies one, and what is valid.

A cell is everything that determines one row of the results, and nothing else: no path, host or worker
count. Its name, ``cell_id``, is the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmptq.spec.axes import axes_of, check_fields, identity_of
from lstmptq.spec.identity import digest_of
from lstmptq.spec.specs import ModelSpec, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.text.sources import Source


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid; one row of the table `cells`."""

    model: ModelSpec
    quantization: QuantizationSpec | None = None  # None: the FP32 baseline
    noise: Noise = CLEAN
    limit: int | None = None  # evaluate the first N test documents, in a seeded order; None: all
    shift_documents: int = 256  # evaluation documents whose activations are compared
    redraws: int = 0  # balanced, clean cells: calibration sets drawn anew, for the margin of a shift

    def __post_init__(self) -> None:
        check_fields(self, "cell")
        if self.redraws and not can_redraw(self.quantization, self.noise):
            # their rows are named balanced_vs_redraw, and make the margin of clean cells
            raise ValueError(
                f"redraws must be 0 but in a quantized, balanced, clean cell without an isolated stage, got "
                f"{self.redraws} with {self._describe()}"
            )

    def _describe(self) -> str:
        spec = self.quantization
        if spec is None:
            return "FP32"
        stage = f", {spec.isolation.stage} isolated" if spec.isolation.stage else ""
        return f"{spec.class_ratio}, {self.noise}{stage}"

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""
        return self.quantization.bits if self.quantization else None

    def identity(self) -> dict[str, Any]:
        """Return the canonical, JSON-ready form."""
        return identity_of(self, "cell") | {
            "model": self.model.identity(),
            "quantization": self.quantization.identity() if self.quantization else None,
            "noise": {"kind": self.noise.kind, "level": self.noise.level},
        }

    @property
    def cell_id(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return digest_of(self.identity())


def can_redraw(quantization: QuantizationSpec | None, noise: Noise) -> bool:
    """Return whether a cell can draw its calibration set anew: if it is quantized, balanced and clean."""
    if quantization is None or quantization.isolation.stage or noise != CLEAN:
        return False
    return quantization.class_ratio == "balanced"


def axis_columns(
    model: ModelSpec, quantization: QuantizationSpec | None, noise: Noise = CLEAN
) -> dict[str, Any]:
    """Return the columns that place a cell on the axes; null for the parts that FP32 does not have."""
    row: dict[str, Any] = {"dataset_digest": model.dataset.digest, "model_id": model.model_id}
    for axis in axes_of("model", varies=True):
        value = getattr(model, axis.attribute)
        row[axis.name] = value.name if isinstance(value, Source) else value
    for axis in axes_of("quantization"):
        row[axis.name] = getattr(quantization, axis.attribute, None)
    isolation = quantization.isolation if quantization else None
    return row | {
        "isolated_stage": isolation.stage if isolation else None,
        "isolated_how": isolation.how if isolation else None,
        "noise": noise.kind,
        "noise_level": noise.level,
    }
