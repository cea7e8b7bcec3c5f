"""The largest shifts: which come first, and each tensor once."""

import polars as pl
import pytest

from analysis import largest_shifts
from lstmptq.results import CELLS, TENSORS, to_table
from tests.analysis.conftest import cell, failed, sweep, tensors_of


def frames(rows, tensors=None):
    tensors = [t for row in rows for t in tensors_of(row)] if tensors is None else tensors
    return pl.DataFrame(to_table(tensors, TENSORS)).lazy(), pl.DataFrame(to_table(rows, CELLS)).lazy()


def tensor(row, name, **measures):
    return {"cell_id": row["cell_id"], "tensor": name, "kind": "activation", "contrast": "fp32_vs_quantized",
            "bits": 8} | measures  # fmt: skip


def test_each_contrast_and_kind_lists_each_tensor_of_a_model_once():
    found = largest_shifts(*frames(sweep()))
    assert found.select("contrast", "kind", "tensor").unique(maintain_order=True).rows() == [
        ("fp32_vs_quantized", "activation", "lstm.0.cell_state"),
        ("fp32_vs_quantized", "weight", "decoder.weight"),
        ("fp32_vs_quantized", "weight", "lstm.0.input_gate.weight"),
        ("balanced_vs_ratio", "activation", "lstm.0.cell_state"),
        ("balanced_vs_ratio", "weight", "decoder.weight"),
        ("clean_vs_noisy", "activation", "lstm.0.cell_state"),
    ]
    assert found.height == 12
    worst = found.row(0, named=True)
    assert (worst["bits"], worst["tensor_bits"], worst["noise"], worst["class_ratio"]) == (
        3,
        8,
        "clean",
        "balanced",
    )


def test_the_grid_floor_does_not_decide():
    """A coarse grid has the larger D; shape, which D dithered shows, comes first."""
    coarse, shifted = cell(3), cell(8)
    found = largest_shifts(
        *frames(
            [coarse, shifted],
            [
                tensor(coarse, "a", ks_d=0.285, atom_floor=0.285, ks_d_dithered=0.02),
                tensor(shifted, "b", ks_d=0.1, atom_floor=0.008, ks_d_dithered=0.098),
            ],
        )
    )
    assert found["tensor"].to_list() == ["b", "a"]


def test_a_dead_stage_comes_first_although_its_d_is_its_floor():
    dead, clipped = cell(3), cell(4)
    found = largest_shifts(
        *frames(
            [dead, clipped],
            [
                tensor(clipped, "clipped", ks_d=0.3, atom_floor=0.2, ks_d_dithered=0.1),
                tensor(dead, "dead", ks_d=0.5, atom_floor=0.5, ks_d_dithered=0.42),
            ],
        )
    )
    assert found["tensor"].to_list() == ["dead", "clipped"]


def test_n_limits_each_list():
    found = largest_shifts(*frames(sweep()), n=1)
    assert found.group_by("contrast", "kind").len()["len"].to_list() == [1] * 5


def test_n_below_one():
    with pytest.raises(ValueError, match="n must be at least 1, got 0: give the number of tensors to list"):
        largest_shifts(*frames([cell(8)]), n=0)


def test_tensors_of_cells_without_a_finished_row_are_left_out():
    """A crash leaves tensors whose row was not written."""
    orphan = cell(4)
    gone = failed(3)
    assert largest_shifts(*frames([cell(8), gone], tensors_of(orphan) + tensors_of(gone))).is_empty()


def test_a_contrast_of_a_later_version_comes_last():
    row = cell(8)
    later = tensor(row, "x", ks_d_dithered=0.9) | {"contrast": "seed_vs_seed"}
    found = largest_shifts(*frames([row], [later, *tensors_of(row)]))
    assert found["contrast"].to_list()[-1] == "seed_vs_seed"


def test_no_tensors():
    found = largest_shifts(*frames([cell(8)], []))
    assert found.is_empty()
    assert "ks_d_dithered" in found.columns
