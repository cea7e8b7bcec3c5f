"""A BERT as a classifier of this study: its tokens, its training, its artifacts."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmptq.artifacts import Artifacts
from lstmptq.companion.cells import BertRecipe, BertSpec, LoraRecipe, QatRecipe, Training
from lstmptq.companion.checkpoints import check_checkpoint, require_packages
from lstmptq.models.base import parameter_count, seeded
from lstmptq.models.batches import Batch, shuffled_batches
from lstmptq.models.training import Epoch, best_epoch, validate
from lstmptq.seeds import derive_seed, generator
from lstmptq.study import SPLITS
from lstmptq.text.corpora import load_corpus, training_sample
from lstmptq.text.vocabulary import EncodedCorpus

WARMUP_SHARE = 0.1
WEIGHT_DECAY = 0.01
CLIP = 1.0
OnEpoch = Callable[[int, int, float], None]


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
        check_checkpoint(self.checkpoint, self.spec.checkpoint.name)
        corpus = load_corpus(self.spec.dataset, self.spec.seed)
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
        """The checkpoint with a new classification layer, seeded."""
        from transformers import AutoModelForSequenceClassification

        with quiet(), seeded(derive_seed("initial weights", self.spec.seed)):
            found: nn.Module = AutoModelForSequenceClassification.from_pretrained(
                self.checkpoint, num_labels=len(self.classes), use_safetensors=True, dtype=torch.float32,
                **options,
            )  # fmt: skip
        return found

    def classifier(self, network: nn.Module) -> BertClassifier:
        """`network` as a classifier of this study, ready to evaluate."""
        return BertClassifier(network, self.tokenizer.pad_token_id).eval()

    def trained(self, training: Training, on_epoch: OnEpoch | None = None) -> Path:
        """Train what `training` says, or find it: a directory with ``model.safetensors``, ``card.json``."""

        def build(path: Path) -> None:
            if training.regime == "qlora":
                from lstmptq.companion.qlora import adapt as make
            elif training.regime == "qat":
                from lstmptq.companion.qat import train_bert as make
            else:
                make = fine_tune
            make(self, training, path, on_epoch)

        return self.artifacts.get_or_build(*training.training, build)

    def float_classifier(self) -> BertClassifier:
        """The fine-tuned FP32 model."""
        path = self.trained(Training(self.spec))
        return self.load(path)

    def load(self, path: Path) -> BertClassifier:
        """The full-precision weights of a training."""
        network = self.network()
        network.load_state_dict(load_file(path / "model.safetensors"))
        return self.classifier(network)


def fine_tune(study: BertStudy, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Fine-tune every weight."""
    del training
    classifier = study.classifier(study.network())
    history = train_loop(study, classifier, study.spec.recipe, on_epoch)
    save(classifier.network.state_dict(), path / "model.safetensors")
    write_card(study, path, classifier, history)


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Weights as safetensors; shared storage is written out."""
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}, path)


def write_card(
    study: BertStudy, path: Path, classifier: BertClassifier, history: dict[str, Any], **more: Any
) -> None:
    """``card.json``: what was trained, how, and how well it went."""
    card = {
        "spec": study.spec.identity(),
        "parameters": parameter_count(classifier),
        "trainable_parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
        "training_documents": len(study.split("train")),
        "classes": study.classes,
        "epochs": history["best_epoch"],
        **history,
        **more,
    }
    (path / "card.json").write_text(json.dumps(card, indent=2))


def train_loop(
    study: BertStudy,
    classifier: BertClassifier,
    recipe: BertRecipe | QatRecipe | LoraRecipe,
    on_epoch: OnEpoch | None,
    kept: Callable[[], dict[str, Tensor]] | None = None,
) -> dict[str, Any]:
    """Train in place and leave the weights of the best validation epoch.

    Args:
        study: the corpus.
        classifier: changed in place; parameters that need no gradient stay.
        recipe: epochs, learning rate, batch size, precision of the products.
        on_epoch: called after each epoch with (epoch, epochs, validation accuracy).
        kept: what of the weights the best epoch keeps; None: all.

    Returns:
        The training part of the card, JSON-ready.
    """
    train_set, valid_set = study.split("train"), study.split("valid")
    named = [(name, p) for name, p in classifier.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    steps = recipe.epochs * -(-len(train_set) // recipe.batch_size)
    warm = max(1, int(WARMUP_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    weights = kept or (lambda: dict(classifier.network.state_dict()))
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    half = recipe.precision == "bfloat16"
    with seeded(derive_seed("dropout", study.spec.seed)):
        for number in range(1, recipe.epochs + 1):
            started, losses = time.perf_counter(), []
            classifier.train()
            order = generator("epoch", study.spec.seed, number)
            for batch in shuffled_batches(train_set, order, recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    logits = classifier.logits(batch)
                loss = nn.functional.cross_entropy(logits.float(), batch.labels)
                loss.backward()
                nn.utils.clip_grad_norm_([p for _, p in named], CLIP)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            accuracy, nll = validate(classifier.eval(), valid_set)
            history.append(
                Epoch(number, float(np.mean(losses)), accuracy, nll, time.perf_counter() - started)
            )
            if best_epoch(history) == number:
                best = {name: value.detach().clone() for name, value in weights().items()}
            if on_epoch:
                on_epoch(number, recipe.epochs, accuracy)
    classifier.network.load_state_dict(best, strict=False)
    return {
        "best_epoch": best_epoch(history),
        "valid_accuracy": history[best_epoch(history) - 1].valid_accuracy,
        "recipe": asdict(recipe),
        "history": [asdict(epoch) for epoch in history],
        "train_seconds": sum(epoch.seconds for epoch in history),
    }
