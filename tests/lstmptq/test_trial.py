"""A whole tiny trial, and what makes its rows believable."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.results import CELLS, PREDICTIONS, TENSORS, to_table
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.cells import Cell
from lstmptq.spec.specs import Isolation, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.trial import run_trial

TYPO = Noise("typo", 0.2)
WHERE_AND_WHEN = {
    "observe_seconds", "correct_seconds", "evaluate_seconds", "documents_per_second", "started_at", "host",
}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", ["discriminative", "generative"])


def cells_of(spec, bits=4, ratios=("balanced", "classes:1"), noises=(CLEAN, TYPO), **changes):
    return [
        Cell(spec, QuantizationSpec(bits, 8, class_ratio=ratio, **changes), noise, shift_documents=16)
        for ratio in ratios
        for noise in noises
    ]


def run(cells, artifacts):
    return {finished.row["cell_id"]: finished for finished in run_trial(cells, artifacts)}


def timeless(finished):
    row = {name: value for name, value in finished.row.items() if name not in WHERE_AND_WHEN}
    return row, finished.tensors, finished.predictions


@KINDS
def test_a_whole_trial(kind, tiny_spec, tiny_artifacts):
    cells = cells_of(tiny_spec(kind))
    finished = run(cells, tiny_artifacts)
    assert set(finished) == {cell.cell_id for cell in cells}
    rows = [finished[cell.cell_id].row for cell in cells]
    assert [row["status"] for row in rows] == ["ok"] * 4
    table = to_table(rows, CELLS)
    sizes = (1, 64)
    companion = {
        "library", "pretrained", "trainable_parameters", "integer_share", "operators", "stored_bytes",
        "peak_memory_bytes", "threads",
        *(f"latency_{size}{name}_ms" for size in sizes for name in ("", "_low", "_high")),
        *(f"speedup_{size}" for size in sizes),
    }  # fmt: skip
    assert all(table[name].null_count == len(rows) for name in companion)
    never_null = set(CELLS.names) - companion - {
        "error", "dead_signal", "git_sha", "checkpoint", "predicted", "labels", "isolated_stage",
        "isolated_how",
    }  # fmt: skip
    assert [name for name in never_null if table[name].null_count] == []
    for row in rows:
        answers = finished[row["cell_id"]].predictions
        to_table([answers], PREDICTIONS)
        assert sum(map(sum, row["confusion"])) == row["documents"] == len(answers["predicted"]) == 30
        assert row["accuracy"] == np.mean(np.equal(answers["predicted"], answers["labels"]))
        assert len(answers["margin"]) == 30
        assert min(answers["margin"]) >= 0 < max(answers["margin"])
        assert row["accuracy_drop"] == pytest.approx(row["fp32_accuracy"] - row["accuracy"])
        assert row["float_reference_accuracy"] == row["fp32_accuracy"]
        assert row["quantized_bytes"] < row["fp32_bytes"] / 4
        assert row["calibration_documents"] == 21  # 70 % of the smallest class' 30 documents
        assert row["eligible_parameters"] < row["parameters"]


@KINDS
def test_every_contrast_of_every_stage_has_its_row(kind, tiny_spec, tiny_artifacts):
    cells = cells_of(tiny_spec(kind))
    finished = run(cells, tiny_artifacts)
    gates = [f"lstm.0.{gate}_gate" for gate in ("input", "forget", "cell", "output")]
    head = "decoder_input" if kind == "generative" else "pooled"
    stages = {"embedding", *gates, "lstm.0.cell_state", "lstm.0.hidden_state", head, "logits"}
    others = {f"lstm.0.{name}" for name in ("input_sigmoid", "forget_sigmoid", "output_sigmoid", "cell_tanh",
              "hidden_tanh", "cell_state.kept", "cell_state.entered")}  # fmt: skip
    others |= {"decoder_input.label"} if kind == "generative" else set()
    corrected = "decoder.weight" if kind == "generative" else "classifier.weight"
    weights = {"embedding.weight", *(f"{gate}.weight" for gate in gates), corrected}
    parts = {f"{corrected}.{part}" for part in ("hidden", "label")} if kind == "generative" else set()
    weights |= {"label_embedding.weight", *parts} if kind == "generative" else set()
    for cell in cells:
        rows = finished[cell.cell_id].tensors
        to_table(rows, TENSORS)
        found = {contrast: {r["tensor"] for r in rows if r["contrast"] == contrast} for contrast in
                 ("fp32_vs_quantized", "balanced_vs_ratio", "clean_vs_noisy", "null_halves", "null_swapped")
                 }  # fmt: skip
        assert len(rows) == sum(map(len, found.values()))
        assert found["fp32_vs_quantized"] == stages | weights | others
        uneven = cell.quantization.class_ratio != "balanced"
        assert found["balanced_vs_ratio"] == (stages | {corrected} | parts if uneven else set())
        assert found["clean_vs_noisy"] == (stages if cell.noise != CLEAN else set())
        assert found["null_halves"] == stages
        assert found["null_swapped"] == (stages if uneven or cell.noise != CLEAN else set())
        for row in rows:
            assert row["cell_id"] == cell.cell_id
            tested = row["kind"] == "activation" and row["contrast"] != "fp32_vs_quantized"
            assert (row.get("p_permutation") is not None) == tested
            if tested:
                assert 0 < row["p_permutation"] <= 1
                assert 0 <= row["document_d"] <= 1
            if row["contrast"].startswith("null_"):
                continue
            assert (row.get("relative_distance") is not None) == (row["kind"] == "weight")
            if row["tensor"] in others:
                assert row["bits"] == (4 if row["tensor"] == "decoder_input.label" else 8)
                assert row["scale"] > 0 == row["zero_point"]
                assert 0 <= row["clip_fraction"] < 1
                assert row["n"] > 0
                assert row.get("ks_d") is row.get("sqnr_db") is row.get("p_permutation") is None
            if row["tensor"] in parts | others:
                continue
            assert 0 <= row["ks_d"] <= 1
            assert (row["p_nominal"] is None) == (row["kind"] == "weight")
            assert row.get("documents") == (16 if row["kind"] == "activation" else None)
            if row["tensor"].endswith("_gate.weight"):  # continuous on the float side: the floor is a bound
                assert row["ks_d"] >= row["atom_floor"] - 1e-9


def test_the_parts_of_a_weight_add_up(tiny_spec, tiny_artifacts):
    """Squares of what the two parts moved make that of the whole; the decoder's columns are told apart."""
    (cell,) = cells_of(tiny_spec("generative"), ratios=("classes:1",), noises=(CLEAN,))
    tensors = run([cell], tiny_artifacts)[cell.cell_id].tensors
    decoder = ModelAssets(tiny_spec("generative"), tiny_artifacts).model.decoder.weight.detach()
    sizes = {"": decoder, ".hidden": decoder[:, :12], ".label": decoder[:, 12:]}
    moved = {}
    for part, weight in sizes.items():
        (row,) = (r for r in tensors if r["tensor"] == f"decoder.weight{part}" and
                  r["contrast"] == "fp32_vs_quantized")  # fmt: skip
        assert row["n"] == weight.numel()
        assert row["relative_distance"] == pytest.approx(10 ** (-row["sqnr_db"] / 20))
        moved[part] = (row["relative_distance"] * float(weight.double().norm())) ** 2
    assert moved[".hidden"] + moved[".label"] == pytest.approx(moved[""])
    assert moved[".hidden"] > 0 < moved[".label"]


