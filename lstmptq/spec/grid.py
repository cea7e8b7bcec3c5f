"""The grid of a sweep: the values of its axes and settings, and the cells that they span."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

from lstmptq.spec.axes import AXES, Part, axes_of
from lstmptq.spec.cells import Cell, can_redraw
from lstmptq.spec.models import MODEL_KINDS
from lstmptq.spec.parsing import SAME
from lstmptq.spec.requirements import HIGHEST_BITS, require_axis
from lstmptq.spec.specs import ISOLATED, STAGES, Isolation, ModelSpec, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise

_FIELDS = [
    (axis.field, Any, field(default=axis.grid_value(axis.default)))
    for axis in sorted(AXES, key=lambda axis: not axis.varies)
]


@dataclass(frozen=True)
class Grid(make_dataclass("Fields", _FIELDS, frozen=True)):  # type: ignore[misc]  # made from the table
    """The axes of a sweep, and the settings that all its cells share.

    Its fields are those of :data:`lstmptq.spec.axes.AXES`: a tuple of values for an axis, one value for a
    setting. Several `epochs` are checkpoints of one training run, as long as the largest.

    Raises:
        ValueError: if an axis is empty or repeats a value, or a combination of values is not allowed.
    """

    isolate: bool = False  # adds clean cells for each low width: one stage kept at 8 bits, or lowered alone

    AXES = tuple(axis.field for axis in axes_of(varies=True))
    SETTINGS = ("run_epochs", *(axis.field for axis in axes_of(varies=False)))

    def __post_init__(self) -> None:
        for axis in self.AXES:
            require_axis(axis, getattr(self, axis))
        if not sum(1 for _ in self.cells()):  # every combination of values is checked by its cell
            raise ValueError(f"no cell is left: {'; '.join(self.left_out)}: add fp32 to the bits")

    @classmethod
    def parse(cls, *, isolate: bool = False, **given: Any) -> Grid:
        """Build the grid that a command line describes; :data:`lstmptq.spec.axes.AXES` lists its options.

        Args:
            isolate: see the class.
            **given: options as words, several for an axis: ``bits=["fp32", "4"], embeddings=["glove"]``.
                Options that are absent have the default of the command line.

        Raises:
            ValueError: if an option does not exist, or a value is not allowed.
            FileNotFoundError: if a value names a file that does not exist.
        """
        known = [axis.option for axis in AXES]
        if unknown := sorted(given.keys() - set(known)):
            raise ValueError(f"a grid has no option {', '.join(unknown)}: use {', '.join(known)}")
        values = {axis: given.get(axis.option, axis.default) for axis in AXES}
        return cls(isolate=isolate, **{axis.field: axis.grid_value(value) for axis, value in values.items()})

    @property
    def left_out(self) -> list[str]:
        """The parts of the grid that do not apply, each with its reason."""
        bits = ", ".join(str(width) for width in self.bits if width is not None)
        kinds = [MODEL_KINDS[kind] for kind in self.models]
        return [f"{kind.name} x bits {bits}: {kind.left_out}" for kind in kinds if kind.left_out and bits]

    @property
    def run_epochs(self) -> int | None:
        """Epochs of a training run, one number for the sweep; None: the model's own default."""
        return max((epochs for epochs in self.epochs if epochs is not None), default=None)

    def _settings(self, part: Part) -> dict[str, Any]:
        return {axis.attribute: getattr(self, axis.field) for axis in axes_of(part, varies=False)}

    def _product(self, part: Part, **axes: Any) -> Iterator[dict[str, Any]]:
        """Yield every combination of the values of the axes of `part`; the last axis varies fastest."""
        values = {axis.attribute: getattr(self, axis.field) for axis in axes_of(part, varies=True)} | axes
        for point in itertools.product(*values.values()):
            yield dict(zip(values, point, strict=True)) | self._settings(part)

    def model_specs(self) -> Iterator[ModelSpec]:
        """Yield the FP32 models in the order of the axes; checkpoints of a run are adjacent."""
        checkpoints = self.epochs if len(self.epochs) > 1 else (None,)
        points = [  # the product varies the checkpoint fastest, as its last axis
            point | {"checkpoint": checkpoint}
            for point in self._product("model", checkpoint=(None,))
            for checkpoint in checkpoints
        ]
        # one model for all values of an axis that its kind does not use
        yield from dict.fromkeys(ModelSpec(**values, epochs=self.run_epochs) for values in points)

    def quantization_specs(self) -> Iterator[QuantizationSpec | None]:
        """Yield the quantizations of each model; bits vary slowest, and FP32 comes once, as None."""
        for bits in self.bits:
            if bits is None:
                yield None
                continue
            widths = dict.fromkeys(bits if width == SAME else width for width in self.internal_bits)
            for values in self._product("quantization", bits=(bits,), internal_bits=widths):
                yield QuantizationSpec(**values)

    def isolated_specs(self) -> Iterator[QuantizationSpec]:
        """Yield the specs that `isolate` adds: all at 8 bits, all at b bits, and the isolated stages."""
        low = [bits for bits in self.bits if bits is not None and bits < HIGHEST_BITS]
        if not low:
            return
        for values in self._product("quantization", bits=(HIGHEST_BITS,), internal_bits=(HIGHEST_BITS,)):
            whole = QuantizationSpec(**values)
            yield whole
            for bits in low:
                lowered = replace(whole, bits=bits, internal_bits=bits)
                yield lowered
                for stage, how in itertools.product(STAGES, ISOLATED):
                    yield replace(lowered, isolation=Isolation(stage, how))

    def cells(self) -> Iterator[Cell]:
        """Yield every cell once, in a fixed order: models, then bits, then quantizations, then noise."""
        asked = itertools.product(self.quantization_specs(), self.noise)
        more = ((spec, CLEAN) for spec in self.isolated_specs()) if self.isolate else ()
        points = dict.fromkeys([*asked, *more])
        for spec, (quantization, noise) in itertools.product(self.model_specs(), points):
            if quantization and MODEL_KINDS[spec.kind].left_out:
                continue
            yield Cell(spec, quantization, noise, **self._cell_settings(quantization, noise))

    def _cell_settings(self, quantization: QuantizationSpec | None, noise: Noise) -> dict[str, Any]:
        """Return the settings of a cell; no redraws where it cannot redraw: its cell_id stays the same."""
        settings = self._settings("cell")
        return settings if can_redraw(quantization, noise) else settings | {"redraws": 0}
