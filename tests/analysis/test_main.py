"""The command line, and that it needs neither torch, Ray nor pandas, and charts only where it draws."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.frames.query import QueryError, format_csv, format_text, run_query
from analysis.frames.reading import load
from tests.analysis.conftest import sweep

# Polars asks whether pandas is installed, without importing it: so it is found, and fails to load.
FORBIDDING = """
import sys
from importlib.machinery import ModuleSpec

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray", "pandas", "sweeps", "altair", "vl_convert"):
            return ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} must not be imported")

    def exec_module(self, module):
        raise NotImplementedError

sys.meta_path.insert(0, Forbid())
import analysis
from analysis.__main__ import main

out = sys.argv[1]
cells, tensors = analysis.load(out)
assert analysis.accuracy_table(cells).height == 4
assert main(["summary", out]) == 0
assert main(["query", out, "SELECT COUNT(*) AS n FROM cells"]) == 0
assert not {"torch", "ray", "pandas", "sweeps", "altair", "vl_convert"} & set(sys.modules)
"""


def test_neither_torch_nor_ray_nor_pandas_nor_charts_are_imported(write_results):
    out = write_results(sweep())
    run = subprocess.run(
        [sys.executable, "-c", FORBIDDING, str(out)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Accuracy: bbc_news, glove vectors" in run.stdout


@pytest.mark.parametrize("words", [["--help"], ["summary", "--help"], ["table", "RESULTS", "cells"]])
@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(write_results, words):
    out = str(write_results(sweep(bits=(None, 8), noise=[("clean", 0.0)])))
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "analysis", *(out if word == "RESULTS" else word for word in words)],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")


def test_summary(write_results, capsys):
    assert main(["summary", str(write_results(sweep())), "--shifts", "1"]) == 0
    assert "Largest shifts" in capsys.readouterr().out


def test_results_that_are_not_there_are_one_line(tmp_path, capsys):
    assert main(["summary", str(tmp_path / "nowhere")]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("error: there is no directory")
    assert found.err.count("\n") == 1


@pytest.mark.parametrize("args", [[], ["nonsense"], ["summary"], ["summary", "x", "--shifts", "0"]])
def test_a_wrong_command_line_exits_with_2(args, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_query_prints_a_table(write_results, capsys):
    sql = (
        "SELECT model, bits, AVG(accuracy) AS accuracy FROM cells WHERE noise = 'clean' GROUP BY model, bits"
    )
    assert main(["query", str(write_results(sweep())), sql + " ORDER BY model, bits DESC"]) == 0
    assert "│ generative     ┆ 8    ┆ 0.9600   │" in capsys.readouterr().out


def test_query_format_csv(write_results, capsys):
    sql = "SELECT bits, classes FROM cells WHERE bits IS NULL LIMIT 1"
    assert main(["query", str(write_results(sweep())), sql, "--csv"]) == 0
    names = '""business"", ""entertainment"", ""politics"", ""sport"", ""tech""'
    assert capsys.readouterr().out == f'bits,classes\n,"[{names}]"\n'


def test_query_joins_the_tables(write_results):
    results = load(write_results(sweep()))
    answer = run_query(
        results,
        "SELECT c.bits, MAX(t.ks_d) AS d FROM tensors t JOIN cells c ON c.cell_id = t.cell_id "
        "WHERE t.kind = 'weight' GROUP BY c.bits ORDER BY c.bits",
    )
    assert answer["bits"].to_list() == [3, 4, 8]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT 1 FROM runs",
            "the query cannot be run, relation 'runs' was not found: the tables are cells,",
        ),
        ("SELEC bits", "the tables are cells, tensors and predictions, the language is Polars' SQL"),
        ("SELECT bit FROM cells", 'unable to find column "bit": cells has cell_id, schema_version, dataset,'),
    ],
)
def test_a_wrong_query_says_what_there_is(write_results, capsys, sql, message):
    out = write_results(sweep())
    with pytest.raises(QueryError) as caught:
        run_query(load(out), sql)
    assert message in str(caught.value)
    assert main(["query", str(out), sql]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_long_answer_is_cut_and_says_so():
    text = format_text(pl.DataFrame({"n": range(5)}), width=100, rows=2)
    assert text.endswith("… and 3 more rows: see --rows and --csv")
    assert "more rows" not in format_text(pl.DataFrame({"n": range(2)}), width=100, rows=2)


def test_csv_of_nothing_and_of_nulls():
    answer = pl.DataFrame({"a": [None, [1, 2]]}, schema={"a": pl.List(pl.Int32)})
    assert format_csv(answer) == 'a\n\n"[1, 2]"\n'
    assert format_csv(answer.clear()) == "a\n"
