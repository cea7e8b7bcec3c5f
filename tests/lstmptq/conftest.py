"""A tiny study: models of the tiny corpus, trained in about a second."""

import pytest

from lstmptq.artifacts import Artifacts
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.sources import Source


@pytest.fixture(scope="session")
def tiny_spec(tiny_files):
    """A function from a kind of model to the specification of a tiny one."""
    corpus, vectors = tiny_files

    def make(kind: str, **changes) -> ModelSpec:
        epochs = 40 if kind == "discriminative" else 8  # four steps each
        values = {"hidden": 12, "epochs": epochs, "min_freq": 2, "max_tokens": 16} | changes
        dataset, embedding = Source.from_file("tiny", corpus), Source.from_file("glove", vectors)
        return ModelSpec(dataset=dataset, kind=kind, embedding=embedding, **values)

    return make


@pytest.fixture(scope="session")
def tiny_artifacts(shared_folder) -> Artifacts:
    """Artifacts that the whole session shares."""
    return Artifacts(shared_folder / "artifacts")
