"""Points lost by epochs of training, with ranges read off the quantizers' scales."""

import pytest

import analysis
from analysis.__main__ import main
from analysis.questions.epochs import epochs_table
from tests.analysis.conftest import cell


@pytest.fixture
def out(write_results):
    rows, tensors = [], []
    for seed in (0, 1):
        for epochs in (1, 5):
            row = cell(4, seed=seed, hidden=100 + epochs, epochs=epochs, checkpoint=epochs,
                       accuracy_drop=0.01 * epochs * (1 + seed))  # fmt: skip
            row["hidden"] = 100  # above, so that its cell_id differs
            rows.append(row)
            same = {"cell_id": row["cell_id"], "contrast": "fp32_vs_quantized", "kind": "weight", "bits": 4}
            tensors += [
                same | {"tensor": "decoder.weight", "scale": 0.5 * epochs},
                same | {"tensor": "lstm.0.input_gate.weight", "scale": 0.25},
                same | {"tensor": "lstm.0.cell_gate.weight", "scale": 0.125},
                same | {"tensor": "lstm.0.cell_state", "kind": "activation", "bits": 8, "scale": 0.125},
                same | {"tensor": "lstm.0.cell_state", "contrast": "balanced_vs_redraw", "scale": 9.0},
            ]
    return write_results([*rows, cell(3, noise=("typo", 0.1), epochs=5), cell(8)], tensors)


def test_drops_and_ranges_by_epochs(out):
    found = epochs_table(*analysis.load(out))
    assert found.select("epochs", "seeds").rows() == [(1, 2), (5, 2)]
    assert found["accuracy_drop"].to_list() == pytest.approx([0.015, 0.075])
    assert found["weights"].to_list() == [4.0, 20.0]
    assert found.select("lstm_weights", "cell_state", "vectors").row(0) == (2.0, 16.0, None)


def test_printed(out, capsys):
    assert main(["epochs", str(out)]) == 0
    text = capsys.readouterr().out
    assert "Points lost by epochs of training: generative, glove, bbc_news, seeds: 2" in text
    (line,) = [x for x in text.splitlines() if x.split()[3:5] == ["4", "5"]]
    assert line.split()[5:] == ["96.0", "7.5", "20.00", "2.00", "–", "16.00", "–"]
    main(["epochs", str(out), "--csv"])
    assert capsys.readouterr().out.startswith("dataset,embedding,")


def test_older_results_do_not_say(write_results, capsys):
    main(["epochs", str(write_results([cell(4)]))])
    assert capsys.readouterr().out.startswith("No quantized cell on clean input says how long its model")
