"""Movement, twins and rank correlations of made-up cells."""

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.__main__ import main
from analysis.questions.mechanism import correlations, mechanism, spearman
from tests.analysis.conftest import cell


def parts_of(row, hidden, label):
    same = {"cell_id": row["cell_id"], "kind": "weight", "contrast": "fp32_vs_quantized"}
    rows = [
        same | {"tensor": "decoder.weight.hidden", "relative_distance": hidden},
        same | {"tensor": "decoder.weight.label", "relative_distance": label},
        same | {"tensor": "decoder_input", "kind": "activation", "clip_fraction": 0.25},
    ]
    if row["class_ratio"] != "balanced":
        rows += [part | {"contrast": "balanced_vs_ratio", "relative_distance": 2 * part["relative_distance"]}
                 for part in rows[:2]]  # fmt: skip
    return rows


@pytest.fixture
def out(write_results):
    rows, tensors = [], []
    for seed in (0, 1):
        for place, bits in enumerate((8, 6, 4, 3)):
            for ratio in ("balanced", "classes:1"):
                drop = 0.1 * place + (0.2 + 0.1 * seed if ratio != "balanced" else 0.0)
                row = cell(bits, ratio, seed=seed, accuracy_drop=drop, dead_signal="logits" if seed else None)
                rows.append(row)
                tensors += parts_of(row, hidden=drop + 0.1, label=0.5 - drop / 2)
    return write_results([*rows, cell(None), cell(3, noise=("typo", 0.1))], tensors)


def test_each_cell_stands_beside_its_twin(out):
    found = mechanism(*analysis.load(out))
    assert found["bits"].to_list() == [8, 8, 6, 6, 4, 4, 3, 3]
    balanced, uneven = found.rows(named=True)[-2:]
    assert (balanced["seeds"], uneven["class_ratio"]) == (2, "classes:1")
    assert balanced["accuracy_drop"] == balanced["twin_drop"] == pytest.approx(0.3)
    assert uneven["accuracy_drop"] == pytest.approx(0.55)
    assert uneven["twin_drop"] == pytest.approx(0.3)
    assert uneven["hidden_moved"] == pytest.approx(0.65)
    assert uneven["label_moved"] == pytest.approx(0.225)
    assert uneven["hidden_from_twin"] == pytest.approx(1.3)
    assert balanced["hidden_from_twin"] is None
    assert (uneven["decoder_clipped"], uneven["dead"]) == (0.25, 0.5)
    assert 0.2 < uneven["most_predicted"] < 1


def test_correlations_over_cells(out):
    found = {
        (row["contrast"], row["tensor"], row["statistic"]): row
        for row in correlations(*analysis.load(out)).iter_rows(named=True)
    }
    row = found["fp32_vs_quantized", "decoder.weight.hidden", "relative_distance"]
    assert (row["cells"], row["rho"], row["low"], row["high"]) == (
        16,
        1.0,
        pytest.approx(1),
        pytest.approx(1),
    )
    assert found["fp32_vs_quantized", "decoder.weight.label", "relative_distance"]["rho"] == -1
    assert not [key for key in found if key[2] == "clip_fraction"]  # constant


def test_spearman_is_scipys_and_its_interval_holds_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # of a bivariate normal with correlation .6
    for _ in range(100):
        a = rng.normal(size=60)
        b = 0.6 * a + 0.8 * rng.normal(size=60)
        rho, low, high = spearman(a, b, rng)
        assert rho == stats.spearmanr(a, b).statistic
        hits += low <= truth <= high
    assert hits >= stats.binom.ppf(0.001, 100, 0.93)


def test_printed(out, capsys):
    assert main(["mechanism", str(out), "--rows", "2"]) == 0
    text = capsys.readouterr().out
    assert "Generative, glove, bbc_news: beside balanced twins" in text
    assert "Exploratory: rank correlation with points lost, generative, glove, bbc_news" in text
    main(["mechanism", str(out), "--csv"])
    assert capsys.readouterr().out.startswith("dataset,embedding,")


def test_nothing_is_quantized(write_results, capsys):
    main(["mechanism", str(write_results([cell(None)]))])
    assert capsys.readouterr().out == "No generative cell is quantized and finished on clean input yet.\n"
