"""The verdicts on the paper's findings, from made-up results in which the truth is known."""

import pytest

from analysis.__main__ import USER_ERROR, main
from analysis.frames.reading import load
from analysis.questions.findings import findings
from tests.analysis.conftest import DOCUMENTS, cell

FP32 = {"discriminative": 0.90, "generative": 0.90}
TYPO = ("typo", 0.1)


def answers(row, right):
    """Documents of two classes, the first `right` of them classified right."""
    labels = [number % 2 for number in range(DOCUMENTS)]
    predicted = [label if place < right else 1 - label for place, label in enumerate(labels)]
    return {"cell_id": row["cell_id"], "labels": labels, "predicted": predicted, "margin": [1.0] * DOCUMENTS}


@pytest.fixture
def write(write_results):
    """Write a sweep at 3 bits, two seeds, whose drops are given by (model, algorithm, ratio, noise)."""

    def made(drops, moved=(0.2, 0.3), seeds=(0, 1), **other):
        rows, predictions, tensors = [], [], []
        for seed in seeds:
            for model, fp32 in FP32.items():
                for noise in (("clean", 0.0), TYPO):
                    known = fp32 - drops.get((model, None, None, noise[0]), 0.0)
                    settings = [(None, None, None)]
                    settings += [(3, a, r) for a in ("gpfq", "none") for r in ("balanced", "classes:1")]
                    for bits, algorithm, ratio in settings:
                        drop = drops.get((model, algorithm, ratio, noise[0]), 0.0) if bits else 0.0
                        row = cell(
                            bits, ratio, noise, model=model, seed=seed, algorithm=algorithm,
                            accuracy=known - drop, accuracy_drop=drop, fp32_accuracy=known, **other,
                        )  # fmt: skip
                        rows.append(row)
                        predictions.append(answers(row, round((known - drop) * DOCUMENTS)))
                        if bits:
                            tensors += [
                                {
                                    "cell_id": row["cell_id"], "tensor": f"decoder.weight.{part}",
                                    "kind": "weight", "contrast": "fp32_vs_quantized",
                                    "relative_distance": moved[ratio == "balanced"],
                                }
                                for part in ("hidden", "label")
                            ]  # fmt: skip
        # the baseline says nothing of the claims, which are about LSTMs
        rows.append(cell(None, model="unigram", embedding="none", hidden=None, layers=None, seed=0))
        return write_results(rows, tensors, predictions=predictions)

    return made


def verdicts(out):
    return [one.verdict() for one in findings(load(out))]


G, D, B, ONE = "generative", "discriminative", "balanced", "classes:1"
AS_THE_PAPER = {
    (G, "gpfq", B, "clean"): 0.05, (G, "gpfq", ONE, "clean"): 0.20, (G, "gpfq", B, "typo"): 0.30,
    (G, "none", B, "clean"): 0.05, (G, "none", ONE, "clean"): 0.25, (G, "none", B, "typo"): 0.30,
    (G, None, None, "typo"): 0.03,
}  # fmt: skip


def test_everything_as_the_paper_says(write):
    assert verdicts(write(AS_THE_PAPER)) == ["holds"] * 4


def test_nothing_as_the_paper_says(write):
    assert verdicts(write({})) == ["does not hold"] * 4


@pytest.mark.filterwarnings("error:Comparisons with None")
def test_settings_that_an_older_schema_did_not_record_are_alike(write):
    unknown = dict.fromkeys(("observer", "io_scales", "padding"))
    assert verdicts(write(AS_THE_PAPER, **unknown)) == ["holds"] * 4


def test_a_claim_can_hold_with_one_recipe(write):
    drops = AS_THE_PAPER | {(G, "none", B, "clean"): 0.0, (G, "none", ONE, "clean"): 0.0}
    found = verdicts(write(drops))
    assert found[0] == "holds only with weights corrected by gpfq"
    assert found[1] == "holds only with weights corrected by gpfq"
    assert found[2] == "does not hold"  # a decoder that does not adapt at all loses nothing


def test_weights_that_move_more_have_not_failed_to_adapt(write):
    assert verdicts(write(AS_THE_PAPER, moved=(0.4, 0.3)))[2] == "does not hold"


def test_a_model_that_noise_breaks_at_full_precision_is_not_robust(write):
    assert verdicts(write(AS_THE_PAPER | {(G, None, None, "typo"): 0.2}))[3] == "does not hold"


def test_harm_below_a_point_is_none(write):
    drops = {(G, a, ONE, "clean"): 0.0075 for a in ("gpfq", "none")}
    assert verdicts(write(drops))[1] == "does not hold"


def test_the_lowest_width_decides():
    from analysis.questions.findings import Finding, Outcome

    outcomes = [Outcome("gpfq", 3, True, ""), Outcome("gpfq", 4, False, ""), Outcome("none", 4, False, "")]
    assert Finding("", "", outcomes).verdict() == "holds only with gpfq"
    assert Finding("", "", outcomes[1:]).verdict() == "does not hold"
    assert Finding("", "", []).verdict() == "was not measured"


def test_the_document(write, tmp_path, capsys):
    results, out = write(AS_THE_PAPER), tmp_path / "findings.md"
    assert main(["findings", str(results), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    text = out.read_text()
    assert text.startswith("# The paper's findings, on bbc_news, glove vectors\n")
    assert f"`python -m analysis findings {results} --out {out}`" in text
    assert "2. Uneven calibration classes hurt the generative model at low bits: **holds**." in text
    assert (
        "classes:1 costs the generative model 15.0 (12.5 to 17.5) against balanced, the discriminative one "
        "0.0 (0.0 to 0.0)" in text
    )
    assert "| generative | gpfq | 8 | 3 | classes:1 | 70.0 | 20.0 |" in text
    assert "2 seeds of 400 test documents each" in text


def test_what_cannot_be_judged_is_said(write_results, capsys):
    out = write_results([cell(None), cell(3)])  # no answers by document
    assert main(["findings", str(out)]) == USER_ERROR
    assert capsys.readouterr().err == (
        f"error: nothing to judge in {out}: findings need FP32 and quantized cells with answers by document\n"
    )


def test_one_corpus_at_a_time(write, capsys):
    out = write(AS_THE_PAPER, seeds=(0,))
    import polars as pl

    path = next((out / "cells").glob("*2.parquet"))
    rows = pl.read_parquet(path)
    rows.with_columns(dataset=pl.lit("ag_news")).write_parquet(path)
    assert main(["findings", str(out)]) == USER_ERROR
    assert "findings are of one dataset, these results have ag_news, bbc_news: " in capsys.readouterr().err
