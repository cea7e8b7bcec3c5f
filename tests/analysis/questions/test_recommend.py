"""Recommendations: what holds, what is the smallest of it, and every state in which nothing can be said."""

import io

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from analysis.__main__ import main
from analysis.frames.reading import ResultsError, load
from analysis.questions.advice import print_advice, write_headline
from analysis.questions.recommend import HOLDS, INCOMPLETE, NOT_REACHED, NOT_SHOWN, WORSE, Wish, recommend
from analysis.statistics.bounds import loss_bounds
from tests.analysis.conftest import cell, failed

DOCUMENTS = 4000
CLEAN, TYPO = ("clean", 0.0), ("typo", 0.1)
SIZE = 100_000


def grid(losses, ratio="balanced", seed=0, noise=CLEAN, fp32=True, **other):
    """Make cells and answers of one model: FP32 gets 95 % right, each width loses `losses` documents more."""
    rows, answers = [], []
    listed = ([(None, 0)] if fp32 else []) + list(losses.items())
    for bits, lost in listed:
        size = None if bits is None else SIZE * bits // 32
        row = cell(bits, ratio, noise, seed=seed, quantized_bytes=size, documents=DOCUMENTS, **other)
        right = np.arange(DOCUMENTS) < 0.95 * DOCUMENTS - lost
        rows.append(row)
        predicted = np.where(right, 0, 1).tolist()
        answers.append({"cell_id": row["cell_id"], "labels": [0] * DOCUMENTS, "predicted": predicted})
    return rows, answers


def written(write_results, *parts):
    rows = [row for part in parts for row in part[0]]
    answers = [answer for part in parts for answer in part[1]]
    return write_results(rows, [], predictions=answers)


def verdicts(advice):
    keys = [(one.candidate.where["class_ratio"], one.candidate.bits) for one in advice.judged]
    return dict(zip(keys, (one.verdict for one in advice.judged), strict=True))


