"""The front door: what a notebook imports, lazily; and the library example of the documentation."""

import re
import subprocess
import sys

import polars as pl
import pytest

import lstmptq


def test_every_name_is_what_it_says():
    assert dir(lstmptq) == sorted(lstmptq.__all__)
    for name in lstmptq.__all__:
        assert getattr(lstmptq, name).__name__ == name


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(AttributeError, match=r"lstmptq offers Artifacts, Cell, .*train_model; got Modle"):
        lstmptq.Modle  # noqa: B018


def test_neither_the_package_nor_a_grid_imports_torch():
    code = "import lstmptq, sys; lstmptq.Grid.parse(); assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_of_the_docstring_runs(tiny_files, tmp_path, capsys):
    corpus, vectors = tiny_files
    (example,) = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", lstmptq.__doc__)
    code = "\n".join(line[4:] for line in example.splitlines())
    assert len(code.splitlines()) <= 10
    small = f'dataset=["{corpus}"], embeddings=["glove:{vectors}"], class_ratios=["balanced", "classes:1"],'
    small += "hidden=[8], epochs=[1], redraws=0, shift_documents=8,"
    assert 'embeddings=["glove"], ' in code
    code = code.replace('embeddings=["glove"], ', small).replace('"artifacts"', f'"{tmp_path}"')
    exec(code, names := {})
    rows = pl.DataFrame(names["rows"])
    assert rows["status"].to_list() == ["ok"] * 3
    assert rows.select("bits", "class_ratio").rows() == [(None, None), (4, "balanced"), (4, "classes:1")]
    assert "accuracy_drop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bit": ["4"]}, "a grid has no option bit: use dataset, models, embeddings, hidden"),
        ({"bits": ["9"]}, "bits must be in 2..8 or fp32, got 9: use fp32 for the FP32 baseline"),
        ({"bits": ["٤"]}, "bits must be in 2..8 or fp32, got ٤: use fp32 for the FP32 baseline"),
        ({"pooling": "max"}, "pooling must be one of mean, last, got 'max'"),
        ({"pooling": "max", "models": ["generative"]}, "pooling must be one of mean, last, got 'max'"),
        ({"models": "unigram"}, "models takes several values, got the text 'unigram': use a list"),
    ],
)
def test_a_grid_is_parsed_or_explains_why_not(given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        lstmptq.Grid.parse(**given)


def test_a_grid_takes_numbers_as_they_are():
    assert lstmptq.Grid.parse(bits=[8, 4], epochs=[]).bits == (8, 4)


def test_checkpoints_of_a_run_are_adjacent():
    grid = lstmptq.Grid.parse(models=["generative"], embeddings=["glove"], epochs=[2, 4], seeds=[0, 1])
    assert [(spec.seed, spec.checkpoint) for spec in grid.model_specs()] == [(0, 2), (0, 4), (1, 2), (1, 4)]


def test_an_lstm_without_word_vectors_is_refused():
    source = lstmptq.Source
    with pytest.raises(ValueError, match="the model generative needs word vectors, got the embedding none"):
        lstmptq.ModelSpec(source("bbc_news"), "generative", source("none"))
