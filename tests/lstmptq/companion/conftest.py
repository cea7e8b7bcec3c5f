"""A BERT small enough for tests: random weights, word pieces of its own."""

import json

import numpy as np
import polars as pl
import pytest

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import BertRecipe, BertSpec
from lstmptq.text.sources import Source

EMOTIONS = {
    "sadness": "gloomy lonely tearful",
    "joy": "happy glad cheerful",
    "anger": "furious irritated bitter",
}


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """The directory of a BERT of 2 layers, 32 wide, that knows some forty words."""
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from lstmptq.models.base import seeded

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"i feel so very today am and a bit".split()]
    words += [word for group in EMOTIONS.values() for word in group.split()]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("abcdefghijklmnopqrstuvwxyz")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(dict.fromkeys(words)) + "\n")
    with seeded(0):
        config = BertConfig(
            vocab_size=len(dict.fromkeys(words)), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64,
        )  # fmt: skip
        BertModel(config).to(torch.float32).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(vocabulary)).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"
    return folder


@pytest.fixture(scope="session")
def emotions(tmp_path_factory):
    """A corpus of 240 short documents in three uneven classes, with its splits."""
    rng = np.random.default_rng(0)
    filler = "i feel so very today am and a bit".split()
    rows = []
    for label, (count, words) in enumerate(zip((120, 80, 40), EMOTIONS.values(), strict=True)):
        for number in range(count):
            text = [*rng.choice(filler, size=rng.integers(1, 9)), rng.choice(words.split())]
            split = ("train", "train", "valid", "test")[number % 4]
            rows.append({"text": " ".join([*text, *f"{label} {number}"]), "label": label, "split": split})
    path = tmp_path_factory.mktemp("emotions") / "emotions.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.fixture(scope="session")
def bert_artifacts(tmp_path_factory):
    """Artifacts that the tests of the companion study share."""
    return Artifacts(tmp_path_factory.mktemp("bert-artifacts"))


@pytest.fixture(scope="session")
def bert_spec(tiny_bert, emotions):
    """A specification of the tiny BERT, trained on the tiny corpus."""
    return BertSpec(
        Source.from_file("emotions", emotions),
        Source("tiny", "0", str(tiny_bert)),
        max_tokens=32,
        recipe=BertRecipe(epochs=6, learning_rate=5e-3, batch_size=16),
    )
