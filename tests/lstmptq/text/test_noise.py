"""Input noise: its notation, what it may touch, and that levels share their draws."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmptq.text.noise import CLEAN, NEIGHBOURS, Noise, add_noise

USE = "use clean, typo:LEVEL, swap:LEVEL or drop:LEVEL with a level in (0, 1]"
TEXTS = st.text(st.sampled_from("abcXYZ  'é3,"), max_size=60)
SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.floats(0.001, 1)


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("clean", CLEAN),
        ("typo:0.05", Noise("typo", 0.05)),
        ("typo:0.10", Noise("typo", 0.1)),
        ("swap:1", Noise("swap", 1.0)),
        ("drop:2e-1", Noise("drop", 0.2)),
        (" drop:0.2 ", Noise("drop", 0.2)),
    ],
)
def test_parse(text, noise):
    assert Noise.parse(text) == noise


@given(st.sampled_from(["typo", "swap", "drop"]), LEVELS)
def test_str_gives_what_parse_reads(kind, level):
    assert Noise.parse(str(Noise(kind, level))) == Noise(kind, level)


def test_str():
    assert [str(noise) for noise in (CLEAN, Noise("typo", 0.10), Noise("swap", 1))] == [
        "clean",
        "typo:0.1",
        "swap:1.0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise:0.1", f"unknown kind of noise 'noise' in 'noise:0.1': {USE}"),
        ("", f"unknown kind of noise '' in '': {USE}"),
        ("clean:0.1", f"clean takes no level, got 'clean:0.1': {USE}"),
        ("clean:", f"clean takes no level, got 'clean:': {USE}"),
        ("typo", f"typo needs a level, got 'typo': {USE}"),
        ("typo:", f"typo needs a level, got 'typo:': {USE}"),
        ("drop:much", f"the level of drop must be a number, got 'much' in 'drop:much': {USE}"),
        ("drop:nan", f"the level of drop must be a number, got 'nan' in 'drop:nan': {USE}"),
        ("drop:5%", f"the level of drop must be a number, got '5%' in 'drop:5%': {USE}"),
        ("swap:0", f"the level of swap must be in (0, 1], got 0.0: {USE}"),
        ("swap:-0.1", f"the level of swap must be in (0, 1], got -0.1: {USE}"),
        ("swap:1.01", f"the level of swap must be in (0, 1], got 1.01: {USE}"),
        ("swap:inf", f"the level of swap must be in (0, 1], got inf: {USE}"),
    ],
)
def test_parse_says_what_is_wrong(text, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared)
        Noise.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "level", "message"),
    [
        ("blur", 0.1, f"unknown kind of noise 'blur': {USE}"),
        ("clean", 0.1, f"clean takes no level, got 0.1: {USE}"),
        ("typo", 0.0, f"the level of typo must be in (0, 1], got 0.0: {USE}"),
        ("typo", float("nan"), f"the level of typo must be in (0, 1], got nan: {USE}"),
    ],
)
def test_the_constructor_says_what_is_wrong(kind, level, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Noise(kind, level)
    assert str(caught.value) == message


def test_equal_noises_have_equal_levels_in_json():
    assert repr(Noise("typo", 1).level) == "1.0"
    assert repr(Noise("clean", -0.0).level) == "0.0"


def test_clean_is_the_default_and_comes_first():
    assert Noise() == CLEAN
    assert sorted([Noise("drop", 0.1), CLEAN, Noise("typo", 0.1)])[0] == CLEAN
    assert add_noise("as it was", CLEAN, 3) == "as it was"


def test_swap_exchanges_the_pairs_of_each_word():
    assert add_noise("abcd efg, h Ij don't", Noise("swap", 1), 0) == "badc feg, h jI odn't"


def test_drop_deletes_letters_only():
    assert add_noise("a1 Bé, c", Noise("drop", 1), 0) == "1 é, "


def test_typo_takes_a_letter_beside_it_in_the_same_case():
    letters = string.ascii_letters * 20
    noisy = add_noise(letters, Noise("typo", 1), 5)
    assert len(noisy) == len(letters)
    for before, after in zip(letters, noisy, strict=True):
        assert after.lower() in NEIGHBOURS[before.lower()]
        assert after.isupper() == before.isupper()
    reached = {(before.lower(), after.lower()) for before, after in zip(letters, noisy, strict=True)}
    assert reached == {(letter, other) for letter, around in NEIGHBOURS.items() for other in around}


def test_neighbours_are_mutual_and_complete():
    assert sorted(NEIGHBOURS) == list(string.ascii_lowercase)
    for letter, around in NEIGHBOURS.items():
        assert len(set(around)) == len(around)
        assert all(letter in NEIGHBOURS[other] for other in around)
        assert letter not in around


@pytest.mark.parametrize("kind", ["typo", "drop", "swap"])
def test_only_ascii_letters_change(kind):
    text = "12.5 % – 日本 café naïve ÀÉÎ ... £100!\n\t"
    noisy = add_noise(text, Noise(kind, 1), 1)
    rest = [c for c in noisy if c not in string.ascii_letters]
    assert rest == [c for c in text if c not in string.ascii_letters]


@given(TEXTS, LEVELS, LEVELS, SEEDS)
def test_typos_of_a_lower_level_are_typos_of_a_higher(text, one, other, seed):
    low, high = sorted([one, other])
    a, b = (add_noise(text, Noise("typo", level), seed) for level in (low, high))
    for clean, less, more in zip(text, a, b, strict=True):
        assert less in (clean, more)


@given(TEXTS, LEVELS, LEVELS, SEEDS)
def test_swaps_of_a_lower_level_are_swaps_of_a_higher(text, one, other, seed):
    text = "".join(
        chr(ord("a") + i % 26) if c.isalpha() else c for i, c in enumerate(text)
    )  # no equal neighbours
    low, high = sorted([one, other])
    a, b = (add_noise(text, Noise("swap", level), seed) for level in (low, high))
    for clean, less, more in zip(text, a, b, strict=True):
        assert less in (clean, more)


@given(LEVELS, LEVELS, SEEDS)
def test_letters_dropped_at_a_lower_level_are_dropped_at_a_higher(one, other, seed):
    low, high = sorted([one, other])
    a, b = (set(add_noise(string.ascii_letters, Noise("drop", level), seed)) for level in (low, high))
    assert b <= a


@pytest.mark.parametrize("kind", ["typo", "drop"])
def test_the_level_is_the_probability_per_letter(kind):
    letters = "abcdefghij" * 10_000
    noisy = add_noise(letters, Noise(kind, 0.1), 0)
    if kind == "typo":
        touched = sum(before != after for before, after in zip(letters, noisy, strict=True))
    else:
        touched = len(letters) - len(noisy)
    assert abs(touched - 10_000) < 5 * np.sqrt(100_000 * 0.1 * 0.9)


def test_the_level_is_the_probability_per_pair():
    noisy = add_noise("ab cde " * 20_000, Noise("swap", 0.1), 0).split()
    swapped = sum(word in ("ba", "dce") for word in noisy)
    assert set(noisy) == {"ab", "ba", "cde", "dce"}
    assert abs(swapped - 4_000) < 5 * np.sqrt(40_000 * 0.1 * 0.9)


@given(TEXTS, st.integers(0, 60), SEEDS)
def test_cutting_a_document_leaves_the_noise_of_its_beginning(text, cut, seed):
    noise = Noise("typo", 0.3)
    assert add_noise(text[:cut], noise, seed) == add_noise(text, noise, seed)[:cut]


def test_documents_and_kinds_have_draws_of_their_own():
    text = "the quick brown fox jumps over the lazy dog " * 5
    assert add_noise(text, Noise("typo", 0.3), 1) != add_noise(text, Noise("typo", 0.3), 2)
    letters = "q" * 200
    typos = [i for i, c in enumerate(add_noise(letters, Noise("typo", 0.3), 1)) if c != "q"]
    swaps = [
        i
        for i, c in enumerate(add_noise("qz" * 100, Noise("swap", 0.3), 1))
        if "qz"[i % 2] != c and i % 2 == 0
    ]
    assert set(swaps) - set(typos)  # the same draws would swap only where they put typos


def test_draws_never_change():
    """Rows name noise by kind and level alone, so other draws would be other data under the same name."""
    text = "The quick brown fox jumps over the lazy dog."
    assert {kind: add_noise(text, Noise(kind, 0.2), 7) for kind in ("typo", "swap", "drop")} == {
        "typo": "The quick browh cox jumos obrr the lazy dog.",
        "swap": "hTe qucik brwon fox jumps voer the lazy odg.",
        "drop": "he ick brown fx jumps oe the zy dg.",
    }
