"""The companion study's grid: what is left out, what is shared, what names a cell."""

from dataclasses import replace

import pytest

from lstmptq.companion.cells import BertSpec, CompanionCell, CompanionGrid, Timing, Training
from lstmptq.companion.methods import NOT_APPLICABLE, qat_quantization
from lstmptq.companion.recipes import BertRecipe, LoraRecipe, QatRecipe
from lstmptq.spec.specs import ModelSpec, QuantizationSpec
from lstmptq.text.sources import Source

CORPUS, GLOVE, MINILM = Source("emotion"), Source("glove"), Source("all-MiniLM-L6-v2", "0.1.0", "/somewhere")


def grid(**changes):
    return CompanionGrid((CORPUS,), GLOVE, MINILM, **changes)


def test_every_method_that_applies_is_there_and_what_does_not_is_listed():
    found = grid()
    there = {(cell.model.kind, cell.method) for cell in found.cells()}
    assert there | set(NOT_APPLICABLE) == {(m, how) for m in found.models for how in found.methods}
    assert not there & set(NOT_APPLICABLE)
    assert found.left_out == NOT_APPLICABLE
    assert grid(models=("bert",), methods=("fp32", "qat")).left_out == {}
    assert list(grid(models=("generative",)).left_out) == [("generative", "qlora")]


def test_widths_and_libraries():
    cells = list(grid(models=("bert", "discriminative")).cells())
    named = [(c.model.kind, c.method, c.bits, c.done_by) for c in cells]
    assert named == [
        ("bert", "fp32", None, None),
        ("bert", "dynamic_ptq", 8, "torch"),
        ("bert", "dynamic_ptq", 8, "torchao"),
        ("bert", "qat", 8, "torchao, torch"),
        ("bert", "qlora", 4, "peft, bitsandbytes"),
        ("discriminative", "fp32", None, None),
        ("discriminative", "dynamic_ptq", 8, "torch"),
        ("discriminative", "static_ptq", 8, "brevitas"),
        ("discriminative", "static_ptq", 4, "brevitas"),
        ("discriminative", "qat", 8, "brevitas"),
        ("discriminative", "qat", 4, "brevitas"),
    ]


def test_an_fp32_lstm_is_the_main_study_s_own_artifact():
    spec = ModelSpec(CORPUS, "generative", GLOVE)
    assert Training(spec).training == spec.training
    assert Training(spec).training_id == spec.training_id


def test_trainings_are_told_apart_by_what_they_depend_on():
    bert = BertSpec(CORPUS, MINILM)
    lora = Training(bert, "qlora", LoraRecipe(), 4)
    others = [
        Training(bert),
        Training(replace(bert, seed=1)),
        Training(replace(bert, recipe=BertRecipe(epochs=4))),
        lora,
        replace(lora, recipe=LoraRecipe(rank=8)),
    ]
    assert len({training.training_id for training in others}) == len(others)
    moved = replace(bert, checkpoint=replace(MINILM, location="/elsewhere"))
    assert Training(moved).training_id == Training(bert).training_id


def test_adapters_do_not_depend_on_how_the_float_model_was_tuned():
    short, long = (
        list(grid(recipe=BertRecipe(epochs=epochs), methods=("qlora",), models=("bert",)).cells())
        for epochs in (1, 5)
    )
    assert short[0].model == long[0].model
    assert short[0].cell_id != long[0].cell_id  # what is kept of FP32's accuracy does
    assert short[0].reference.recipe.epochs == 1


def test_cells_have_names_of_their_own():
    cells = list(grid(seeds=(0, 1)).cells())
    assert len({cell.cell_id for cell in cells}) == len(cells) == 34
    first = cells[0]
    assert replace(first, timing=Timing(repeats=7)).cell_id != first.cell_id
    assert replace(first, limit=10).cell_id != first.cell_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("gru",)}, "models must be one of discriminative, generative, bert, got 'gru'"),
        (
            {"methods": ("awq",)},
            "methods must be one of fp32, dynamic_ptq, static_ptq, qat, qlora, got 'awq'",
        ),
        ({"libraries": ("onnx",)}, "libraries must be one of torch, torchao, got 'onnx'"),
        ({"seeds": ()}, "seeds must have at least one value, got none"),
        ({"bits": (8, 8)}, "bits must not repeat a value"),
        ({"bits": (9,)}, "bits must be in 2..8"),
        ({"training_documents": 1}, "training_documents must be at least 2"),
        (
            {"models": ("bert",), "methods": ("static_ptq",)},
            "none of these methods applies to these models: bert x static_ptq: the static quantizers",
        ),
    ],
)
def test_bad_grids_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        grid(**changes)


def test_a_method_that_does_not_apply_is_no_cell():
    with pytest.raises(ValueError, match="static_ptq does not apply to bert: the static quantizers"):
        CompanionCell(Training(BertSpec(CORPUS, MINILM)), "static_ptq")


