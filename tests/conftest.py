"""What the whole suite shares: one thread, so that sums do not depend on the load, and a tiny corpus.

``make test`` runs several processes (pytest-xdist). Whatever takes long to make lies in a folder that all
of them use, and the slow tests start first, so that no process is left with a long one at the end. Tests that
must share a process, for the sake of a fixture of their module, carry the marker ``xdist_group``.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import BertSpec
from lstmptq.companion.recipes import BertRecipe
from lstmptq.text.sources import Source

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_corpus():
    """The path of an extra corpus by name; skips where the corpora are absent."""

    def find(name: str) -> Path:
        path = SHARED / f"{name}.parquet"
        if not path.is_file():
            pytest.skip(f"the extra corpus {name}.parquet is not beside the project")
        return path

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all processes of a run of the suite have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless another process has done so."""
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            partial.mkdir()
            build(partial)
            partial.rename(folder)
    return folder


TOPICS = ("apple", "brick", "cloud")


@pytest.fixture(scope="session")
def tiny_files(shared_folder) -> tuple[Path, Path]:
    """A corpus in CSV (unbalanced, 150 documents) and a GloVe file of 8 columns."""
    folder = build_once(shared_folder / "tiny", write_tiny_files)
    return folder / "tiny.csv", folder / "tiny.txt"


def write_tiny_files(folder: Path) -> None:
    """Write the files of ``tiny_files``."""
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


EMOTIONS = {
    "sadness": "gloomy lonely tearful",
    "joy": "happy glad cheerful",
    "anger": "furious irritated bitter",
}


@pytest.fixture(scope="session")
def tiny_bert(shared_folder):
    """The directory of a BERT of 2 layers, 64 wide, that knows some forty words."""
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    return build_once(shared_folder / "bert", write_tiny_bert)


def write_tiny_bert(folder: Path) -> None:
    """Write the checkpoint of ``tiny_bert``."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from lstmptq.models.base import seeded

    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += "i feel so very today am and a bit".split()
    words += [word for group in EMOTIONS.values() for word in group.split()]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    with seeded(0):
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=128, max_position_embeddings=64,
        )  # fmt: skip
        BertModel(config).to(torch.float32).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


@pytest.fixture(scope="session")
def emotions(shared_folder):
    """A corpus of 240 short documents in three uneven classes, with its splits; beside it ``emotions.txt``,
    word vectors of 8 columns in GloVe's form."""
    return build_once(shared_folder / "emotions", write_emotions) / "emotions.parquet"


def write_emotions(folder: Path) -> None:
    """Write the files of ``emotions``."""
    rng = np.random.default_rng(0)
    filler = "i feel so very today am and a bit".split()
    rows = []
    for label, (count, words) in enumerate(zip((120, 80, 40), EMOTIONS.values(), strict=True)):
        for number in range(count):
            text = [*rng.choice(filler, size=rng.integers(1, 9)), rng.choice(words.split())]
            split = ("train", "train", "valid", "test")[number % 4]
            rows.append({"text": " ".join([*text, *f"{label} {number}"]), "label": label, "split": split})
    path = folder / "emotions.parquet"
    pl.DataFrame(rows).write_parquet(path)
    words = filler + [word for group in EMOTIONS.values() for word in group.split()]
    lines = [" ".join([word, *(f"{x:.4f}" for x in rng.normal(size=8))]) for word in words]
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def bert_artifacts(shared_folder):
    """Artifacts that the tests of the companion study share."""
    return Artifacts(shared_folder / "bert-artifacts")


@pytest.fixture(scope="session")
def bert_spec(tiny_bert, emotions):
    """A specification of the tiny BERT, trained on the tiny corpus."""
    return BertSpec(
        Source.from_file("emotions", emotions),
        Source("tiny", "0", str(tiny_bert)),
        max_tokens=32,
        recipe=BertRecipe(epochs=6, learning_rate=5e-3, batch_size=16),
    )
