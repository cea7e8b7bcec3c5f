"""Reading results in every state that a sweep, an older version or a copy can leave them in."""

import json
import os

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.frames.reading import Results, ResultsError, load, whole_models
from lstmptq.results import CELLS, SCHEMA_VERSION, TENSORS, to_table
from tests.analysis.conftest import cell, sweep


def names(schema):
    return list(schema.names)


def test_load_unpacks_into_cells_and_tensors(write_results):
    out = write_results(sweep(), planned=78)
    cells, tensors = analysis.load(out)
    assert isinstance(cells, pl.LazyFrame)
    assert cells.collect().height == 78
    assert cells.collect_schema().names() == names(CELLS)
    assert tensors.collect_schema().names() == names(TENSORS)
    assert isinstance(analysis.load(str(out)), Results)
    assert analysis.load(out).planned == 78


@pytest.mark.parametrize("record", ["{}", "[]", "half a fi", '{"cells": "many"}', '{"cells": true}'])
def test_a_record_that_does_not_tell_the_plan_is_no_error(write_results, record):
    out = write_results(sweep())
    (out / "sweep.json").write_text(record)
    assert load(out).planned is None


def test_no_tensors_yet_is_an_empty_frame_with_the_schema(write_results):
    out = write_results(sweep())
    (out / "tensors" / "segment-00001.parquet").unlink()
    (out / "tensors").rmdir()
    tensors = load(out).tensors.collect()
    assert tensors.is_empty()
    assert tensors.columns == names(TENSORS)
    assert tensors.schema["ks_sign"] == pl.Int8


def test_segments_without_rows_are_empty_frames(write_results):
    cells, tensors = load(write_results([]))
    assert cells.collect().shape == (0, len(CELLS))
    assert tensors.collect().is_empty()


def test_stray_names_are_not_touched(write_results):
    out = write_results(sweep())
    whole = (out / "cells" / "segment-00001.parquet").read_bytes()
    (out / "cells" / ".segment-00003.parquet.partial").write_bytes(whole[:100])
    (out / "cells" / "segment-00003.parquet.tmp").write_bytes(whole[:100])
    (out / "cells" / ".segment-00003.parquet").write_bytes(whole[:100])
    (out / "cells" / "notes.txt").write_text("not Parquet")
    assert load(out).cells.collect().height == 78


def test_files_of_an_older_schema_stay_readable(write_results):
    """A column that a file does not have is null there, whichever of the files comes first."""
    out = write_results(sweep())
    older = pq.read_table(out / "cells" / "segment-00001.parquet").drop(["ece", "confusion", "hidden"])
    pq.write_table(older.append_column("gone", pa.nulls(len(older))), out / "cells" / "segment-00001.parquet")
    cells = load(out).cells.collect()
    assert cells.columns == names(CELLS)
    assert cells["hidden"].null_count() == len(older)
    assert cells["confusion"].null_count() == len(older)
    assert cells.schema["confusion"] == pl.List(pl.List(pl.Int32))


def test_a_path_with_brackets_and_equal_signs_is_a_path(write_results):
    out = write_results(sweep())
    odd = out.parent / "bits=3[old]*"
    out.rename(odd)
    assert load(odd).cells.collect()["bits"].unique().sort().to_list() == [None, 3, 4, 8]


def test_frames_go_on_reading_when_the_sweep_replaces_a_segment(write_results):
    out = write_results(sweep(seed=0))
    cells = load(out).cells
    assert cells.collect().height == 78
    grown = to_table(sweep(seed=1), CELLS)
    partial = out / "cells" / ".partial"
    pq.write_table(grown, partial)
    os.replace(partial, out / "cells" / "segment-00001.parquet")
    assert cells.collect().height == 39 + 78


def error_of(path):
    with pytest.raises(ResultsError) as caught:
        load(path)
    return str(caught.value)


def test_no_directory(tmp_path):
    path = tmp_path / "nowhere"
    assert error_of(path) == (
        f"there is no directory {path}: expected the results of a sweep, {path}/cells/*.parquet: "
        f"make them with `python sweeps/full_grid.py --out {path}`"
    )