BERT = BertSpec(CORPUS, MINILM)
LSTM = ModelSpec(CORPUS, "generative", GLOVE)
QAT = Training(LSTM, "qat", QatRecipe(), 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((BERT, "qatt"), "regime must be one of fp32, qat, qlora, got 'qatt'"),
        (
            (BERT, "fp32", None, 8),
            "an fp32 training has no recipe and no bits of its own, got None and 8:",
        ),
        ((BERT, "fp32", QatRecipe()), "an fp32 training has no recipe and no bits of its own, got QatRecipe"),
        ((BERT, "qat"), "a qat training needs a QatRecipe, got None"),
        ((BERT, "qat", LoraRecipe(), 8), "a qat training needs a QatRecipe, got LoraRecipe"),
        ((BERT, "qlora", QatRecipe(), 4), "a qlora training needs a LoraRecipe, got QatRecipe"),
        ((BERT, "qat", QatRecipe()), "a qat training needs bits, got none"),
        ((BERT, "qat", QatRecipe(), 4), "bits of a BERT's qat must be 8, the width of its kernel, got 4"),
        (
            (BERT, "qlora", LoraRecipe(), 8),
            "bits of a BERT's qlora must be 4, the width of its kernel, got",
        ),
        ((LSTM, "qat", QatRecipe(), 9), "bits must be in 2..8 or null, got 9"),
        (
            (LSTM, "qat", QatRecipe(precision="bfloat16"), 8),
            "precision of an LSTM's qat must be float32, got 'bfloat16': Brevitas' quantizers train in it",
        ),
        (
            (LSTM, "qlora", LoraRecipe(), 4),
            "qlora does not apply to generative: there is no pre-trained LSTM",
        ),
    ],
)
def test_bad_trainings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Training(*values)


@pytest.mark.parametrize(
    ("training", "method", "changes", "message"),
    [
        (Training(LSTM), "static_ptq", {}, "static_ptq of generative needs a quantization, got none"),
        (QAT, "qat", {}, "qat of generative needs a quantization, got none"),
        (Training(LSTM), "qat", {}, "qat needs a training of qat, got one of fp32"),
        (QAT, "static_ptq", {}, "static_ptq needs a training of fp32, got one of qat"),
        (
            Training(LSTM),
            "dynamic_ptq",
            {"quantization": qat_quantization(8)},
            "dynamic_ptq of generative has a width of its own, got QuantizationSpec",
        ),
        (
            Training(BERT, "qat", QatRecipe(), 8),
            "qat",
            {"quantization": qat_quantization(8)},
            "qat of bert has a width of its own, got QuantizationSpec",
        ),
        *(
            (QAT, "qat", {"quantization": other}, "qat of generative is run as it was trained, as Quant")
            for other in (
                qat_quantization(8),
                QuantizationSpec(4, 4, "none"),
                QuantizationSpec(4, 8, "gpfq"),
                QuantizationSpec(4, 8, "none", "classes:1"),
            )
        ),
        (Training(BERT), "dynamic_ptq", {}, "asked_of must be one of torch, torchao, got 'none'"),
        (
            Training(BERT),
            "dynamic_ptq",
            {"asked_of": "onnx"},
            "asked_of must be one of torch, torchao, got 'onnx'",
        ),
        (
            Training(LSTM),
            "dynamic_ptq",
            {"asked_of": "torch"},
            "asked_of is for dynamic_ptq of a bert, got 'torch' for dynamic_ptq of generative: leave it out",
        ),
        (
            Training(LSTM),
            "fp32",
            {"fp32": replace(LSTM, seed=1)},
            "fp32 must be what the training starts from, or for qlora differ in its recipe alone, got Model",
        ),
        (
            Training(BERT, "qlora", LoraRecipe(), 4),
            "qlora",
            {"fp32": replace(BERT, seed=1)},
            "fp32 must be what the training starts from, or for qlora differ in its recipe alone, got Bert",
        ),
    ],
)
def test_cells_that_cannot_be_run_are_refused(training, method, changes, message):
    with pytest.raises(ValueError, match=message):
        CompanionCell(training, method, **changes)


def test_names_of_before_are_kept():
    """Rows and trained models of an earlier version are found by these."""
    cells = grid(models=("bert", "generative")).cells()
    assert [(c.method, c.asked_of, c.bits, c.cell_id[:16], c.model.training_id[:16]) for c in cells] == [
        ("fp32", None, None, "9585b98144390a60", "bdf6350369f08abf"),
        ("dynamic_ptq", "torch", 8, "bcd5b3c4f73c7b45", "bdf6350369f08abf"),
        ("dynamic_ptq", "torchao", 8, "093a9a186e30de35", "bdf6350369f08abf"),
        ("qat", None, 8, "fbb4f1c940931c1e", "48959bd2c586fde6"),
        ("qlora", None, 4, "541f20b15389741f", "3e36c062de249090"),
        ("fp32", None, None, "26a300341c359491", "9d5b7d32cb5015e1"),
        ("dynamic_ptq", None, 8, "1a5418ce263ccd77", "9d5b7d32cb5015e1"),
        ("static_ptq", None, 8, "1effa5968b2af438", "9d5b7d32cb5015e1"),
        ("static_ptq", None, 4, "b63fdc3ce85c8bfb", "9d5b7d32cb5015e1"),
        ("qat", None, 8, "bfe70ad113a7e89e", "4b310e1d172f3085"),
        ("qat", None, 4, "4064e9d2d903d8c1", "165e29e589295915"),
    ]