@KINDS
def test_weights_that_nothing_corrects_do_not_depend_on_the_calibration_set(kind, tiny_spec, tiny_artifacts):
    cells = cells_of(tiny_spec(kind), noises=(CLEAN,), algorithm="none")
    finished = run(cells, tiny_artifacts)
    uneven = finished[cells[1].cell_id].tensors
    assert not [row for row in uneven if row["kind"] == "weight" and row["contrast"] == "balanced_vs_ratio"]
    of_weights = [
        [row | {"cell_id": None} for row in finished[cell.cell_id].tensors if row["kind"] == "weight"]
        for cell in cells
    ]
    assert of_weights[0] == of_weights[1]


@KINDS
@pytest.mark.slow
def test_the_same_cell_gives_the_same_row(kind, tiny_spec, tiny_artifacts, tmp_path):
    """Run twice, alone, in another order, beside others, from artifacts built anew."""
    cells = cells_of(tiny_spec(kind))
    together = run(cells, tiny_artifacts)
    backwards = run(cells[::-1], tiny_artifacts)
    fresh = run([cells[3]], Artifacts(tmp_path))
    assert timeless(fresh[cells[3].cell_id]) == timeless(together[cells[3].cell_id])
    for cell in cells:
        alone = run([cell], tiny_artifacts)
        assert timeless(alone[cell.cell_id]) == timeless(together[cell.cell_id])
        assert timeless(backwards[cell.cell_id]) == timeless(together[cell.cell_id])