def test_the_smallest_that_holds_is_named_and_a_sequence_stops(write_results):
    """4 bits lose too much; that 3 bits seem to lose nothing is not looked at any more."""
    out = written(
        write_results,
        grid({8: 0, 6: 2, 4: 200, 3: 0}),
        grid({8: 1, 6: 30, 4: 200}, "classes:1", fp32=False),
    )
    advice = recommend(load(out), Wish(0.01))
    assert verdicts(advice) == {
        ("balanced", 6): HOLDS, ("balanced", 8): HOLDS, ("balanced", 4): WORSE, ("balanced", 3): NOT_REACHED,
        ("classes:1", 8): HOLDS, ("classes:1", 6): NOT_SHOWN, ("classes:1", 4): WORSE,
    }  # fmt: skip
    assert advice.sequences == 2
    best = advice.judged[0]
    assert (best.candidate.bits, best.candidate.quantized_bytes) == (6, SIZE * 6 // 32)
    said = write_headline(advice)
    assert said[0].startswith(
        "Take the generative model, glove vectors, 6 bits, recipe gpfq, 8, calibrated on balanced: 18.3 KiB"
    )
    assert "95 % confidence over all that was tried: 7 configurations in 2 sequences" in said[1]
    assert said[-1].startswith("One seed:")


def test_the_level_is_shared_by_the_sequences(write_results):
    """The bound of one configuration grows with the number of others that are looked at."""
    out = written(write_results, grid({8: 4}), *(grid({8: 4}, f"classes:{k}", fp32=False) for k in (1, 2, 3)))
    alone = recommend(load(out), Wish(0.01), ["class_ratio=balanced"])
    among = recommend(load(out), Wish(0.01))
    assert (alone.sequences, among.sequences) == (1, 4)
    assert among.judged[0].high > alone.judged[0].high


@pytest.mark.slow
def test_chance_names_a_bad_configuration_at_most_as_often_as_it_says():
    """12 configurations that all lose exactly the bound: one is named in at most 5 % of the sweeps."""
    rng = np.random.default_rng(0)
    documents, bound, sequences, wrong, repeats = 1000, 0.02, 12, 0, 100
    for _ in range(repeats):
        named = False
        for _ in range(sequences):
            kind = rng.choice(3, size=documents, p=[0.04, 0.02, 0.94])
            named |= loss_bounds([(kind != 1, kind != 0)], 0.05 / sequences).high <= bound
        wrong += named
    assert wrong <= 12  # 0.1 % of the binomial of .05


def test_size_is_a_limit_before_anything_is_tested(write_results):
    out = written(write_results, grid({8: 0, 4: 2}), grid({8: 300}, "classes:1", fp32=False))
    advice = recommend(load(out), Wish(0.01, max_bytes=SIZE * 5 // 32))
    assert verdicts(advice) == {("balanced", 4): HOLDS}
    assert advice.sequences == 1
    nothing = recommend(load(out), Wish(0.01, max_bytes=10))
    assert write_headline(nothing) == ["No configuration takes at most 10 bytes: the smallest takes 12500."]


def test_noise_has_to_be_borne_too(write_results):
    out = written(write_results, grid({8: 0, 4: 2}), grid({8: 4, 4: 300}, noise=TYPO))
    advice = recommend(load(out), Wish(0.01, noise=0.1))
    assert verdicts(advice) == {("balanced", 8): HOLDS, ("balanced", 4): WORSE}
    assert "under typo at 10 % of the letters" in write_headline(advice)[0]
    with pytest.raises(ResultsError, match=r"no cell has noise at level 0\.3: there is clean, typo 10%"):
        recommend(load(out), Wish(0.01, noise=0.3))


def test_fewer_seeds_than_others_are_not_tested(write_results):
    out = written(
        write_results, *(grid({8: 2 + seed, 4: 3}, seed=seed) for seed in (0, 1, 2, 3)),
        grid({8: 2}, seed=4), ([failed(4, seed=4)], []),
    )  # fmt: skip
    advice = recommend(load(out), Wish(0.01))
    assert verdicts(advice) == {("balanced", 8): HOLDS, ("balanced", 4): INCOMPLETE}
    assert "1 of 15 cells failed: they are left out" in " ".join(write_headline(advice))


def test_nothing_qualifies_and_what_would_be_needed(write_results, capsys):
    out = written(write_results, grid({8: 200, 4: 400}))
    assert main(["recommend", str(out), "--max-drop", "0.05"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing qualifies: no configuration is shown to lose at most 0.05 points on clean input." in said
    assert "4000 documents cannot show it: a model that loses none of them is within 0.07 points" in said
    assert "To avoid: loses more, or is broken" in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (list, "No quantized cell is finished: there is nothing to recommend yet."),
        (lambda: [cell(None)], "No quantized cell is finished: there is nothing to recommend yet."),
        (lambda: [failed(4)], "1 of 1 cells failed: they are left out"),
        (lambda: [cell(4)], "No FP32 cell is finished: there is nothing to hold a loss against"),
        (lambda: [cell(None), cell(4)], "No configuration can be judged: none has answers by document"),
    ],
)
def test_a_state_in_which_nothing_can_be_said_is_a_sentence(write_results, capsys, rows, said):
    assert main(["recommend", str(write_results(rows()))]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-drop", "0"], "error: max-drop must be above 0 and below 100 points, got 0"),
        (["--max-bytes", "0"], "error: max-bytes must be at least 1, got 0"),
        (["--noise", "10"], "error: noise must be a share of the letters between 0 and 1, got 10.0"),
        (["--where", "model=gru"], "error: --where model=gru leaves no row: model is one of generative"),
    ],
)
def test_a_wrong_wish_is_one_line(write_results, capsys, args, message):
    out = written(write_results, grid({8: 0}))
    assert main(["recommend", str(out), *args]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_an_isolated_stage_is_a_configuration_of_its_own(write_results):
    kept = grid({4: 0}, fp32=False, internal_bits=4, isolated_stage="cell_state", isolated_how="kept")
    out = written(write_results, grid({8: 0}), grid({4: 900}, fp32=False, internal_bits=4), kept)
    advice = recommend(load(out), Wish(0.01))
    best = advice.judged[0].candidate
    assert (best.bits, best.where["stage"]) == (4, "cell_state kept")
    assert "4 bits, cell_state kept at 8 bits, recipe gpfq" in write_headline(advice)[0]


def test_evidence_is_printed_and_csv_has_every_cell(write_results, capsys):
    out = written(write_results, grid({8: 0, 4: 2}))
    advice = recommend(load(out), Wish(0.01))
    console = Console(file=io.StringIO(), width=400)
    print_advice(advice, console, "python -m analysis recommend x", 5)
    text = console.file.getvalue()
    (best,) = advice.judged[0].candidate.cell_ids
    assert f"1 seed, 4000 documents each; cells {best}" in text
    assert "Runners-up: they hold as well, the smallest first" in text
    assert main(["recommend", str(out), "--csv"]) == 0
    rows = pl.read_csv(io.StringIO(capsys.readouterr().out))
    assert rows["bits"].to_list() == [4, 8]
    assert rows["cells"][0] == best
