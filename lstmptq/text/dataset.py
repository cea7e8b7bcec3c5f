"""An encoded corpus as it lies in a directory: its splits, vocabulary and classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from lstmptq.text.vocabulary import EncodedCorpus, Vocabulary


@dataclass(frozen=True)
class EncodedDataset:
    """An encoded corpus, in a directory of its own."""

    path: Path

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names: list[str] = json.loads((self.path / "classes.json").read_text())
        return names

    @cached_property
    def packages(self) -> dict[str, str]:
        """Versions of the packages the corpus came from, by name; empty for datasets of older versions."""
        path = self.path / "packages.json"
        versions: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
        return versions

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary, built from the training documents alone."""
        return Vocabulary.load(self.path / "vocabulary.json")

    @cached_property
    def train(self) -> EncodedCorpus:
        """The documents for training and calibration."""
        return EncodedCorpus.load(self.path / "train.npz")

    @cached_property
    def valid(self) -> EncodedCorpus:
        """The documents on which the best epoch is chosen."""
        return EncodedCorpus.load(self.path / "valid.npz")

    @cached_property
    def test(self) -> EncodedCorpus:
        """The documents for evaluation, clean."""
        return EncodedCorpus.load(self.path / "test.npz")

    def texts(self, split: str) -> list[str]:
        """Return the raw texts of a split, in the order of its documents."""
        return pl.read_parquet(self.path / "texts.parquet").filter(pl.col("split") == split)["text"].to_list()
