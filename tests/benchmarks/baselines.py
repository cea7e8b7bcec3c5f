"""The straightforward implementations: Brevitas' modules, padded batches, every label decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.graph.gpfq import gpfq_mode
from torch import Tensor, nn
from torch.nn import functional

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.discriminative import pool
from lstmptq.quantization.oracle import BrevitasDiscriminative, brevitas_graph
from lstmptq.spec.specs import QuantizationSpec

IGNORED = -100  # the target of padding, as `cross_entropy` skips it


def padded_targets(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the inputs and the targets of a language model, (batch, time) each, with IGNORED at padding."""
    inputs, targets, mask = language_model_pair(batch)
    return inputs, targets.masked_fill(~mask, IGNORED)


def score_every_label(states: Tensor, targets: Tensor, weight: Tensor, label_vectors: Tensor) -> Tensor:
    """Return the log-likelihoods, (batch, labels), by decoding the padded batch once per label.

    Args:
        states: (batch, time, hidden).
        targets: (batch, time), IGNORED at padding.
        weight: (vocabulary, hidden + label width).
        label_vectors: (labels, label width).
    """
    scores = []
    for vector in label_vectors:
        inputs = torch.cat([states, vector.expand(*states.shape[:2], -1)], dim=-1)
        logits = functional.linear(inputs, weight)
        nll = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        scores.append(-nll.sum(dim=1))
    return torch.stack(scores, dim=1)


class PlainLanguageModel(nn.Module):
    """The generative classifier with a textbook's training loss."""

    def __init__(self, vectors: Tensor, classes: int, hidden: int, label_width: int = 100) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors.clone(), freeze=False)
        self.dropout = nn.Dropout(0.2)
        self.lstm = nn.LSTM(vectors.shape[1], hidden, batch_first=True)
        self.label_embedding = nn.Embedding(classes, label_width)
        self.decoder = nn.Linear(hidden + label_width, len(vectors), bias=False)

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the next word over the whole vocabulary, padding ignored."""
        inputs, targets = padded_targets(batch)
        states = self.dropout(self.lstm(self.dropout(self.embedding(inputs)))[0])
        labels = self.label_embedding(batch.labels)[:, None].expand(-1, inputs.shape[1], -1)
        logits = self.decoder(torch.cat([states, labels], dim=-1))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


class PlainBrevitas(nn.Module):
    """Brevitas' graph run over padded batches, as a simple script would."""

    def __init__(self, model: TrainableClassifier, bits: int, internal_bits: int) -> None:
        super().__init__()
        self.graph = brevitas_graph(model, QuantizationSpec(bits, internal_bits))

    def forward(self, batch: Batch, labels: Tensor) -> Tensor:
        """Return the logits: (batch, classes), or (batch, time, vocabulary) under `labels`."""
        graph = self.graph
        if isinstance(graph, BrevitasDiscriminative):
            states = graph.hidden_states(batch.tokens)
            return graph.output_layer(pool(states, batch.lengths, batch.mask, graph.pooling))
        inputs, _ = padded_targets(batch)
        states = graph.hidden_states(inputs)
        vectors = graph.label_embedding(labels)[:, None].expand(-1, inputs.shape[1], -1)
        return graph.output_layer(torch.cat([states, vectors], dim=-1))


@torch.no_grad()
def plain_cell(
    model: TrainableClassifier,
    bits: int,
    internal_bits: int,
    classes: int,
    calibration: Sequence[Batch],
    evaluation: Sequence[Batch],
) -> Tensor:
    """Run one quantized cell: calibrate, apply GPFQ, then score every document under every label.

    Returns:
        (documents, classes) scores, in the order of `evaluation`.
    """
    quantized = PlainBrevitas(model, bits, internal_bits)
    with calibration_mode(quantized):
        for batch in calibration:
            quantized(batch, batch.labels)
    quantized(calibration[0], calibration[0].labels)
    with gpfq_mode(quantized, use_quant_activations=True) as gpfq:
        for _ in range(gpfq.num_layers):
            for batch in calibration:
                gpfq.model(batch, batch.labels)
            gpfq.update()
    return torch.cat([_scores(quantized, batch, classes) for batch in evaluation])


def _scores(quantized: PlainBrevitas, batch: Batch, classes: int) -> Tensor:
    if isinstance(quantized.graph, BrevitasDiscriminative):
        return quantized(batch, batch.labels).log_softmax(dim=1)
    _, targets = padded_targets(batch)
    scores = []
    for label in range(classes):
        logits = quantized(batch, torch.full_like(batch.labels, label))
        nll = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        scores.append(-nll.sum(dim=1))
    return torch.stack(scores, dim=1)
