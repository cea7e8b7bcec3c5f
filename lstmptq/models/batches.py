"""Padded batches of encoded documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmptq.text.vocabulary import BOS, EOS, PAD, EncodedCorpus

BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents padded to the length of the longest.

    Attributes:
        tokens: (batch, time) int64, ``PAD`` after each document's end.
        lengths: (batch,) int64, number of real tokens of each document, at least 1.
        labels: (batch,) int64.
        index: (batch,) int64, the row of each document in its corpus.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    index: Tensor

    @property
    def mask(self) -> Tensor:
        """(batch, time) bool, True at real tokens."""
        return real_tokens(self.lengths, self.tokens.shape[1])

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on `device`."""
        return Batch(*(getattr(self, name).to(device) for name in ("tokens", "lengths", "labels", "index")))


def real_tokens(lengths: Tensor, time: int) -> Tensor:
    """Return a (batch, time) bool mask that is True before each document's end."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def make_batch(corpus: EncodedCorpus, index: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
    """Return the documents at `index`, padded to the longest."""
    documents = [corpus.document(int(i)) for i in index]
    tokens = np.full((len(documents), max(map(len, documents))), PAD, dtype=np.int64)
    for row, document in zip(tokens, documents, strict=True):
        row[: len(document)] = document
    return Batch(
        torch.from_numpy(tokens),
        torch.tensor([len(document) for document in documents]),
        torch.from_numpy(corpus.labels[np.asarray(index)].astype(np.int64)),
        torch.from_numpy(np.asarray(index, dtype=np.int64)),
    )


def batches_in_order(corpus: EncodedCorpus, size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches in the order of the corpus, which defines the observer's means over calls."""
    for start in range(0, len(corpus), size):
        yield make_batch(corpus, np.arange(start, min(start + size, len(corpus))))


def batches_by_length(corpus: EncodedCorpus, size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches of documents of similar length (in a stable order), so that there is little padding."""
    order = np.argsort(corpus.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield make_batch(corpus, order[start : start + size])


def shuffled_batches(corpus: EncodedCorpus, rng: np.random.Generator, size: int) -> Iterator[Batch]:
    """Yield the batches of one epoch: documents shuffled and sorted by length within windows of 50 batches.

    The batches are shuffled, too.
    """
    order = rng.permutation(len(corpus))
    window = 50 * size
    chunks = [order[start : start + window] for start in range(0, len(order), window)]
    ordered = np.concatenate([chunk[np.argsort(corpus.lengths[chunk], kind="stable")] for chunk in chunks])
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    for place in rng.permutation(len(batches)):
        yield make_batch(corpus, batches[place])


def language_model_pair(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs of a language model, the targets it has to predict, and the mask of both.

    Returns:
        The inputs, (batch, time + 1): ``BOS`` and the document. The targets, (batch, time + 1): the document
        and ``EOS``. The mask, (batch, time + 1) bool, True at the real tokens, one more than in the document.
    """
    count = len(batch.tokens)
    inputs = torch.cat([batch.tokens.new_full((count, 1), BOS), batch.tokens], dim=1)
    targets = torch.cat([batch.tokens, batch.tokens.new_full((count, 1), PAD)], dim=1)
    targets[torch.arange(count, device=targets.device), batch.lengths] = EOS
    return inputs, targets, real_tokens(batch.lengths + 1, inputs.shape[1])
