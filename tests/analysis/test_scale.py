"""The made-up results of the scale benchmark, small: they are read, queried and give a page."""

from analysis.frames.query import run_query
from analysis.frames.reading import load
from analysis.page.report import write_report
from tests.benchmarks.scale import CELLS_SQL, TENSORS_SQL
from tests.benchmarks.synthetic import write_synthetic


def test_made_up_results_are_results(tmp_path):
    out = tmp_path / "made_up"
    write_synthetic(out, cells=600, tensors=50, cells_a_file=250)
    results = load(out)
    assert results.cells.collect().height == 600
    assert run_query(results, CELLS_SQL)["n"].sum() == 600
    assert run_query(results, TENSORS_SQL)["n"].sum() == 600 * 50
    write_report(out, tmp_path / "report.html")
    assert '<section id="accuracy"' in (tmp_path / "report.html").read_text()
