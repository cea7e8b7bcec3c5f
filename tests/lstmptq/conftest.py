"""A tiny study: a made-up corpus of three topics with its own word vectors, trained in about a second."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lstmptq.artifacts import Artifacts
from lstmptq.cells import ModelSpec
from lstmptq.text.sources import Source

TOPICS = ("apple", "brick", "cloud")


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> tuple[Path, Path]:
    """A corpus in CSV (unbalanced, 150 documents) and a GloVe file of 8 columns."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    shared = [f"word{i}" for i in range(30)]
    rows = []
    for label, (topic, count) in enumerate(zip(TOPICS, (70, 50, 30), strict=True)):
        own = [f"{topic}{i}" for i in range(6)]
        for document in range(count):
            words = list(rng.choice(shared, size=rng.integers(2, 10))) + list(rng.choice(own, size=6))
            rng.shuffle(words)
            rows.append({"text": " ".join([*words, f"mark{label}x{document}"]), "label": topic})
    pl.DataFrame(rows).write_csv(folder / "tiny.csv")
    words = shared + [f"{topic}{i}" for topic in TOPICS for i in range(6)]
    lines = [" ".join([word, *(f"{x:.4f}" for x in rng.normal(size=8))]) for word in words]
    (folder / "tiny.txt").write_text("\n".join(lines) + "\n")
    return folder / "tiny.csv", folder / "tiny.txt"


@pytest.fixture(scope="session")
def tiny_spec(tiny_files):
    """A function from a kind of model to the specification of a tiny one."""
    corpus, vectors = tiny_files

    def make(kind: str, **changes) -> ModelSpec:
        epochs = 40 if kind == "discriminative" else 8  # four steps each
        values = {"hidden": 12, "epochs": epochs, "min_freq": 2, "max_tokens": 16} | changes
        dataset, embedding = Source.from_file("tiny", corpus), Source.from_file("glove", vectors)
        return ModelSpec(dataset=dataset, model=kind, embedding=embedding, **values)

    return make


@pytest.fixture(scope="session")
def tiny_artifacts(tmp_path_factory) -> Artifacts:
    """Artifacts that the whole session shares."""
    return Artifacts(tmp_path_factory.mktemp("artifacts"))
