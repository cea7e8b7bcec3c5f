"""The table of axes: what is derived from it agrees with it, and the documentation shows it."""

from dataclasses import fields
from pathlib import Path

from lstmptq.results import CELLS
from lstmptq.spec.axes import AXES, axes_of, format_tables
from lstmptq.spec.cells import Cell
from lstmptq.spec.grid import Grid
from lstmptq.spec.specs import ModelSpec, QuantizationSpec

DOCS = Path(__file__).parents[3] / "docs"


def test_every_entry_has_its_field_column_and_flag():
    specs = {"model": ModelSpec, "quantization": QuantizationSpec, "cell": Cell, "noise": Cell}
    grid = {field.name for field in fields(Grid)}
    for axis in AXES:
        assert axis.attribute in {field.name for field in fields(specs[axis.part])}, axis.option
        assert axis.field in grid
        assert axis.column is None or axis.column in CELLS.names
        assert axis.help
    assert len({axis.option for axis in AXES}) == len({axis.name for axis in AXES}) == len(AXES)


def test_every_axis_has_a_column_and_its_description():
    for axis in axes_of(varies=True):
        field = CELLS.field(axis.column)
        assert field.metadata[b"description"].decode() == axis.description != ""
        assert field.type == axis.kind


def test_docs_show_the_table():
    assert format_tables().strip() in (DOCS / "axes.md").read_text(encoding="utf-8")
