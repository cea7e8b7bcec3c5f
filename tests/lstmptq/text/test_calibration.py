"""Class ratios and calibration sets: notation, exact counts, one budget, nested prefixes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmptq.text.calibration import ClassRatio, allocate_documents, parse_class_ratio, sample_calibration_set

ALLOWED = "use balanced, natural, classes:K, head:P, or one share per class such as 0.4,0.3,0.1,0.1,0.1"
LABELS = np.repeat(np.arange(4), [90, 80, 70, 60])[np.random.default_rng(0).permutation(300)]
RATIOS = [
    "balanced",
    "natural",
    "classes:3",
    "classes:2",
    "classes:1",
    "head:0.7",
    "head:0.1",
    "0.4,0.3,0.2,0.1",
    "1,0,0,0",
]


def ratios():
    """Every valid ratio: its kind, then what belongs to it."""
    shares = st.lists(st.integers(0, 10**9), min_size=2, max_size=8).filter(any)
    explicit = shares.map(lambda w: ClassRatio("explicit", explicit=tuple(x / sum(w) for x in w)))
    head = st.floats(0, 1, exclude_min=True, exclude_max=True).map(lambda p: ClassRatio("head", head=p))
    classes = st.integers(1, 10**6).map(lambda k: ClassRatio("classes", count=k))
    return st.one_of(st.sampled_from([ClassRatio(), ClassRatio("natural")]), classes, head, explicit)


@given(ratios())
def test_what_a_ratio_is_spelled_as_reads_back(ratio):
    assert parse_class_ratio(str(ratio)) == ratio


@pytest.mark.parametrize(
    ("ratio", "spelled"),
    [
        ("balanced", "balanced"),
        ("classes:01", "classes:1"),
        ("head:0.70", "head:0.7"),
        ("1.0, 0,-0,0", "1,0,0,0"),
        ("0.3333333,0.3333333,0.3333334", "0.3333333,0.3333333,0.3333334"),
        ("head:0.9999999", "head:0.9999999"),
        ("head:0.12345671", "head:0.12345671"),  # and not, as once, what 0.12345674 became too
    ],
)
def test_the_spelling_is_the_shortest_that_loses_nothing(ratio, spelled):
    assert str(parse_class_ratio(ratio)) == spelled


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [
        ("balanced", (0.25, 0.25, 0.25, 0.25)),
        ("classes:4", (0.25, 0.25, 0.25, 0.25)),
        ("classes:2", (0.5, 0.5, 0, 0)),
        ("classes:1", (1, 0, 0, 0)),
        ("head:0.7", (0.7, 0.1, 0.1, 0.1)),
        ("0.4,0.3,0.2,0.1", (0.4, 0.3, 0.2, 0.1)),
        ("0.4, 0.3, 0.3, 0", (0.4, 0.3, 0.3, 0)),
        ("0.3333333,0.3333333,0.3333333,0", (1 / 3, 1 / 3, 1 / 3, 0)),
    ],
)
def test_shares(ratio, shares):
    found = parse_class_ratio(ratio).shares(4)
    assert found == pytest.approx(shares)
    assert sum(found) == pytest.approx(1, abs=1e-12)


def test_natural_shares_are_those_of_the_documents():
    """The emotion corpus' own counts: 29, 34, 8, 13, 12 and 4 %."""
    counts = [4666, 5362, 1304, 2159, 1937, 572]
    labels = np.repeat(np.arange(6), counts)
    chosen = sample_calibration_set(labels, 6, "natural", None, seed=0)
    assert len(chosen) == 512
    found = np.bincount(labels[chosen], minlength=6)
    assert np.abs(found - 512 * np.array(counts) / 16_000).max() < 1
    balanced = sample_calibration_set(labels, 6, "balanced", None, seed=0)
    for name in range(6):  # nested: both take the head of the class' one permutation
        ours, theirs = (set(index[labels[index] == name].tolist()) for index in (chosen, balanced))
        assert ours <= theirs or theirs <= ours


def test_natural_needs_the_documents():
    assert parse_class_ratio("natural").shares(3, [6, 3, 1]) == (0.6, 0.3, 0.1)
    for available in (None, [1, 2], [0, 0, 0]):
        with pytest.raises(
            ValueError, match="natural needs the number of documents of each of the 3 classes"
        ):
            parse_class_ratio("natural").shares(3, available)


