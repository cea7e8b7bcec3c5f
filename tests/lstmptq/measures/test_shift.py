import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lstmptq.measures.shift import (
    Distribution,
    ks_distance,
    ks_dithered,
    nominal_p,
    shift_columns,
    sqnr_db,
    wasserstein,
)

values = st.lists(st.integers(-6, 6).map(lambda i: i / 2), min_size=1, max_size=40)


def of(data):
    return Distribution.of_values(np.asarray(data, dtype=np.float64))


@settings(max_examples=300, deadline=None)
@given(values, values)
def test_ks_equals_scipy(a, b):
    expected = stats.ks_2samp(a, b, method="asymp")
    found = ks_distance(of(a), of(b))
    assert found.d == pytest.approx(expected.statistic, abs=1e-12)
    gap = float(of(a).cdf(np.array([found.location]))[0] - of(b).cdf(np.array([found.location]))[0])
    if found.d > 0:
        assert abs(gap) == pytest.approx(found.d)
        assert found.sign == np.sign(gap)


RNG = np.random.default_rng(8)
SIDES = {
    "random": RNG.normal(size=3001),
    "shifted": RNG.normal(0.2, 1.5, size=1700),
    "tied": RNG.integers(-4, 4, 900) * 0.25,
    "clipped": np.clip(RNG.normal(size=800), -0.5, 0.5),
    "constant": np.full(7, 0.25),
    "one": np.array([0.1]),
}


@pytest.mark.parametrize("b", SIDES)
@pytest.mark.parametrize("a", SIDES)
def test_ks_equals_scipy_to_the_last_digits(a, b):
    expected = stats.ks_2samp(SIDES[a], SIDES[b], method="asymp").statistic
    assert ks_distance(of(SIDES[a]), of(SIDES[b])).d == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_wasserstein_equals_scipy(a, b):
    assert wasserstein(of(a), of(b)) == pytest.approx(stats.wasserstein_distance(a, b), abs=1e-9)


def test_wasserstein_of_many_values_equals_scipy():
    rng = np.random.default_rng(0)
    a = rng.normal(size=70_000)
    levels = np.round(a * 4)
    found = wasserstein(of(a), Distribution.of_levels(levels.astype(int), 0.25))
    assert found == pytest.approx(stats.wasserstein_distance(a, levels / 4), rel=1e-9)


@pytest.mark.parametrize("sizes", [(50, 70), (1000, 1000), (2_000_000, 300)])
def test_nominal_p_equals_scipy(sizes):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=sizes[0]), rng.normal(0.1, size=sizes[1])
    expected = stats.ks_2samp(a, b, method="asymp")
    assert nominal_p(expected.statistic, *sizes) == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize(("n", "exponent", "tolerance"), [(20_000, 18.1, 0.02), (100_000, 18.1, 0.002)])
def test_tiny_nominal_p_is_close_to_scipy(n, exponent, tolerance):
    """Beyond 1e-15 the formula takes over from SciPy's sum, and it takes over smoothly."""
    d = np.sqrt(exponent / n)
    assert nominal_p(d, 2 * n, 2 * n) == pytest.approx(stats.kstwo.sf(d, n), rel=tolerance)
    assert nominal_p(d, 2 * n, 2 * n) < 1e-15


def test_nominal_p_of_a_huge_shift_is_zero_as_in_scipy():
    assert nominal_p(0.5, 2_000_000, 2_000_000) == 0.0
    assert stats.kstwo.sf(np.sqrt(401 / 5000), 5000) == 0.0


def test_levels_are_counted_as_values_would_be():
    codes = np.array([[3, -2, 3], [0, 3, -2]])
    counted, sorted_ = Distribution.of_levels(codes, 0.5), of(codes * 0.5)
    np.testing.assert_allclose(counted.points, sorted_.points)
    np.testing.assert_array_equal(counted.counts, sorted_.counts)
    assert counted.mean == pytest.approx((codes * 0.5).mean())
    assert counted.std == pytest.approx((codes * 0.5).std())


@pytest.mark.parametrize(("bits", "d"), [(3, 0.224), (4, 0.114), (5, 0.057), (8, 0.007)])
def test_grid_floor_of_a_normal_population(bits, d):
    """With absmax scaling D mostly restates the bit width: half the largest atom."""
    sample = np.random.default_rng(0).normal(size=80_000)
    scale = np.abs(sample).max() / 2 ** (bits - 1)
    codes = np.clip(np.round(sample / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(int)
    columns = shift_columns(of(sample), Distribution.of_levels(codes, scale), population=True)
    assert columns["ks_d"] == pytest.approx(d, abs=0.005)
    assert columns["ks_d"] >= columns["atom_floor"] - 1e-9
    assert columns["atom_floor"] == pytest.approx(columns["ks_d"], abs=0.003)
    assert columns["p_nominal"] is None
    assert columns["ks_d_dithered"] < columns["ks_d"] / 4  # next to no clipping: little is left


def test_dithered_distance_shows_clipping():
    sample = np.random.default_rng(0).normal(size=50_000)
    codes = np.clip(np.round(sample / 0.1), -8, 7).astype(int)  # clips at 0.75 of a standard deviation
    assert ks_dithered(of(sample), Distribution.of_levels(codes, 0.1)) > 0.1


def test_dithered_distance_matches_a_drawn_dither():
    rng = np.random.default_rng(3)
    sample = rng.gamma(2.0, size=40_000)
    codes = np.clip(np.round(sample / 0.5), 0, 9).astype(int)
    drawn = codes * 0.5 + rng.uniform(-0.25, 0.25, size=codes.shape)
    expected = stats.ks_2samp(sample, drawn).statistic
    assert ks_dithered(of(sample), Distribution.of_levels(codes, 0.5)) == pytest.approx(expected, abs=0.01)


def test_equal_sides_have_no_distance():
    side = Distribution.of_levels(np.array([1, 2, 2]), 0.5)
    columns = shift_columns(side, side, population=False)
    assert (columns["ks_d"], columns["ks_sign"], columns["wasserstein"], columns["ks_d_dithered"]) == (
        0,
        0,
        0,
        0,
    )
    assert columns["atom_floor"] is None  # both sides lie on a grid: D may well be 0


def test_huge_n_makes_the_nominal_p_meaningless():
    assert nominal_p(0.0084, 5_400_000, 5_400_000) < 1e-100
    assert nominal_p(0.0084, 10_000, 10_000) > 0.8


def test_sqnr():
    signal = np.array([1.0, -1.0, 2.0], dtype=np.float32)
    assert sqnr_db(signal, signal + 0.1) == pytest.approx(10 * np.log10(6 / 0.03), rel=1e-4)
    assert sqnr_db(signal, signal) is None
    assert sqnr_db(np.zeros(3), signal) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a distribution needs at least one value, got none"),
        ([np.nan, 1.0], "needs finite values, got 1 others"),
    ],
)
def test_bad_values(data, message):
    with pytest.raises(ValueError, match=message):
        Distribution.of_values(np.array(data))


def test_quantiles_are_values_that_occur():
    rng = np.random.default_rng(0)
    values = rng.normal(size=1001).astype(np.float32)
    found = Distribution.of_values(values).quantiles()
    expected = np.quantile(values, np.arange(33) / 32, method="inverted_cdf")
    assert found == expected.tolist()
    codes = rng.integers(-4, 4, size=500)
    levels = Distribution.of_levels(codes, 0.5).quantiles()
    assert levels == np.quantile(codes * 0.5, np.arange(33) / 32, method="inverted_cdf").tolist()
    assert Distribution.of_values(np.zeros(3)).quantiles() == [0.0] * 33