def test_an_empty_directory(tmp_path):
    assert error_of(tmp_path) == (
        f"{tmp_path} holds no results: expected the results of a sweep, {tmp_path}/cells/*.parquet: "
        f"make them with `python sweeps/full_grid.py --out {tmp_path}`"
    )


def test_a_sweep_without_rows(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    assert "has no rows yet" in error_of(tmp_path)


def test_a_file(tmp_path):
    path = tmp_path / "cells.parquet"
    path.touch()
    assert "is a file" in error_of(path)
    assert "give the directory that was the sweep's --out" in error_of(path)


def test_one_table_of_the_results(write_results):
    out = write_results(sweep())
    assert error_of(out / "cells").endswith(f"give the directory above, {out}")


@pytest.mark.parametrize("table", ["cells", "tensors"])
@pytest.mark.parametrize("keep", [0, 4, 100, -4])
def test_a_truncated_file_is_named(write_results, table, keep):
    out = write_results(sweep())
    file = out / table / "segment-00001.parquet"
    file.write_bytes(file.read_bytes()[:keep])
    assert error_of(out).startswith(f"{file} cannot be read as Parquet (")


def test_rows_of_a_newer_version_ask_for_an_upgrade(write_results):
    out = write_results(
        [cell(None, schema_version=SCHEMA_VERSION), cell(8, schema_version=SCHEMA_VERSION + 1)]
    )
    assert error_of(out) == (
        f"{out}/cells/segment-00002.parquet was written with schema version {SCHEMA_VERSION + 1}, this "
        f"program reads versions up to {SCHEMA_VERSION}: upgrade it to the version that ran the sweep"
    )


def test_a_newer_file_without_rows_asks_for_an_upgrade(write_results):
    """A newer version may have changed a type: its version is what has to be told."""
    out = write_results(sweep())
    newer = TENSORS.with_metadata({"schema_version": str(SCHEMA_VERSION + 1)})
    newer = newer.set(0, pa.field("cell_id", pa.int64()))
    pq.write_table(newer.empty_table(), out / "tensors" / "segment-00002.parquet")
    assert f"schema version {SCHEMA_VERSION + 1}" in error_of(out)


def test_a_column_of_another_type_is_named(write_results):
    out = write_results(sweep())
    pq.write_table(pa.table({"cell_id": ["a"], "bits": ["three"]}), out / "cells" / "other.parquet")
    assert error_of(out) == (
        f"column bits of {out}/cells/other.parquet has the type String, expected Int32: "
        "the file was not written by a sweep, move it away"
    )


def test_a_file_that_polars_wrote_is_read(write_results):
    """Polars has large strings and lists; they are the same types to it."""
    out = write_results(sweep())
    file = out / "cells" / "segment-00001.parquet"
    pl.read_parquet(file).write_parquet(file)
    assert load(out).cells.collect().height == 78


def test_a_copied_segment_is_no_second_seed(write_results):
    out = write_results([cell(None)])
    first = out / "cells" / "segment-00002.parquet"
    (out / "cells" / "copy.parquet").write_bytes(first.read_bytes())
    assert error_of(out) == (
        f"{out}/cells holds 1 of its cells more than once, for instance {cell(None)['cell_id']}: "
        "remove the file that was copied there"
    )


def test_the_plan_is_read_from_the_record(write_results):
    out = write_results(sweep())
    (out / "sweep.json").write_text(json.dumps({"cells": 12, "grid": {}}))
    assert load(out).planned == 12


def test_rows_older_than_an_axis_have_its_usual_value():
    """FP32 has no calibration set, so that its gap stays one."""
    cells = pl.DataFrame(
        {
            "model": "generative", "method": ["fp32", "static_ptq", "static_ptq"], "bits": [None, 4, 4],
            "isolated_stage": pl.Series([None] * 3, dtype=pl.String), "kept_classes": [None, None, "drawn"],
        }
    )  # fmt: skip
    assert whole_models(cells).collect()["kept_classes"].to_list() == [None, "first", "drawn"]