@KINDS
def test_the_kernel_changes_no_prediction(kind, tiny_spec, tiny_artifacts, monkeypatch):
    pytest.importorskip("numba")
    cells = cells_of(tiny_spec(kind))
    found = {}
    for kernel in ("eager", "native"):
        monkeypatch.setenv(KERNEL_VARIABLE, kernel)
        found[kernel] = run(cells, tiny_artifacts)
    for cell in cells:
        rows = {kernel: found[kernel][cell.cell_id].row for kernel in found}
        assert {kernel: row["kernel"] for kernel, row in rows.items()} == {
            "eager": "eager",
            "native": "native",
        }
        answers = {kernel: found[kernel][cell.cell_id].predictions for kernel in found}
        assert answers["native"]["predicted"] == answers["eager"]["predicted"]
        assert rows["native"]["nll"] == pytest.approx(rows["eager"]["nll"], rel=1e-4)
        assert found["native"][cell.cell_id].tensors == found["eager"][cell.cell_id].tensors


@KINDS
def test_fp32_cells(kind, tiny_spec, tiny_artifacts):
    spec = tiny_spec(kind)
    cells = [Cell(spec, None, noise, shift_documents=16) for noise in (CLEAN, TYPO)]
    finished = run(cells, tiny_artifacts)
    clean, noisy = (finished[cell.cell_id] for cell in cells)
    assert clean.row["accuracy_drop"] == 0
    assert clean.row["bits"] is None
    assert clean.row["class_ratio"] is None
    assert {row["contrast"] for row in clean.tensors} == {"null_float"}
    assert {row["contrast"] for row in noisy.tensors} == {"null_float", "clean_vs_noisy"}
    for row in clean.tensors + noisy.tensors:
        if row["contrast"] == "null_float":
            assert row["document_d"] < 1e-3
            assert row.get("p_permutation") is None
    assert {row["bits"] for row in noisy.tensors} == {None}


@KINDS
def test_a_shift_by_document_is_found_and_none_is_not(kind, tiny_spec, tiny_artifacts):
    """One word in five with a typo is another word; the null controls of the same cell stay quiet."""
    (cell,) = cells_of(tiny_spec(kind), bits=8, ratios=("balanced",), noises=(Noise("typo", 0.4),))
    (finished,) = run([cell], tiny_artifacts).values()
    p = {
        contrast: [r["p_permutation"] for r in finished.tensors if r["contrast"] == contrast]
        for contrast in ("clean_vs_noisy", "null_halves", "null_swapped")
    }
    assert min(p["clean_vs_noisy"]) == 1 / 10_000
    assert np.median(p["clean_vs_noisy"]) < 0.01
    assert min(p["null_halves"] + p["null_swapped"]) >= 1 / 1000
    assert np.median(p["null_halves"] + p["null_swapped"]) > 0.1


