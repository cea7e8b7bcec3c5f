"""Families, false discovery, margins and verdicts; null controls."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.statistics.controls import null_controls
from analysis.statistics.families import CHANGED, NOT_SHOWN, UNKNOWN, WITHIN, judged_shifts
from tests.analysis.conftest import cell, failed
from tests.analysis.statistics.test_shifts import frames


def measured(row, p, d=0.1, tensor="lstm.0.cell_state", contrast="balanced_vs_ratio", **other):
    return {"cell_id": row["cell_id"], "tensor": tensor, "kind": "activation", "contrast": contrast,
            "p_permutation": p, "document_d": d} | other  # fmt: skip


def redrawn(row, distances, tensor="lstm.0.cell_state"):
    return [measured(row, None, d, tensor, "balanced_vs_redraw") for d in distances]


def test_q_is_scipys_within_each_family():
    """Bits, ratios and tensors of one model are one family; another model or contrast is another."""
    rng = np.random.default_rng(0)
    rows, tensors, expected = [], [], {}
    for model in ("discriminative", "generative"):
        for contrast in ("balanced_vs_ratio", "clean_vs_noisy"):
            ps = rng.random(12) ** 3
            expected[model, contrast] = ps
            places = [(bits, ratio, noise) for bits in (8, 4, 3) for ratio in ("balanced", "classes:1")
                      for noise in (("clean", 0.0), ("typo", 0.1))]  # fmt: skip
            for p, (bits, ratio, noise) in zip(ps, places, strict=True):
                row = cell(bits, ratio, noise, model=model)
                rows.append(row)
                tensors.append(measured(row, p, contrast=contrast))
    unique = list({row["cell_id"]: row for row in rows}.values())
    for method in ("bh", "by"):
        found = judged_shifts(*frames(unique, tensors), method=method)
        assert found["family"].unique().to_list() == [12]
        for (model, contrast), ps in expected.items():
            part = found.filter(model=model, contrast=contrast).sort("p")
            np.testing.assert_allclose(part["q"], stats.false_discovery_control(np.sort(ps), method=method))
    assert found["contrast"].unique(maintain_order=True).to_list() == ["balanced_vs_ratio", "clean_vs_noisy"]


def test_false_discoveries_of_a_mixture_stay_below_the_level():
    """40 tensors, 10 of them shifted: of what is discovered, 5 % at most are false, on average."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(60):
        row = cell(4, "classes:1")
        shifted = np.arange(40) < 10
        p = np.where(shifted, stats.norm.sf(rng.normal(3.5, 1, 40)), rng.random(40))
        found = judged_shifts(*frames([row], [measured(row, x, tensor=f"{i:02d}") for i, x in enumerate(p)]))
        hits = found.filter(pl.col("verdict") == UNKNOWN)["tensor"].cast(pl.Int64).to_numpy()
        shares.append((hits >= 10).mean() if len(hits) else 0.0)
    assert np.mean(shares) <= 0.05 + 3 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) > 0  # the test can fail


def test_changed_needs_q_and_a_d_above_the_margin():
    balanced, uneven = cell(4), cell(4, "classes:1")
    margin = redrawn(balanced, [0.01, 0.02, 0.03, 0.04, 0.05])
    for p, d, verdict in [(1e-4, 0.06, CHANGED), (1e-4, 0.04, WITHIN), (0.5, 0.06, NOT_SHOWN)]:
        found = judged_shifts(*frames([balanced, uneven], [*margin, measured(uneven, p, d)]))
        assert found["verdict"].to_list() == [verdict]
        assert found["margin"][0] == pytest.approx(np.quantile([0.01, 0.02, 0.03, 0.04, 0.05], 0.95))
        assert found["redraws"].to_list() == [5]


def test_a_margin_is_of_the_same_tensor_bits_and_model_but_of_any_seed():
    uneven = cell(4, "classes:1")
    others = [cell(3), cell(4, model="discriminative"), cell(4, embedding="spacy"), cell(4, algorithm="none")]
    tensors = [row for other in others for row in redrawn(other, [0.5])]
    tensors += redrawn(cell(4), [0.5], tensor="logits")
    rows = [uneven, cell(4), *others]
    assert judged_shifts(*frames(rows, [*tensors, measured(uneven, 1e-4)]))["verdict"].to_list() == [UNKNOWN]
    seed = cell(4, seed=1)
    found = judged_shifts(*frames([*rows, seed], [*tensors, *redrawn(seed, [0.05]), measured(uneven, 1e-4)]))
    assert found["verdict"].to_list() == [CHANGED]


def test_nothing_is_drawn_for_fp32():
    row = cell(None, None, ("typo", 0.1))
    found = judged_shifts(*frames([row], [measured(row, 1e-4, contrast="clean_vs_noisy")]))
    assert found.select("margin", "verdict").rows() == [(0.0, CHANGED)]


def test_untested_and_orphaned_rows_are_no_part_of_a_family():
    row, gone = cell(4, "classes:1"), failed(3, "classes:1")
    weight = measured(row, None, tensor="decoder.weight", kind="weight")
    found = judged_shifts(*frames([row, gone], [measured(row, 0.03), weight, measured(gone, 0.9)]))
    assert found.select("q", "family").rows() == [(0.03, 1)]


def test_results_of_an_older_version_were_not_tested():
    found = judged_shifts(*frames([cell(4, "classes:1")]))
    assert found.is_empty()
    assert {"q", "margin", "verdict"} <= set(found.columns)


def test_an_unknown_method():
    with pytest.raises(ValueError, match="method must be bh or by, got 'holm'"):
        judged_shifts(*frames([cell(4)]), method="holm")


def controls(rejected, tests, contrast="null_halves"):
    row = cell(4)
    p = [0.05] * rejected + [0.051] * (tests - rejected)
    return frames([row], [measured(row, x, contrast=contrast) for x in p])


def test_rates_of_null_controls_have_their_interval():
    (found,) = null_controls(*controls(6, 100)).rows(named=True)
    interval = stats.binomtest(6, 100).proportion_ci(0.95)
    assert (found["tests"], found["rejected"], found["rate"], found["failed"]) == (100, 6, 0.06, False)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("rejected", "fails"), [(0, False), (13, False), (14, True), (60, True)])
def test_a_control_fails_where_chance_hardly_explains_it(rejected, fails):
    assert null_controls(*controls(rejected, 100))["failed"].to_list() == [fails]
    assert (stats.binom.sf(rejected - 1, 100, 0.05) <= 1e-3) == fails


@pytest.mark.parametrize(("d", "fails"), [(0.0, False), (0.0005, False), (0.002, True)])
def test_quantizers_that_are_off_must_change_nothing(d, fails):
    row = cell(None)
    (found,) = null_controls(*frames([row], [measured(row, None, d, contrast="null_float")])).rows(named=True)
    assert (found["failed"], found["rate"], found["largest_d"]) == (fails, None, d)


def test_older_results_have_no_controls():
    assert null_controls(*frames([cell(4, "classes:1")])).is_empty()
