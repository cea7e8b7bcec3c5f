"""Tables word for word on a small fixed sweep, and figures by their data."""

import pytest

from analysis.__main__ import main
from analysis.frames.reading import ResultsError, load
from analysis.presentation.exports import select_figure
from tests.analysis.conftest import sweep, tensors_of

GOLDEN = """**Balanced against uneven calibration**

| model | vectors | input | class ratio | bits | balanced, % | this ratio, % | lost against balanced, points | from, points | to, points | seeds | documents | remark |
| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| generative | glove | clean | classes:1 | 4 | 88.0 | 85.0 | 3.0 | – | – | 1 | 400 |  |
"""  # noqa: E501


def test_a_table_as_markdown(write_results, capsys):
    out = write_results(sweep())
    where = ["model=generative", "input=clean", "class_ratio=classes:1", "width=4"]
    assert main(["table", str(out), "ratios", "--where", *where]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(GOLDEN)
    assert f"`python -m analysis table {out} ratios --format markdown --where model=generative" in printed
    assert "n: 54 settings of 1 seed, 400 test documents each; 1 rows shown." in printed


def test_a_table_as_latex_and_csv(write_results, capsys):
    out = str(write_results(sweep()))
    where = ["--where", "model=generative", "input=typo 20%", "class_ratio=balanced", "width=8"]
    assert main(["table", out, "accuracy", "--format", "latex", *where]) == 0
    text = capsys.readouterr().out
    assert r"\toprule" in text
    assert r"generative & glove & typo 20\% & balanced & 8 & 86.0" in text
    assert main(["table", out, "accuracy", "--format", "csv", *where]) == 0
    assert capsys.readouterr().out.splitlines()[3].startswith("model,vectors,input,class ratio,bits,")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["table", "nothing"],
            "error: there is no table nothing: use one of accuracy, ratios, noise,",
        ),
        (["table", "accuracy", "--where", "x"], "error: --where x cannot be met: write column=value"),
        (
            ["table", "accuracy", "--where", "width=9"],
            "error: --where width=9 leaves no row: width is",
        ),
        (["figure", "accuracy", "--out", "a.pdf"], "error: a.pdf ends in .pdf: a figure is a .svg or a .png"),
    ],
)
def test_a_wrong_wish_says_what_there_is(write_results, capsys, args, message):
    assert main([args[0], str(write_results(sweep())), *args[1:]]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_the_data_of_a_figure(write_results):
    results = load(write_results(sweep()))
    figure, rows = select_figure(results, "noise", ["model=generative", "width=3"])
    assert figure.controls == ("embedding", "class_ratio", "kind")
    assert rows["class_ratio"].unique().to_list() == ["balanced"]
    assert rows.sort("level")["accuracy"].round(1).to_list() == [46.0, 43.5, 36.0]
    with pytest.raises(ResultsError, match="there is no figure cells: use one of accuracy, ratios"):
        select_figure(results, "cells", [])


def test_a_figure_is_written(write_results, tmp_path, capsys):
    out = str(write_results(sweep()))
    for suffix, start in ((".svg", b"<svg"), (".png", b"\x89PNG")):
        file = tmp_path / f"figure{suffix}"
        assert main(["figure", out, "shifts", "--out", str(file)]) == 0
        assert file.read_bytes().startswith(start)
    assert "comparison = quantization, calibrated balanced" in capsys.readouterr().out


def test_distributions_before_and_after(write_results):
    results = load(write_results(sweep()))
    figure, rows = select_figure(results, "distributions", ["width=3", "tensor=decoder.weight"])
    assert figure.controls == ("embedding", "tensor", "width")
    assert rows["side"].unique(maintain_order=True).to_list() == ["FP32", "balanced", "classes:1"]
    for model in ("discriminative", "generative"):
        curve = rows.filter(model=model, side="balanced")
        assert curve["share"].to_list() == [k * 3.125 for k in range(33)]
        assert curve["value"].to_list() == [0.25 * round((k / 16 - 1) / 0.25) for k in range(33)]
    assert set(figure.exhibit.rows["tensor"]) == {
        "lstm.0.cell_state", "decoder.weight", "lstm.0.input_gate.weight"
    }  # fmt: skip


def test_results_without_quantiles_have_no_distributions(write_results):
    rows = sweep()
    old = [{k: v for k, v in t.items() if "quantiles" not in k} for row in rows for t in tensors_of(row)]
    with pytest.raises(ResultsError, match="there is nothing to draw in distributions"):
        select_figure(load(write_results(rows, old)), "distributions", [])