@KINDS
@pytest.mark.slow
def test_redraws_tell_what_luck_does(kind, tiny_spec, tiny_artifacts):
    """Other documents of the same shares: other scales, a D for each stage and for the corrected weight."""
    (plain,) = cells_of(tiny_spec(kind), ratios=("balanced",), noises=(CLEAN,))
    cell = replace(plain, redraws=2)
    (without,) = run([plain], tiny_artifacts).values()
    (finished,) = run([cell], tiny_artifacts).values()
    redrawn = [row for row in finished.tensors if row["contrast"] == "balanced_vs_redraw"]
    to_table(redrawn, TENSORS)
    stages = [row["tensor"] for row in without.tensors if row["contrast"] == "null_halves"]
    weight = "decoder.weight" if kind == "generative" else "classifier.weight"
    assert [row["tensor"] for row in redrawn] == [*stages, weight] * 2
    assert all(row.get("p_permutation") is None for row in redrawn)
    gates = [row for row in redrawn if row["tensor"] == "lstm.0.input_gate"]
    (own,) = (row["scale"] for row in without.tensors if row["tensor"] == "lstm.0.input_gate"
              and row["contrast"] == "null_halves")  # fmt: skip
    assert len({own, *(row["scale"] for row in gates)}) == 3
    assert max(row["document_d"] for row in redrawn if row["kind"] == "activation") > 0
    assert len(finished.tensors) == len(without.tensors) + len(redrawn)


def test_more_bits_lose_less(tiny_spec, tiny_artifacts):
    """The SQNR of every weight rises with the bits, about 6 dB a bit."""
    spec = tiny_spec("generative")
    by_bits = {}
    for bits in (3, 5, 8):
        (cell,) = cells_of(spec, bits, ratios=("balanced",), noises=(CLEAN,), algorithm="none")
        rows = run([cell], tiny_artifacts)[cell.cell_id].tensors
        by_bits[bits] = {row["tensor"]: row["sqnr_db"] for row in rows if row["kind"] == "weight"}
    for tensor in by_bits[8]:
        assert by_bits[3][tensor] < by_bits[5][tensor] < by_bits[8][tensor]
        assert (by_bits[8][tensor] - by_bits[5][tensor]) / 3 == pytest.approx(6.02, abs=1.5)


def test_one_bad_cell_does_not_stop_the_others(tiny_spec, tiny_artifacts):
    spec = tiny_spec("discriminative")
    cells = cells_of(spec, ratios=("balanced", "classes:7", "classes:2"), noises=(CLEAN,))
    finished = run(cells, tiny_artifacts)
    statuses = {cell.quantization.class_ratio: finished[cell.cell_id].row["status"] for cell in cells}
    assert statuses == {"balanced": "ok", "classes:7": "failed", "classes:2": "ok"}
    failed = finished[cells[1].cell_id].row
    assert "classes:7" in failed["error"]
    assert failed["bits"] == 4
    to_table([failed], CELLS)


def test_cells_of_a_trial_share_their_model_and_bits(tiny_spec, tiny_artifacts):
    spec = tiny_spec("discriminative")
    cells = [*cells_of(spec, 4), *cells_of(spec, 5)]
    with pytest.raises(ValueError, match="must share FP32 model, bits, limit and shift_documents"):
        list(run_trial(cells, tiny_artifacts))


def test_limit_takes_a_part_of_the_documents(tiny_spec, tiny_artifacts):
    assets = ModelAssets(tiny_spec("discriminative"), tiny_artifacts)
    few, many = assets.evaluated_documents(5), assets.evaluated_documents(12)
    assert len(few) == 5
    assert set(few) < set(many)
    assert len(assets.evaluated_documents(10_000)) == 30
    assert set(assets.shift_documents(5, 100)) == set(few)


def test_noise_touches_evaluation_only(tiny_spec, tiny_artifacts):
    assets = ModelAssets(tiny_spec("discriminative"), tiny_artifacts)
    noisy, clean = assets.test_set(Noise("drop", 0.5)), assets.test_set(CLEAN)
    np.testing.assert_array_equal(noisy.labels, clean.labels)
    assert not np.array_equal(noisy.tokens, clean.tokens)


