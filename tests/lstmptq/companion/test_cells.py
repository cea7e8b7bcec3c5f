"""The companion study's grid: what is left out, what is shared, what names a cell."""

from dataclasses import replace

import pytest

from lstmptq.cells import ModelSpec
from lstmptq.companion.cells import (
    NOT_APPLICABLE,
    BertRecipe,
    BertSpec,
    CompanionCell,
    CompanionGrid,
    LoraRecipe,
    Timing,
    Training,
)
from lstmptq.text.sources import Source

CORPUS, GLOVE, MINILM = Source("emotion"), Source("glove"), Source("all-MiniLM-L6-v2", "0.1.0", "/somewhere")


def grid(**changes):
    return CompanionGrid((CORPUS,), GLOVE, MINILM, **changes)


def test_every_method_that_applies_is_there_and_what_does_not_is_listed():
    found = grid()
    there = {(cell.model.model, cell.method) for cell in found.cells()}
    assert there | set(NOT_APPLICABLE) == {(m, how) for m in found.models for how in found.methods}
    assert not there & set(NOT_APPLICABLE)
    assert found.left_out == NOT_APPLICABLE
    assert grid(models=("bert",), methods=("fp32", "qat")).left_out == {}
    assert list(grid(models=("generative",)).left_out) == [("generative", "qlora")]


def test_widths_and_libraries():
    cells = list(grid(models=("bert", "discriminative")).cells())
    named = [(c.model.model, c.method, c.bits, c.done_by) for c in cells]
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16"),
    ],
)
def test_bad_recipes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        BertRecipe(**values)
