"""Results of the older schemas still give every page and table, or a clear sentence."""

import pyarrow.parquet as pq
import pytest

from analysis.__main__ import main
from analysis.frames.reading import load
from analysis.presentation.exports import FIGURES, TABLES
from analysis.questions.reproduce import mark_published
from lstmptq.results import CELLS, TENSORS, to_table
from tests.analysis.conftest import sweep, tensors_of

SINCE_4 = {"tensors": ["quantiles_a", "quantiles_b"]}
SINCE_3 = {
    "cells": ["epochs", "checkpoint", "observer", "io_scales", "padding", "isolated_stage", "isolated_how",
              "kernel"],
    "tensors": ["relative_distance"],
}  # fmt: skip
SINCE_2 = {"cells": ["labels"], "tensors": ["document_d"]}
LACKING = {3: [SINCE_4], 2: [SINCE_4, SINCE_3], 1: [SINCE_4, SINCE_3, SINCE_2]}
VERSIONS = pytest.mark.parametrize("version", LACKING)
COMMANDS = [
    ["summary"], ["shifts"], ["drops"], ["isolate"], ["mechanism"], ["epochs"], ["recommend"],
    ["query", "SELECT COUNT(*) AS n FROM tensors"],
    *(["table", name, "--format", form] for name in TABLES for form in ("markdown", "latex", "csv")),
]  # fmt: skip


def write_version(path, version, dataset="bbc_news"):
    """A sweep as that version wrote it: without the columns that came later; answers in `cells` at 2."""
    rows = sweep(schema_version=version, dataset=dataset)
    lacking = {
        table: [c for one in LACKING[version] for c in one.get(table, [])] for table in ("cells", "tensors")
    }
    for row in rows:
        right = round(400 * row["accuracy"])
        row["labels"], row["predicted"] = [0] * 400, [0] * right + [1] * (400 - right)
    tensors = [tensor for row in rows for tensor in tensors_of(row)]
    metadata = {"schema_version": str(version)}
    if version == 3:
        lacking["cells"] += ["labels", "predicted"]
    for name, schema, part in (("cells", CELLS, rows), ("tensors", TENSORS, tensors)):
        (path / name).mkdir(parents=True)
        table = to_table(part, schema).drop(lacking[name]).replace_schema_metadata(metadata)
        pq.write_table(table, path / name / "segment-00001.parquet")
    return path


@pytest.mark.slow
@VERSIONS
def test_every_command_reads_it(tmp_path, capsys, version):
    out = str(write_version(tmp_path / "old", version))
    for name, *rest in COMMANDS:
        assert main([name, out, *rest]) == 0, name
        assert capsys.readouterr().out
    assert main(["compare", out, out]) == 0
    for name in ("reproduce", "findings"):  # of another corpus; without answers
        code = main([name, out, *(["--out", str(tmp_path / "f.md")] if name == "findings" else [])])
        assert code in (0, 2)
        assert "Traceback" not in capsys.readouterr().err


@VERSIONS
@pytest.mark.slow
def test_the_page_and_the_figures(tmp_path, capsys, version):
    out = str(write_version(tmp_path / "old", version))
    page = tmp_path / "report.html"
    assert main(["report", out, "--out", str(page)]) == 0
    text = page.read_text()
    assert "No quantiles were kept" in text
    assert ("No answer by document was kept" in text) == (version != 2)
    for name in FIGURES:
        code = main(["figure", out, name, "--out", str(tmp_path / f"{name}.svg")])
        assert code == (2 if name == "distributions" else 0)
    assert "there is nothing to draw in distributions" in capsys.readouterr().err


@VERSIONS
def test_published_numbers_beside_it(tmp_path, version):
    out = write_version(tmp_path / "old", version, "ag_news")
    assert main(["reproduce", str(out)]) == 0
    assert (mark_published(load(out))["theirs"].null_count() == 0) == (version == 2)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.slow
def test_every_table_says_its_units_its_n_and_its_command(write_results, capsys, name):
    out = str(write_results(sweep()))
    for form in ("markdown", "latex", "csv"):
        assert main(["table", out, name, "--format", form]) == 0
        text = capsys.readouterr().out
        assert f"python -m analysis table {out} {name} --format {form}" in text.replace("\\_", "_")
        assert "n: " in text or "None was measured" in text or "No cell failed" in text
        if name in ("accuracy", "ratios", "noise", "cells"):
            assert "%" in text
            assert "points" in text