def test_a_parsed_ratio_is_a_value():
    assert parse_class_ratio("head:0.50") == ClassRatio("head", head=0.5) == parse_class_ratio("head:0.5")
    assert hash(parse_class_ratio("classes:2")) == hash(ClassRatio("classes", count=2))


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        ("", f"unknown class ratio '': {ALLOWED}"),
        ("even", f"unknown class ratio 'even': {ALLOWED}"),
        ("balanced:2", f"unknown class ratio 'balanced:2': {ALLOWED}"),
        ("1.0", f"unknown class ratio '1.0': {ALLOWED}"),
        ("classes", f"bad class ratio 'classes': '' is not a whole number: {ALLOWED}"),
        ("classes:", f"bad class ratio 'classes:': '' is not a whole number: {ALLOWED}"),
        ("classes:2.5", f"bad class ratio 'classes:2.5': '2.5' is not a whole number: {ALLOWED}"),
        ("classes:0", f"bad class ratio 'classes:0': classes:K needs K of at least 1, got 0: {ALLOWED}"),
        ("classes:-1", f"bad class ratio 'classes:-1': classes:K needs K of at least 1, got -1: {ALLOWED}"),
        ("head:", f"bad class ratio 'head:': '' is not a number: {ALLOWED}"),
        ("head:most", f"bad class ratio 'head:most': 'most' is not a number: {ALLOWED}"),
        ("head:0", f"bad class ratio 'head:0': head:P needs P in (0, 1), got 0.0: {ALLOWED}"),
        ("head:1", f"bad class ratio 'head:1': head:P needs P in (0, 1), got 1.0: {ALLOWED}"),
        ("head:nan", f"bad class ratio 'head:nan': head:P needs P in (0, 1), got nan: {ALLOWED}"),
        ("0.5,", f"bad class ratio '0.5,': '' is not a number: {ALLOWED}"),
        ("0.5,half", f"bad class ratio '0.5,half': 'half' is not a number: {ALLOWED}"),
        ("1.5,-0.5", f"bad class ratio '1.5,-0.5': every share must be in [0, 1], got '1.5,-0.5': {ALLOWED}"),
        ("0.5,nan", f"bad class ratio '0.5,nan': every share must be in [0, 1], got '0.5,nan': {ALLOWED}"),
        (
            "0.5,0.4",
            "bad class ratio '0.5,0.4': the shares must add up to 1, got '0.5,0.4', which add up to 0.9",
        ),
    ],
)
def test_parse_says_what_is_wrong(ratio, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared)
        parse_class_ratio(ratio)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("ratio", "classes", "message"),
    [
        (
            "classes:5", 4,
            "classes:5 asks for more classes than the 4 of the corpus: use classes:1 to classes:4",
        ),
        ("0.5,0.5", 4, "2 shares for 4 classes: give one share per class, in order"),
        ("0.2,0.2,0.2,0.2,0.2", 4, "5 shares for 4 classes: give one share per class, in order"),
        ("head:0.5", 1, "head:0.5 needs at least 2 classes, but the corpus has 1"),
        ("balanced", 0, "classes must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_shares_says_what_does_not_fit(ratio, classes, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_class_ratio(ratio).shares(classes)
    assert str(caught.value) == message


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^the kind of a class ratio must be one of balanced, natural, .*explicit, got 'tail'$",
    ):
        ClassRatio("tail")


@pytest.mark.parametrize(
    ("shares", "budget", "counts"),
    [
        ((0.25,) * 4, 10, [3, 3, 2, 2]),
        ((0.7, 0.1, 0.1, 0.1), 10, [7, 1, 1, 1]),
        ((0.29, 0.71), 100, [29, 71]),  # 0.29 * 100 is 28.999999999999996
        ((0.1, 0.3, 0.6), 14, [2, 4, 8]),  # 1.4, 4.2 and 8.4, the last with a little more than .4
        ((0.1, 0.2, 0.7), 4, [0, 1, 3]),
        ((1 / 3,) * 3, 512, [171, 171, 170]),
        ((0.5, 0.5, 0.0), 1, [1, 0, 0]),
    ],
)
def test_counts_by_largest_remainder(shares, budget, counts):
    assert allocate_documents(shares, budget).tolist() == counts


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8).filter(any), st.integers(1, 2000))
def test_counts_add_up_and_stay_near_their_share(weights, budget):
    shares = tuple(np.array(weights) / sum(weights))
    counts = allocate_documents(shares, budget)
    assert counts.sum() == budget
    assert (np.abs(counts - np.array(shares) * budget) < 1).all()
    assert (counts[np.array(weights) == 0] == 0).all()


