"""Small random corpora and models, quick to make and awkward in shape."""

from __future__ import annotations

import numpy as np
import torch

from lstmptq.models.base import TrainableClassifier, seeded
from lstmptq.models.discriminative import DiscriminativeClassifier
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.text.vocabulary import EncodedCorpus


def random_corpus(
    documents: int, vocabulary: int, classes: int, longest: int, seed: int = 0, shortest: int = 1
) -> EncodedCorpus:
    """Random tokens in documents of random length, the first one as short as allowed."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, documents)
    lengths[0] = shortest
    return EncodedCorpus(
        rng.integers(4, vocabulary, lengths.sum()).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.integers(0, classes, documents),
    )


def random_model(
    kind: str, vocabulary: int = 307, classes: int = 4, width: int = 17, hidden: int = 13, layers: int = 1,
    pooling: str = "mean",
) -> TrainableClassifier:  # fmt: skip
    """An untrained model with weights large enough for every quantizer to clip now and then."""
    with seeded(1):
        vectors = torch.randn(vocabulary, width) * 1.3
        if kind == "generative":
            prior = torch.linspace(-2, -1, classes)
            model: TrainableClassifier = GenerativeClassifier(vectors, classes, prior, hidden, layers)
        else:
            model = DiscriminativeClassifier(vectors, classes, hidden, layers, pooling=pooling)
        with torch.no_grad():
            for parameter in model.lstm.parameters():
                parameter.mul_(2)
    return model.eval()
