"""A study of tiny LSTMs on the corpus of emotions, and a driver on another machine."""

from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest

from lstmptq.artifacts import artifact_name, copy_source, pack, source_artifact
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.sources import Source


@pytest.fixture(scope="session")
def lstm_spec(emotions):
    """A function from a kind of LSTM to the specification of a tiny one on the tiny BERT's corpus."""

    def make(kind: str = "discriminative", **changes) -> ModelSpec:
        vectors = Source.from_file("glove", emotions.with_suffix(".txt"))
        values = {"hidden": 12, "epochs": 2, "min_freq": 1} | changes
        return ModelSpec(Source.from_file("emotions", emotions), kind, vectors, **values)

    return make


class Driver:
    """A client of a machine that has the user's files and some artifacts; no pickle takes it along."""

    def __init__(self, folder: Path, artifacts=None) -> None:
        self.folder, self.artifacts, self.lock = folder, artifacts, Lock()
        self.sources: dict[str, Source] = {}
        self.published: list[str] = []

    def moved(self, source: Source) -> Source:
        """`source` as another machine hears of it: where it says there is nothing."""
        kind, key = source_artifact(source)
        self.sources[artifact_name(kind, key)] = source
        return replace(source, location=f"/nowhere/{Path(source.location).name}")

    def fetch(self, name: str) -> bytes | None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""
        if name in self.sources:
            path = self.folder / name
            path.mkdir(parents=True)
            copy_source(self.sources[name], path)
            return pack(path)
        there = self.artifacts and self.artifacts.root / name
        return pack(there) if there and there.is_dir() else None

    def publish(self, name: str, archive: bytes) -> None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""
        assert archive
        self.published.append(name)

    def give_up(self, name: str) -> None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""


@pytest.fixture
def driver(tmp_path):
    """A function that makes the driver's side of a client."""
    return lambda artifacts=None: Driver(tmp_path / "of the driver", artifacts)
