"""The unigram classifier: naive Bayes on the words that the LSTMs read, the baseline without an LSTM."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch, batches_in_order
from lstmptq.models.generative import log_prior_of
from lstmptq.models.training import OnEpoch, validate
from lstmptq.spec.models import MODEL_KINDS, ModelKind
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.vocabulary import BOS, EOS, PAD, EncodedCorpus


class UnigramClassifier(nn.Module, Classifier):
    """Multinomial naive Bayes: log p(x, y) = log p(y) + the sum of log p(w | y) over the words w of x.

    p(w | y) is the share of w among the words of the training documents of class y, each word counted once
    more than it occurs (add-one smoothing). The unknown word is a word like the others.

    Args:
        words: size of the vocabulary, the specials included.
        log_prior: (classes,) log shares of the classes among the training documents.
    """

    kind: ClassVar[ModelKind] = MODEL_KINDS["unigram"]

    def __init__(self, words: int, log_prior: Tensor) -> None:
        super().__init__()
        self.log_likelihood = nn.Parameter(torch.zeros(words, len(log_prior)), requires_grad=False)
        self.log_prior = nn.Parameter(log_prior.clone(), requires_grad=False)

    @classmethod
    def from_spec(cls, spec: ModelSpec, vectors: Tensor, classes: int, labels: Tensor) -> Self:
        """Build an untrained model; `vectors` has a row per word of the vocabulary and no column."""
        del spec
        return cls(len(vectors), log_prior_of(labels, classes))

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes) float32: log p(x, y)."""
        by_word = self.log_likelihood[batch.tokens] * batch.mask[:, :, None]
        return by_word.sum(dim=1) + self.log_prior

    @torch.no_grad()
    def count(self, corpus: EncodedCorpus) -> None:
        """Set the likelihoods from the documents of `corpus`."""
        words, classes = self.log_likelihood.shape
        counts = torch.zeros(words, classes, dtype=torch.float64)
        for batch in batches_in_order(corpus):
            labels = batch.labels[:, None].expand_as(batch.tokens)[batch.mask]
            tokens = batch.tokens[batch.mask]
            counts.index_put_((tokens, labels), torch.ones(len(tokens), dtype=torch.float64), accumulate=True)
        counts += 1
        counts[[PAD, BOS, EOS]] = 0  # no document contains them
        shares = counts / counts.sum(dim=0)
        self.log_likelihood.copy_(shares.log().clamp(min=torch.finfo(torch.float32).min))


def train(
    model: UnigramClassifier,
    train_set: EncodedCorpus,
    valid_set: EncodedCorpus,
    *_: Any,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    **__: Any,
) -> dict[str, Any]:
    """Count the words of `train_set` in place; see :func:`lstmptq.models.training.train` for the arguments.

    Returns:
        The training part of the model's card, JSON-ready; there are no epochs.
    """
    started = time.perf_counter()
    model.count(train_set)
    accuracy = validate(model.to(device), valid_set, device)[0]
    if on_epoch:
        on_epoch(1, 1, accuracy)
    return {
        "best_epoch": None,
        "valid_accuracy": accuracy,
        "history": [],
        "train_seconds": time.perf_counter() - started,
    }
