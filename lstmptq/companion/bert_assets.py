"""The artifacts that the cells of a BERT share, found or built."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmptq.artifacts import Artifacts
from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.cells import BertSpec, CompanionCell
from lstmptq.companion.checkpoints import check_checkpoint
from lstmptq.companion.finetune import fine_tune
from lstmptq.companion.prepared import Prepared, prepare_timed
from lstmptq.companion.recipes import Recipe
from lstmptq.measures.metrics import Scores
from lstmptq.model_assets import evaluated_documents, score
from lstmptq.models.base import parameter_count, seeded
from lstmptq.models.training import OnEpoch
from lstmptq.seeds import derive_seed
from lstmptq.spec.specs import QuantizationSpec
from lstmptq.text.corpora import SPLITS, draw_training_sample, load_corpus
from lstmptq.text.vocabulary import EncodedCorpus


@dataclass(frozen=True)
class BertAssets:
    """One fine-tuned BERT with its corpus, tokenizer and scores.

    Attributes:
        spec: the model.
        artifacts: the storage in which they are found or kept.
    """

    spec: BertSpec
    artifacts: Artifacts

    @property
    def checkpoint(self) -> Path:
        """The directory of the checkpoint that the training starts from.

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
        """The tokenizer of the checkpoint."""
        from transformers import AutoTokenizer

        with quiet():
            return AutoTokenizer.from_pretrained(self.checkpoint)

    @cached_property
    def folder(self) -> Path:
        """The directory of the corpus in word pieces: the documents that an LSTM of this seed reads."""
        names = ("seed", "training_documents", "max_tokens")
        key = {name: getattr(self.spec, name) for name in names} | {
            "dataset": self.spec.dataset.identity(),
            "checkpoint": self.spec.checkpoint.identity(),
        }
        return self.artifacts.get_or_build("word_pieces", key, self._encode)

    def _encode(self, path: Path) -> None:
        check_checkpoint(self.checkpoint, self.spec.checkpoint.name, self.spec.max_tokens)
        corpus = load_corpus(self.artifacts.bring_source(self.spec.dataset), self.spec.seed)
        for name in SPLITS:
            rows = np.flatnonzero(np.asarray(corpus.split) == name)
            if name == "train":
                rows = draw_training_sample(corpus, self.spec.training_documents, self.spec.seed)
            pieces = self.tokenizer(
                [corpus.texts[i] for i in rows], truncation=True, max_length=self.spec.max_tokens
            )["input_ids"]
            lengths = [len(document) for document in pieces]
            unknown = sum(document.count(self.tokenizer.unk_token_id) for document in pieces)
            if 2 * unknown > sum(lengths):  # the files of some vocabularies are not what they are called
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
        """Load the documents of a split."""
        return EncodedCorpus.load(self.folder / f"{name}.npz")

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names: list[str] = json.loads((self.folder / "classes.json").read_text())
        return names

    def network(self, **options: Any) -> nn.Module:
        """Load the checkpoint with a new, seeded classification layer; one that it brings along is dropped.

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
            _renew_output_layer(network, base, set(loaded["missing_keys"]))
        return network

    def classifier(self, network: nn.Module) -> BertClassifier:
        """Wrap `network` as a classifier of this study, ready to evaluate."""
        return BertClassifier(network, self.tokenizer.pad_token_id).eval()

    def train_model(self, on_epoch: OnEpoch | None = None) -> Path:
        """Fine-tune the FP32 model or find it: a directory with ``model.safetensors`` and ``card.json``."""
        return self.artifacts.get_or_build(
            *self.spec.training,
            lambda path: self.fine_tune(self.classifier(self.network()), self.spec.recipe, path, on_epoch),
        )

    def fine_tune(
        self,
        classifier: BertClassifier,
        recipe: Recipe,
        path: Path,
        on_epoch: OnEpoch | None,
        weights: Callable[[], Mapping[str, Tensor]] | None = None,
        **card: Any,
    ) -> None:
        """Train `classifier` in place and leave ``model.safetensors`` and ``card.json`` in `path`.

        Args:
            classifier: changed in place.
            recipe: how it is trained.
            path: an existing directory.
            on_epoch: see :func:`lstmptq.models.training.run_epochs`.
            weights: returns the weights that are trained and stored; None: all.
            card: entries of the card that replace the usual ones.
        """
        weights = weights or classifier.network.state_dict
        train_set = self.split("train")
        history = fine_tune(
            classifier, weights, train_set, self.split("valid"), recipe, self.spec.seed, on_epoch
        )
        # safetensors refuses tensors that share their storage
        stored = {name: value.detach().cpu().clone().contiguous() for name, value in weights().items()}
        save_file(stored, path / "model.safetensors")
        found = {
            "spec": self.spec.identity(),
            "parameters": parameter_count(classifier),
            "trainable_parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
            "training_documents": len(train_set),
            "classes": self.classes,
            "epochs": history["best_epoch"],
            **history,
        }
        (path / "card.json").write_text(json.dumps(found | card, indent=2))

    def load(self, path: Path | None = None) -> BertClassifier:
        """Load the weights of a training at full precision; None takes the FP32 model's."""
        network = self.network()
        network.load_state_dict(load_file((path or self.train_model()) / "model.safetensors"))
        return self.classifier(network)

    def import_libraries(self) -> None:
        """Import transformers and load the tokenizer: neither is part of a model's memory."""
        with quiet():
            import_module("transformers.models.bert.modeling_bert")
        assert self.tokenizer

    def bring(self, quantization: QuantizationSpec | None) -> None:
        """Find or build the documents and the artifacts from which the FP32 model is loaded."""
        del quantization  # the quantizers of the LSTM study are not applied to a BERT
        self.train_model()
        assert self.folder

    def documents(self, limit: int | None) -> EncodedCorpus:
        """Load the test documents that are evaluated: the same ones for a BERT and for an LSTM."""
        test = self.split("test")
        return test.take(evaluated_documents(len(test), limit, self.spec.seed))

    def clean_scores(self, limit: int | None) -> Scores:
        """Score the clean test documents with the FP32 model, or find the scores."""

        def build(path: Path) -> None:
            scores = score(self.load(), self.documents(limit))
            np.savez(path / "scores.npz", model=scores.log_posterior, labels=scores.labels)

        key = {"model": self.spec.identity(), "limit": limit}
        with np.load(self.artifacts.get_or_build("bert_scores", key, build) / "scores.npz") as arrays:
            return Scores(arrays["model"], arrays["labels"])


def prepare_fp32(assets: BertAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the FP32 model of `cell`, trained in `path`."""
    del cell
    return prepare_timed(read_card(path), lambda: assets.load(path))


def read_card(path: Path) -> dict[str, Any]:
    """Read the card that a training left in `path`."""
    card: dict[str, Any] = json.loads((path / "card.json").read_text())
    return card


@torch.no_grad()
def _renew_output_layer(network: Any, base: str, absent: set[str]) -> None:
    """Draw the layers above the base anew, unless the checkpoint had none of them and they are new already.

    From the same seed this draws what a checkpoint without an output layer gets.

    Args:
        network: as it was loaded, changed in place.
        base: the prefix of the names of the base.
        absent: names of the parameters that the checkpoint does not have.
    """
    names = {name for name, _ in network.named_parameters() if not name.startswith(base)}
    if names <= absent:
        return
    for name, module in network.named_modules():
        if name and not f"{name}.".startswith(base):
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False  # otherwise transformers leaves it as loaded
            network._init_weights(module)
