import json
import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmptq.spec.cells import Cell
from lstmptq.spec.grid import Grid
from lstmptq.spec.identity import canonical_json
from lstmptq.spec.specs import STAGES, Isolation, ModelSpec, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.text.sources import Source

SPEC = ModelSpec(Source("bbc_news"), "generative", Source("glove"))
QUANTIZATION = QuantizationSpec(4, 8)
CELL = Cell(SPEC, QUANTIZATION)


def test_default_grid_is_the_study():
    grid = Grid((Source("bbc_news"),))
    cells = list(grid.cells())
    assert len(cells) == 600
    assert len({cell.cell_id for cell in cells}) == 600
    assert len({cell.model for cell in cells}) == 6
    assert sum(cell.bits is None for cell in cells) == 6 * 4  # FP32 has no class ratio: one a noise


def test_cell_id_is_a_fixed_function_of_the_cell():
    """A change here orphans every result ever written: it needs a new schema_version."""
    assert CELL.cell_id == "d9222977f8a3be5bb2aeeac7765471c4f7e95075d14d3b9e1c01b987e6c167e5"


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Cell(SPEC), "15c9118f4a0a72f6337f63d14bae77b64b73a1363364530653d96ad2f1253996"),
        (replace(CELL, redraws=5), "45f191ebab1bca462f98c27f9dfe5781cb9aebfc746a61a3fae5db05a1a9aa17"),
        (
            Cell(SPEC, QuantizationSpec(3, 3, "none", "classes:1", 64, "all"), Noise("typo", 0.1), 7, 16),
            "adda041bea2481358a0d1540a40c9136f855b02431dbb9c43f15e4b6a7723d0d",
        ),
    ],
)
def test_options_at_their_defaults_rename_no_cell(cell, name):
    """As they were before there were observers, checkpoints and isolated stages."""
    assert cell.cell_id == name
    assert SPEC.model_id == "db44bf1b90abdd8f95a78535d3b71a71c5ee36b22f2ef607805887e62d23da09"


def test_cell_id_does_not_depend_on_the_process():
    code = (
        "from lstmptq.spec.cells import *; "
        "model = ModelSpec(Source('bbc_news'), 'generative', Source('glove')); "
        "print(Cell(model, QuantizationSpec(4, 8)).cell_id)"
    )
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        assert run.stdout.strip() == CELL.cell_id


def test_every_field_changes_the_cell_id():
    changed = {
        "dataset": Source("ag_news"), "kind": "discriminative", "embedding": Source("spacy"), "seed": 1,
        "hidden": 64, "layers": 2, "training_documents": 500, "embedding_dim": 50, "freeze_embedding": True,
        "pooling": "last", "epochs": 2, "max_tokens": 40, "min_freq": 2, "max_words": 1000,
    }  # fmt: skip
    assert {*changed, "checkpoint"} == {field.name for field in fields(ModelSpec)}
    ids = {
        replace(CELL, model=replace(SPEC, **{name: value})).cell_id
        for name, value in changed.items()
        if name != "pooling"  # of the discriminative model alone
    }
    pooled = replace(SPEC, kind="discriminative", pooling="last")
    ids.add(replace(CELL, model=pooled).cell_id)
    changed = {
        "bits": 5, "internal_bits": 4, "algorithm": "none", "class_ratio": "classes:1",
        "calibration_documents": 10, "calibration_labels": "all", "observer": "max",
        "io_scales": "separate", "padding": "masked", "kept_classes": "drawn",
        "isolation": Isolation("head", "kept"),
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(QuantizationSpec)}
    ids |= {
        replace(CELL, quantization=replace(QUANTIZATION, **{name: value})).cell_id
        for name, value in changed.items()
        if name != "isolation"  # of models of one width alone
    }
    others = [
        replace(CELL, quantization=None), replace(CELL, noise=Noise("typo", 0.1)),
        replace(CELL, limit=5), replace(CELL, shift_documents=5),
        replace(CELL, redraws=5), replace(CELL, model=replace(SPEC, epochs=2, checkpoint=1)),
        replace(CELL, quantization=replace(QUANTIZATION, observer="percentile")),
        *(replace(CELL, quantization=QuantizationSpec(3, 3, isolation=isolation)) for isolation in (
            Isolation(), Isolation("head", "kept"), Isolation("head", "lowered"), Isolation("io", "kept"))),
    ]  # fmt: skip
    ids |= {cell.cell_id for cell in others}
    assert len(ids | {CELL.cell_id}) == 14 + 10 + 11 + 1