@given(st.sampled_from(RATIOS), st.integers(1, 60), st.integers(0, 2**40))
def test_a_calibration_set_has_exactly_its_budget_and_shares(ratio, documents, seed):
    chosen = sample_calibration_set(LABELS, 4, ratio, documents, seed)
    assert len(set(chosen.tolist())) == len(chosen) == documents
    available = np.bincount(LABELS, minlength=4).tolist()
    wanted = allocate_documents(parse_class_ratio(ratio).shares(4, available), documents)
    assert np.bincount(LABELS[chosen], minlength=4).tolist() == wanted.tolist()
    assert np.array_equal(chosen, sample_calibration_set(LABELS, 4, ratio, documents, seed))


@given(
    st.sampled_from(RATIOS),
    st.sampled_from(RATIOS),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 2**40),
)
def test_classes_take_nested_prefixes_whatever_ratio_and_budget(one, other, documents, more, seed):
    a = sample_calibration_set(LABELS, 4, one, documents, seed)
    b = sample_calibration_set(LABELS, 4, other, more, seed)
    for name in range(4):
        small, large = sorted(({int(i) for i in x if LABELS[i] == name} for x in (a, b)), key=len)
        assert small <= large
    common = set(a.tolist()) & set(b.tolist())
    assert [i for i in a.tolist() if i in common] == [i for i in b.tolist() if i in common]


def test_the_default_budget_is_one_for_all_ratios():
    assert {len(sample_calibration_set(LABELS, 4, ratio, None, 0)) for ratio in RATIOS} == {60}


def test_another_draw_takes_other_documents_of_the_same_shares():
    draws = [sample_calibration_set(LABELS, 4, "balanced", 40, 0, draw) for draw in range(3)]
    assert len({tuple(sorted(draw)) for draw in draws}) == 3
    for draw in draws:
        np.testing.assert_array_equal(np.bincount(LABELS[draw]), np.bincount(LABELS[draws[0]]))
    np.testing.assert_array_equal(draws[0], sample_calibration_set(LABELS, 4, "balanced", 40, 0))
    many = np.repeat(np.arange(2), 700)
    assert len(sample_calibration_set(many, 2, "classes:1", None, 0)) == 512


def test_seeds_choose_other_documents_in_another_order():
    a, b = (sample_calibration_set(LABELS, 4, "balanced", 40, seed) for seed in (0, 1))
    assert set(a.tolist()) != set(b.tolist())
    whole = [
        sample_calibration_set(LABELS, 4, "0.3,0.266666667,0.233333333,0.2", 300, seed) for seed in (0, 1)
    ]
    assert set(whole[0].tolist()) == set(whole[1].tolist())
    assert whole[0].tolist() != whole[1].tolist()


def test_the_order_is_shuffled():
    labels = LABELS[sample_calibration_set(LABELS, 4, "balanced", 200, 0)]
    changes = (np.diff(labels) != 0).sum()  # 3 if the classes came one after the other, 150 expected
    assert 120 < changes < 180


def test_a_class_permutation_depends_on_seed_and_class_alone():
    """Documents of other classes may come and go without changing which of a class are chosen."""
    without = LABELS[LABELS != 3]
    a = sample_calibration_set(LABELS, 4, "classes:1", 20, 0)
    b = sample_calibration_set(without, 3, "classes:1", 20, 0)
    place = np.cumsum(LABELS != 3) - 1
    assert set(place[a].tolist()) == set(b.tolist())


def test_classes_have_permutations_of_their_own():
    labels = np.repeat(np.arange(2), 100)
    chosen = sample_calibration_set(labels, 2, "balanced", 60, 0)
    first, second = ({int(i) % 100 for i in chosen if labels[i] == name} for name in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (LABELS, 4, "classes:1", 91, 0),
            "class ratio 'classes:1' with 91 documents needs 91 of class 0, which has 90: "
            "ask for fewer calibration documents",
        ),
        (
            (LABELS, 4, "0,0,0.5,0.5", 140, 0),
            "class ratio '0,0,0.5,0.5' with 140 documents needs 70 of class 3, which has 60: "
            "ask for fewer calibration documents",
        ),
        ((LABELS, 4, "balanced", 0, 0), "a calibration set needs at least 1 document, got 0"),
        ((LABELS, 3, "balanced", 10, 0), "labels must be in 0..2, got 0..3"),
        ((LABELS - 1, 4, "balanced", 10, 0), "labels must be in 0..3, got -1..2"),
        (
            (LABELS, 5, "balanced", None, 0),
            "class 4 has no document to calibrate with: "
            "give the number of calibration documents and a class ratio that leaves this class out",
        ),
        ((LABELS, 4, "even", 10, 0), f"unknown class ratio 'even': {ALLOWED}"),
    ],
)
def test_sampling_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        sample_calibration_set(*arguments)
    assert str(caught.value) == message
