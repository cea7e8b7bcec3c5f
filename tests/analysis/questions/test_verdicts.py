"""``python -m analysis shifts``: what is printed, and that no bare p-value decides."""

import polars as pl
import pytest

from analysis.__main__ import main
from tests.analysis.conftest import cell, sweep
from tests.analysis.statistics.test_families import measured, redrawn


def results(extra=()):
    rows = sweep(bits=(None, 8, 4), models=("generative",))
    tensors = []
    for row in rows:
        where = (row["bits"], row["class_ratio"], row["noise"])
        if row["class_ratio"] not in (None, "balanced"):
            p = 0.0001 if row["bits"] == 4 else 0.8
            tensors.append(measured(row, p, 0.1234 if row["class_ratio"] == "classes:1" else 0.01))
        if row["noise"] != "clean":
            tensors.append(measured(row, 0.0001, 0.05, "logits", "clean_vs_noisy"))
        if where == (4, "balanced", "clean"):
            tensors += redrawn(row, [0.02] * 5)
        if row["bits"] is not None:
            tensors += [measured(row, p, contrast="null_halves") for p in (0.01, 0.3, 0.9)]
        else:
            tensors.append(measured(row, None, 0.0, contrast="null_float"))
    return rows, [*tensors, *extra]


def test_class_ratios_and_noise_have_their_verdicts(write_results, capsys):
    assert main(["shifts", str(write_results(*results()))]) == 0
    text = capsys.readouterr().out
    lines = [line.removeprefix("lstm.0.cell_state").split() for line in text.splitlines()]
    assert ["8", "classes:3", "0.800", "0.0100", "–", "not", "shown"] in lines
    assert ["4", "classes:3", "2.0e-04", "0.0100", "0.0200", "within", "redraws"] in lines
    assert ["4", "classes:1", "2.0e-04", "0.1234", "0.0200", "changed"] in lines
    unknown = "q < .05, margin unknown".split()
    assert ["8", "typo", "5%", "1.0e-04", "0.0500", "–", *unknown] in lines
    assert ["logits", "FP32", "typo", "5%", "1.0e-04", "0.0500", "0.0000", "changed"] in lines
    assert "Benjamini-Hochberg over a family of 18 tests." in " ".join(text.split())
    assert "signific" not in text.lower()
    assert "p_nominal" not in text


def test_a_failed_control_is_the_first_line_here_and_near_the_top_of_the_summary(write_results, capsys):
    out = str(write_results(*results()))
    expected = (
        "A null control FAILED, trust no shift below: random halves of the documents through one model: "
        "rejected 24 of 72, which .05 explains once in 1000 sweeps at most"
    )
    main(["shifts", out])
    assert " ".join(capsys.readouterr().out.split()).startswith(expected)
    main(["summary", out])
    text = " ".join(capsys.readouterr().out.split())
    assert text.index(expected) < text.index("Accuracy")


def test_sound_controls_raise_no_alarm(write_results, capsys):
    row = cell(4)
    tensors = [measured(row, p / 100, contrast="null_halves") for p in range(1, 101)]
    main(["shifts", str(write_results([row], tensors))])
    text = capsys.readouterr().out
    assert "FAILED" not in text
    assert ["100", "0.050", "0.016–0.113", "0.1"] in [line.split()[-4:] for line in text.splitlines()]
    assert "No shift was tested: there is no class ratio or noise to compare." in text


def test_a_graph_that_differs_is_a_failed_control(write_results, capsys):
    row = cell(None)
    main(["shifts", str(write_results([row], [measured(row, None, 0.25, contrast="null_float")]))])
    found = " ".join(capsys.readouterr().out.split())
    assert found.startswith(
        "A null control FAILED, trust no shift below: the float model against its graph with the quantizers "
        "off: D is 0.25, at most 0.001 is rounding"
    )


def test_older_results_say_that_nothing_was_measured(write_results, capsys):
    main(["shifts", str(write_results(sweep()))])
    assert "None was measured: these are results of an older version." in capsys.readouterr().out


def test_csv_has_every_test(write_results, capsys):
    main(["shifts", str(write_results(*results())), "--csv", "--method", "by"])
    found = pl.read_csv(capsys.readouterr().out.encode())
    assert found.height == 18 + 18
    assert found.filter(pl.col("verdict") == "changed").height == 5  # of ratios 3, of FP32 2
    bh_q = 0.0001 * 18 / 9
    assert found.filter(pl.col("p") == 0.0001)["q"].min() > bh_q


def test_an_unknown_method_exits_with_2(write_results):
    with pytest.raises(SystemExit) as stopped:
        main(["shifts", str(write_results(sweep())), "--method", "holm"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("family", "method", "hits", "shown", "said"),
    [
        (18, "bh", 1, True, None),
        (499, "bh", 1, True, None),
        (500, "bh", 1, False, "a q of 0.050 at least: q < .05 takes 2 tests with that p."),
        (648, "bh", 1, False, "a q of 0.065 at least: q < .05 takes 2 tests with that p."),
        (648, "bh", 2, True, "a q of 0.065 at least: q < .05 takes 2 tests with that p."),
        (2376, "bh", 4, False, "a q of 0.238 at least: q < .05 takes 5 tests with that p."),
        (2376, "bh", 5, True, "a q of 0.238 at least: q < .05 takes 5 tests with that p."),
        (648, "by", 9, False, "a q of 0.457 at least: q < .05 takes 10 tests with that p."),
        (648, "by", 10, True, "a q of 0.457 at least: q < .05 takes 10 tests with that p."),
    ],
)
@pytest.mark.slow
def test_what_a_family_is_too_large_to_show_is_said(write_results, capsys, family, method, hits, shown, said):
    row = cell(4, "classes:1")
    tensors = [measured(row, 1e-4 if i < hits else 1.0, tensor=f"t{i:04d}") for i in range(family)]
    assert main(["shifts", str(write_results([row], tensors)), "--method", method]) == 0
    text = " ".join(capsys.readouterr().out.split())
    start = "No p is below 0.0001, so that a shift alone in this family has "
    assert (start + said in text) if said else (start not in text)
    assert ("margin unknown" in text) == shown