def test_redraws_belong_to_balanced_clean_cells_and_rename_no_other():
    grid = Grid((Source("bbc_news"),), redraws=5)
    cells, plain = list(grid.cells()), list(replace(grid, redraws=0).cells())
    redrawing = [cell for cell in cells if cell.redraws]
    assert {(cell.quantization.class_ratio, cell.noise) for cell in redrawing} == {("balanced", CLEAN)}
    assert {cell.redraws for cell in redrawing} == {5}
    assert [a for a, b in zip(cells, plain, strict=True) if a.cell_id != b.cell_id] == redrawing


def test_one_class_ratio_has_one_spelling():
    ids = {
        replace(CELL, quantization=QuantizationSpec(4, 8, class_ratio=r)).cell_id
        for r in ("head:0.5", "head:0.50")
    }
    assert len(ids) == 1


def test_a_class_ratio_of_many_digits_stays_what_it_is():
    """Once its spelling lost digits, and what `isolate` makes of a spec was refused."""
    ratios = ("0.3333333,0.3333333,0.3333334", "head:0.9999999", "head:0.12345671", "head:0.12345674")
    grid = Grid((Source("bbc_news"),), bits=(4,), class_ratios=ratios, isolate=True)
    assert {cell.quantization.class_ratio for cell in grid.cells()} == set(ratios)


def test_what_is_not_pooled_has_no_pooling():
    """The generative model is the same whatever the pooling: it would be trained twice."""
    assert replace(SPEC, pooling="last") == SPEC
    grid = Grid((Source("bbc_news"),), embeddings=(Source("glove"),), pooling="last")
    assert [(spec.kind, spec.pooling) for spec in grid.model_specs()] == [
        ("discriminative", "last"),
        ("generative", "mean"),
    ]


def test_location_of_a_source_is_no_part_of_the_identity():
    here, there = Source("corpus", "abc", "/a/corpus.csv"), Source("corpus", "abc", "/b/corpus.csv")
    assert replace(SPEC, dataset=here).model_id == replace(SPEC, dataset=there).model_id
    assert here == there


def test_source_from_file_is_named_by_its_content(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("same")
    second.write_text("same")
    assert Source.from_file("x", first).digest == Source.from_file("x", second).digest
    second.write_text("other")
    assert Source.from_file("x", first).digest != Source.from_file("x", second).digest
    with pytest.raises(FileNotFoundError, match="give the path of an existing file"):
        Source.from_file("x", tmp_path / "absent.csv")


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.none() | st.booleans() | st.text(max_size=3)))
def test_canonical_json_does_not_depend_on_the_order_of_keys(mapping):
    backwards = dict(reversed(list(mapping.items())))
    assert canonical_json(mapping) == canonical_json(backwards)
    assert json.loads(canonical_json(mapping)) == mapping


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: QuantizationSpec(1, 8),
            "bits must be in 2..8 or null, got 1: use null (fp32 on the command line) for the FP32 baseline",
        ),
        (
            lambda: QuantizationSpec(32, 8),
            "bits must be in 2..8 or null, got 32: use null (fp32 on the command line) for the FP32 baseline",
        ),
        (lambda: QuantizationSpec(4, 9), "internal_bits must be in 2..8"),
        (
            lambda: QuantizationSpec(4, 8, "gpqf"),
            "algorithm must be one of none, gpfq, gptq, qronos, got 'gpqf'",
        ),
        (
            lambda: QuantizationSpec(4, 8, calibration_documents=0),
            "calibration_documents must be at least 1, got 0",
        ),
        (
            lambda: replace(SPEC, kind="transformer"),
            "model must be one of discriminative, generative, unigram, got",
        ),
        (lambda: replace(SPEC, hidden=0), "hidden must be at least 1, got 0"),
        (lambda: replace(SPEC, seed=-1), "seed must be at least 0, got -1"),
        (
            lambda: replace(SPEC, epochs=2, checkpoint=3),
            "checkpoint must be one of the run's epochs, got 3 of 2: give epochs, the length of the run, as "
            "well",
        ),
        (lambda: replace(SPEC, checkpoint=3), "checkpoint must be one of the run's epochs, got 3 of None"),
        (
            lambda: replace(QUANTIZATION, observer="median"),
            "observer must be one of mean, max, percentile, got 'median'",
        ),
        (
            lambda: replace(QUANTIZATION, io_scales="own"),
            "io_scales must be one of shared, separate, got 'own'",
        ),
        (lambda: replace(QUANTIZATION, padding="cut"), "padding must be one of counted, masked, got 'cut'"),
        (
            lambda: Isolation("head"),
            "isolation needs a stage and how, or neither, got head and None",
        ),
        (
            lambda: Isolation("decoder", "kept"),
            "isolated stage must be one of embedding, lstm_weights, io, gates, sigmoids, tanhs, cell_state, "
            "head, got 'decoder'",
        ),
        (
            lambda: Isolation("head", "raised"),
            "how a stage is isolated must be one of kept, lowered, got 'raised'",
        ),
        (
            lambda: QuantizationSpec(3, 8, isolation=Isolation("head", "kept")),
            "a stage is isolated where everything else has one width below 8, got bits 3 and internal_bits 8",
        ),
        (lambda: replace(CELL, limit=0), "limit must be at least 1, got 0"),
        (lambda: QuantizationSpec(8.0, 8), "bits must be an int, got 8.0 (float): use int(...)"),
        (lambda: QuantizationSpec(8, 8.0), "internal_bits must be an int, got 8.0 (float): use int(...)"),
        (lambda: replace(SPEC, layers=True), "layers must be an int, got True (bool): use int(...)"),
        (
            lambda: Cell(SPEC, QuantizationSpec(4, 8, class_ratio="classes:1"), redraws=3),
            "redraws must be 0 but in a quantized, balanced, clean cell without an isolated stage, got 3 "
            "with classes:1, clean",
        ),
        (
            lambda: Cell(SPEC, QUANTIZATION, Noise("typo", 0.1), redraws=1),
            "got 1 with balanced, typo:0.1",
        ),
        (
            lambda: Cell(SPEC, QuantizationSpec(3, 3, isolation=Isolation("io", "kept")), redraws=1),
            "got 1 with balanced, clean, io isolated",
        ),
        (lambda: Cell(SPEC, redraws=1), "got 1 with FP32"),
        (lambda: Grid((Source("bbc_news"),), bits=()), "bits must have at least one value, got none"),
        (lambda: Grid((Source("bbc_news"),), bits=(4, 4)), "bits must not repeat a value, got (4, 4)"),
        (lambda: Grid((Source("bbc_news"),), bits=(4, 12)), "bits must be in 2..8 or null, got 12"),
    ],
)
def test_bad_values_say_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_internal_bits_same_follows_the_weights():
    grid = Grid(
        (Source("bbc_news"),), bits=(None, 8, 4), internal_bits=(8, "same"), class_ratios=("balanced",)
    )
    widths = [(q.bits, q.internal_bits) for q in grid.quantization_specs() if q]
    assert widths == [(8, 8), (4, 8), (4, 4)]  # at 8 bits both recipes are one


