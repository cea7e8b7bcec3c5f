"""A BERT as a classifier of this study: its tokens, its network, what it answers."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import BertSpec
from lstmptq.companion.checkpoints import check_checkpoint, require_packages
from lstmptq.model_assets import SPLITS
from lstmptq.models.base import seeded
from lstmptq.models.batches import Batch
from lstmptq.seeds import derive_seed
from lstmptq.text.corpora import load_corpus, training_sample
from lstmptq.text.vocabulary import EncodedCorpus


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries say about themselves: load reports, missing GPU extensions."""
    require_packages(("transformers",))
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("bitsandbytes", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class BertClassifier(nn.Module):
    """A transformers sequence classifier that answers ``class_scores``.

    Args:
        network: takes input_ids and attention_mask, gives ``.logits`` (batch, classes).
        pad: the tokenizer's padding id.
    """

    def __init__(self, network: nn.Module, pad: int) -> None:
        super().__init__()
        self.network, self.pad = network, pad

    def logits(self, batch: Batch) -> Tensor:
        """(batch, classes)."""
        mask = batch.mask
        tokens = batch.tokens.masked_fill(~mask, self.pad)
        found: Tensor = self.network(input_ids=tokens, attention_mask=mask.long()).logits
        return found

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(y | x), see :class:`lstmptq.models.base.Classifier`."""
        return self.logits(batch).float().log_softmax(dim=1)


@dataclass(frozen=True)
class BertStudy:
    """One fine-tuned BERT and everything around it.

    Attributes:
        spec: the model.
        artifacts: where shared things are found or built.
    """

    spec: BertSpec
    artifacts: Artifacts

    @property
    def checkpoint(self) -> Path:
        """The directory of what it starts from.

        Raises:
            FileNotFoundError: if it is not on this machine.
        """
        path = Path(self.spec.checkpoint.location)
        if not path.is_dir():
            raise FileNotFoundError(
                f"no checkpoint {path} on this machine: put {self.spec.checkpoint.name} there"
            )
        return path

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own."""
        from transformers import AutoTokenizer

        with quiet():
            return AutoTokenizer.from_pretrained(self.checkpoint)

    @cached_property
    def folder(self) -> Path:
        """The corpus in word pieces, the same documents as an LSTM of this seed has."""
        names = ("seed", "training_documents", "max_tokens")
        key = {name: getattr(self.spec, name) for name in names} | {
            "dataset": self.spec.dataset.identity(),
            "checkpoint": self.spec.checkpoint.identity(),
        }
        return self.artifacts.get_or_build("word_pieces", key, self._encode)

    def _encode(self, path: Path) -> None:
        check_checkpoint(self.checkpoint, self.spec.checkpoint.name, self.spec.max_tokens)
        corpus = load_corpus(self.artifacts.carried(self.spec.dataset), self.spec.seed)
        for name in SPLITS:
            rows = np.flatnonzero(np.asarray(corpus.split) == name)
            if name == "train":
                rows = training_sample(corpus, self.spec.training_documents, self.spec.seed)
            pieces = self.tokenizer(
                [corpus.texts[i] for i in rows], truncation=True, max_length=self.spec.max_tokens
            )["input_ids"]
            lengths = [len(document) for document in pieces]
            unknown = sum(document.count(self.tokenizer.unk_token_id) for document in pieces)
            if 2 * unknown > sum(lengths):  # seen where files of a vocabulary are not what they are called
                raise ValueError(
                    f"the tokenizer of {self.spec.checkpoint.name} does not know {unknown} of "
                    f"{sum(lengths)} word pieces of {self.spec.dataset.name}: check its files"
                )
            EncodedCorpus(
                np.concatenate([np.asarray(document, np.int32) for document in pieces]),
                np.concatenate([[0], np.cumsum(lengths)]),
                corpus.labels[rows],
            ).save(path / f"{name}.npz")
        (path / "classes.json").write_text(json.dumps(list(corpus.classes)))

    def split(self, name: str) -> EncodedCorpus:
        """The documents of a split."""
        return EncodedCorpus.load(self.folder / f"{name}.npz")

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names: list[str] = json.loads((self.folder / "classes.json").read_text())
        return names

    def network(self, **options: Any) -> nn.Module:
        """The checkpoint with a new classification layer, seeded; one that it brings along is not kept.

        Raises:
            ValueError: if weights below that layer do not fit the checkpoint's own configuration.
        """
        from transformers import AutoModelForSequenceClassification

        seed = derive_seed("initial weights", self.spec.seed)
        with quiet(), seeded(seed):
            found, loaded = AutoModelForSequenceClassification.from_pretrained(
                self.checkpoint, num_labels=len(self.classes), use_safetensors=True, dtype=torch.float32,
                ignore_mismatched_sizes=True, output_loading_info=True, **options,
            )  # fmt: skip
        network: nn.Module = found
        base = f"{found.base_model_prefix}."
        if unfit := sorted(name for name, *_ in loaded["mismatched_keys"] if name.startswith(base)):
            raise ValueError(
                f"{self.spec.checkpoint.name} has weights of other shapes than its config.json says, "
                f"{unfit[0]} for one: the two are not of the same model"
            )
        with seeded(seed):
            _renew_head(network, base, set(loaded["missing_keys"]))
        return network

    def classifier(self, network: nn.Module) -> BertClassifier:
        """`network` as a classifier of this study, ready to evaluate."""
        return BertClassifier(network, self.tokenizer.pad_token_id).eval()

    def load(self, path: Path) -> BertClassifier:
        """The full-precision weights of a training."""
        network = self.network()
        network.load_state_dict(load_file(path / "model.safetensors"))
        return self.classifier(network)


@torch.no_grad()
def _renew_head(network: Any, base: str, absent: set[str]) -> None:
    """Draw what is on top of the base anew, unless all of it was absent from the checkpoint, and new already.

    From the same seed it draws what a checkpoint without a head gets.

    Args:
        network: as it was loaded, changed in place.
        base: what names of the base begin with.
        absent: names of parameters that the checkpoint does not have.
    """
    names = {name for name, _ in network.named_parameters() if not name.startswith(base)}
    if names <= absent:
        return
    for name, module in network.named_modules():
        if name and not f"{name}.".startswith(base):
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False  # or transformers would leave it as it was loaded
            network._init_weights(module)