def test_a_second_observation_is_found_not_collected(tiny_spec, tmp_path):
    artifacts = Artifacts(tmp_path)
    (cell,) = cells_of(tiny_spec("discriminative"), noises=(CLEAN,), ratios=("balanced",))
    first = run([cell], artifacts)[cell.cell_id].row
    other = replace(cell, quantization=replace(cell.quantization, bits=3, internal_bits=3))
    second = run([other], artifacts)[other.cell_id].row
    assert first["observe_seconds"] > 0
    assert second["observe_seconds"] == 0


def test_dead_signals_are_named(tiny_spec, tiny_artifacts):
    """With the cell state's range blown up, 3-bit internals round every hidden state to zero."""
    from lstmptq.measures.activations import dead_stages, record_stages
    from lstmptq.models.batches import batches_in_order
    from lstmptq.quantization.build import quantize

    assets = ModelAssets(tiny_spec("generative"), tiny_artifacts)
    spec = QuantizationSpec(3, 3, "none")
    observation, _ = assets.observation(spec)
    observation.statistics["lstm.io"] *= 1e6
    classifier = quantize(assets.model, spec, observation, [])
    stages = record_stages(classifier, batches_in_order(assets.dataset.test))
    assert "lstm.0.hidden_state" in dead_stages(stages).split(", ")
    assert math.isclose(stages["lstm.0.hidden_state"].distribution.std, 0.0)


def test_cells_say_how_they_were_calibrated_and_trained(tiny_spec, tiny_artifacts):
    spec = tiny_spec("discriminative", epochs=2, checkpoint=1)
    options = {"observer": "max", "io_scales": "separate", "padding": "masked"}
    cells = [Cell(spec), *cells_of(spec, ratios=("balanced",), noises=(CLEAN,), **options)]
    rows = [run([cell], tiny_artifacts)[cell.cell_id].row for cell in cells]
    for row, options_said in zip(rows, (None, "max separate masked"), strict=True):
        assert row["status"] == "ok", row["error"]
        assert (row["epochs"], row["checkpoint"]) == (1, 1)
        said = [row.get(name) for name in ("observer", "io_scales", "padding")]
        assert said == (options_said.split() if options_said else [None] * 3)


@KINDS
def test_a_cell_with_an_isolated_stage(kind, tiny_spec, tiny_artifacts):
    """Its tensors say which width each had; it belongs to no family of tests."""
    spec = QuantizationSpec(3, 3, class_ratio="classes:2", isolation=Isolation("io", "kept"))
    cell = Cell(tiny_spec(kind), spec, shift_documents=16)
    (finished,) = run([cell], tiny_artifacts).values()
    assert finished.row["status"] == "ok", finished.row["error"]
    assert (finished.row["isolated_stage"], finished.row["isolated_how"]) == ("io", "kept")
    assert {row["contrast"] for row in finished.tensors} == {"fp32_vs_quantized"}
    bits = {row["tensor"]: row["bits"] for row in finished.tensors}
    assert (bits["embedding"], bits["lstm.0.hidden_state"]) == (8, 8)
    assert (bits["lstm.0.cell_state"], bits["embedding.weight"], bits["lstm.0.cell_gate.weight"]) == (3, 3, 3)


def test_quantiles_of_clean_cells_alone(tiny_spec, tiny_artifacts):
    quantization = QuantizationSpec(4, 8, "gpfq", "classes:1", 8)
    cells = [Cell(tiny_spec("generative"), quantization, noise) for noise in (CLEAN, Noise("typo", 0.1))]
    clean, noisy = run_trial(cells, tiny_artifacts)
    drawn = [row for row in clean.tensors if row.get("quantiles_b") is not None]
    assert {row["contrast"] for row in drawn} == {"fp32_vs_quantized"}
    assert {row["kind"] for row in drawn} == {"activation", "weight"}
    for row in drawn:
        assert len(row["quantiles_a"]) == len(row["quantiles_b"]) == 33
        assert row["quantiles_b"] == sorted(row["quantiles_b"])
        if row["scale"] is not None:
            codes = np.array(row["quantiles_b"]) / row["scale"]
            np.testing.assert_allclose(codes, codes.round(), atol=1e-4)
    assert not [row for row in noisy.tensors if "quantiles_b" in row]