def test_importing_the_library_imports_no_torch():
    code = "import lstmptq, lstmptq.spec.cells, lstmptq.results, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_epochs_are_checkpoints_of_one_run():
    grid = Grid((Source("bbc_news"),), models=("generative",), embeddings=(Source("glove"),))
    (best,) = replace(grid, epochs=(5,)).model_specs()
    assert best == replace(SPEC, epochs=5)
    specs = list(replace(grid, epochs=(1, 5, 2)).model_specs())
    assert [(spec.epochs, spec.checkpoint) for spec in specs] == [(5, 1), (5, 5), (5, 2)]
    assert len({spec.training_id for spec in specs}) == 1
    assert len({spec.model_id for spec in [best, *specs]}) == 4
    assert best.training_id != specs[0].training_id
    assert best.training == ("models", best.identity())


def test_isolate_adds_clean_cells_with_one_stage_of_another_width():
    models = {"models": ("generative",), "embeddings": (Source("glove"),)}
    grid = Grid((Source("bbc_news"),), bits=(None, 8, 4, 3), class_ratios=("balanced", "classes:1"), **models)
    plain, cells = list(grid.cells()), list(replace(grid, isolate=True).cells())
    assert set(plain) < set(cells)
    assert len({cell.cell_id for cell in cells}) == len(cells)
    more = [cell for cell in cells if cell not in plain]
    assert {cell.noise for cell in more} == {CLEAN}
    whole = [cell for cell in more if not cell.quantization.isolation.stage]
    assert [(c.quantization.bits, c.quantization.internal_bits, c.redraws) for c in whole] == [
        (4, 4, 5), (3, 3, 5), (4, 4, 0), (3, 3, 0),
    ]  # fmt: skip
    isolated = [cell for cell in more if cell.quantization.isolation.stage]
    assert len(isolated) == 2 * 2 * len(STAGES) * 2
    assert {cell.redraws for cell in isolated} == {0}
    same = replace(grid, internal_bits=(8, "same"))
    assert len(list(replace(same, isolate=True).cells())) == len(list(same.cells())) + len(isolated)
    fp32 = replace(grid, bits=(None, 8))
    assert list(replace(fp32, isolate=True).cells()) == list(fp32.cells())


def test_width_of_an_isolated_stage():
    kept, lowered = Isolation("io", "kept"), Isolation("io", "lowered")
    assert [kept.width(stage, 3) for stage in ("io", "gates")] == [8, 3]
    assert [lowered.width(stage, 3) for stage in ("io", "gates")] == [3, 8]
    assert [Isolation().width(stage, 3) for stage in ("io", "gates")] == [3, 3]
