"""The cases of the benchmarks, one function each, on made-up data of the shapes of the LSTM grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from brevitas.graph.calibrate import calibration_mode
from torch import Tensor

from lstmptq.models.base import TrainableClassifier, seeded, sum_by_document
from lstmptq.models.batches import Batch, batches_in_order, make_batch, shuffled_batches
from lstmptq.models.discriminative import DiscriminativeClassifier
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.quantization.build import quantize
from lstmptq.quantization.classifier import QuantizedClassifier
from lstmptq.quantization.correct import correct
from lstmptq.quantization.generative import QuantizedGenerative
from lstmptq.quantization.observe import observe
from lstmptq.quantization.oracle import BrevitasClassifier, brevitas_graph
from lstmptq.quantization.quantizer import weight_quantizer
from lstmptq.spec.specs import QuantizationSpec
from lstmptq.text.vocabulary import EncodedCorpus
from tests.benchmarks.baselines import PlainLanguageModel, padded_targets, score_every_label
from tests.benchmarks.timing import Comparison, alternate
from tests.lstmptq.quantization.oracles import brevitas_gpfq

WIDTH, HIDDEN, LABELS = 50, 100, 4  # of the default vectors and the default model
BITS = 8


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of the measurements; both sides of a ratio are measured at the same size."""

    runs: int = 5
    evaluator_words: int = 2_000
    evaluator_time: int = 40  # tokens per document
    words: int = 27_000  # for scoring and training
    scoring_documents: int = 64
    gpfq_words: int = 3_000
    gpfq_documents: int = 8
    training_batches: int = 3
    cell_words: int = 2_000
    cell_documents: int = 128
    sweep_documents: int = 100
    memory_words: int = 27_000
    many_cells: int = 4_000
    query_cells: int = 20_000  # each with 50 rows of tensors


SMALL = Size()
FULL = Size(
    evaluator_time=80, scoring_documents=256, gpfq_words=27_000, gpfq_documents=32, training_batches=8,
    cell_words=14_330, cell_documents=1_000, sweep_documents=1_000, many_cells=20_000,
    query_cells=200_000,
)  # fmt: skip


def corpus(
    documents: int, words: int, seed: int = 0, shortest: int = 12, longest: int = 80, labels: int = LABELS
) -> EncodedCorpus:
    """Make documents of Zipf-distributed words, as long as news: the median is about 45 tokens."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(45, 12, documents), shortest, longest).astype(np.int64)
    ranks = np.arange(1, words - 3)
    tokens = rng.choice(np.arange(4, words), size=lengths.sum(), p=(1 / ranks) / (1 / ranks).sum())
    return EncodedCorpus(
        tokens.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), rng.integers(0, labels, documents)
    )


def model(kind: str, words: int, labels: int = LABELS) -> TrainableClassifier:
    """Make an untrained model of the default size."""
    with seeded(0):
        vectors = torch.randn(words, WIDTH)
        if kind == "generative":
            return GenerativeClassifier(vectors, labels, torch.zeros(labels), HIDDEN).eval()
        return DiscriminativeClassifier(vectors, labels, HIDDEN).eval()


def quantized_pair(
    trained: TrainableClassifier, words: int
) -> tuple[QuantizedClassifier, BrevitasClassifier]:
    """Return our evaluator and Brevitas' graph, calibrated on the same documents."""
    calibration = list(batches_in_order(corpus(32, words), 32))
    observation = observe(trained, calibration)
    spec = QuantizationSpec(BITS, BITS, "none")
    oracle = brevitas_graph(trained, spec)
    with torch.no_grad(), calibration_mode(oracle):
        for batch in calibration:
            oracle.observe_output_layer(batch, batch.labels)
    return quantize(trained, spec, observation, []), oracle


@torch.no_grad()
def evaluator(batch: int, size: Size) -> Comparison:
    """Measure tokens to hidden states, ours against Brevitas' `QuantLSTM`; the states must be equal."""
    ours, oracle = quantized_pair(model("discriminative", size.evaluator_words), size.evaluator_words)
    tokens = _tokens(batch, size)
    if not torch.equal(ours.encoder.hidden_states(tokens), oracle.hidden_states(tokens)):
        raise AssertionError(f"evaluator_{batch}: the evaluator is not equal to Brevitas")
    return alternate(
        f"evaluator_{batch}",
        lambda: ours.encoder.hidden_states(tokens),
        lambda: oracle.hidden_states(tokens),
        size.runs,
        1e3 / size.evaluator_time,
        "ms/step",
    )


@torch.no_grad()
def evaluator_vs_float(size: Size, batch: int = 256) -> Comparison:
    """Measure the quantized evaluator against `nn.LSTM` in float32."""
    trained = model("discriminative", size.evaluator_words)
    ours, _ = quantized_pair(trained, size.evaluator_words)
    tokens = _tokens(batch, size)
    return alternate(
        "evaluator_vs_float",
        lambda: ours.encoder.hidden_states(tokens),
        lambda: trained.hidden_states(tokens),
        3 * size.runs,
        1e3 / size.evaluator_time,
        "ms/step",
    )


def _tokens(batch: int, size: Size) -> Tensor:
    with seeded(1):
        return torch.randint(4, size.evaluator_words, (batch, size.evaluator_time))


@torch.no_grad()
def scoring(size: Size) -> Comparison:
    """Measure hidden states to log-likelihoods under every label, by the quantized decoder.

    The baseline decodes the same quantized states with the same weights, one label after the other.
    """
    quantized, prepared = _decoded(size.words, size.scoring_documents)
    label_inputs = quantized.output_layer.input_quantizer(quantized.label_vectors)

    def ours() -> Tensor:
        return _score(quantized, prepared)

    def baseline() -> Tensor:
        weight = quantized.output_layer.weight
        return torch.cat([score_every_label(*pair, weight, label_inputs) for pair in prepared])

    torch.testing.assert_close(ours(), baseline(), rtol=1e-4, atol=1e-2)
    scale = 1e3 / size.scoring_documents
    return alternate("scoring", ours, baseline, min(size.runs, 3), scale, "s/1000 documents")


@torch.no_grad()
def _decoded(
    words: int, documents: int, labels: int = LABELS
) -> tuple[QuantizedGenerative, list[tuple[Tensor, Tensor]]]:
    """Return a quantized generative model, and for each batch the decoder's quantized states and targets."""
    trained = model("generative", words, labels)
    quantized, _ = quantized_pair(trained, words)
    assert isinstance(quantized, QuantizedGenerative)
    prepared = []
    for batch in batches_in_order(corpus(documents, words, labels=labels), 64):
        inputs, targets = padded_targets(batch)
        states = quantized.encoder.hidden_states(inputs)
        prepared.append((quantized.output_layer.quantize_input(states), targets))
    return quantized, prepared


def _score(quantized: QuantizedGenerative, prepared: list[tuple[Tensor, Tensor]]) -> Tensor:
    found = []
    for states, targets in prepared:
        mask = targets >= 0
        tokens = quantized.scorer.log_likelihood(states[mask], targets[mask])
        found.append(sum_by_document(tokens, mask))
    return torch.cat(found)


@torch.no_grad()
def linear(what: str, size: Size) -> Comparison:
    """Measure how the time of generative scoring grows along an axis: labels, words or documents.

    Our side is the time at the large end. The baseline is the time at the small end times the growth of the
    axis, for labels without growth. A ratio of 1 is proportional; 14 labels may take 1.3 times as long as 4,
    a ratio of 0.77.
    """
    words, documents = size.words, size.scoring_documents
    small, large, growth = {
        "labels": (_decoded(words, documents, 4), _decoded(words, documents, 14), 1.0),
        "words": (_decoded(words // 4, documents), _decoded(words, documents), words / (words // 4)),
        "documents": (_decoded(words, documents // 4), _decoded(words, documents), 4.0),
    }[what]
    scale = 1e3 / documents
    found = alternate(
        f"linear_{what}",
        lambda: _score(*large),
        lambda: _score(*small),
        2 * size.runs,
        scale,
        "s/1000 documents",
    )
    return replace(found, runs=[(ours, baseline * growth) for ours, baseline in found.runs])


@torch.no_grad()
def gpfq(size: Size) -> Comparison:
    """Measure weight correction of the decoder, ours from two Gram matrices against Brevitas'."""
    trained = model("generative", size.gpfq_words)
    ours, _ = quantized_pair(trained, size.gpfq_words)
    batch = make_batch(corpus(size.gpfq_documents, size.gpfq_words), np.arange(size.gpfq_documents))
    quantized = ours.output_layer_inputs(batch, batch.labels)
    with seeded(2):
        inputs = quantized + 0.02 * torch.randn_like(quantized)
    weight = trained.output_layer.weight.detach()
    quantizer = weight_quantizer(weight, bits=BITS)

    return alternate(
        "gpfq",
        lambda: correct("gpfq", weight, quantizer, quantized, inputs),
        lambda: brevitas_gpfq(weight, BITS, quantized, inputs),
        min(size.runs, 3),
    )


def training(size: Size) -> Comparison:
    """Measure training of the generative model, ours against the padded loop."""
    documents = corpus(50 * 32, size.words)
    rng = np.random.default_rng(0)
    ordered = list(shuffled_batches(documents, rng, 32))[: size.training_batches]
    random = [make_batch(documents, rng.permutation(len(documents))[:32]) for _ in ordered]
    ours = model("generative", size.words).train()
    plain = PlainLanguageModel(ours.embedding.weight.detach(), LABELS, HIDDEN).train()

    def steps(trained: TrainableClassifier | PlainLanguageModel, batches: list[Batch], **options: bool):
        optimizer = torch.optim.Adam(trained.parameters(), lr=5e-3, **options)

        def run() -> None:
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                trained.loss(batch).backward()
                torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
                optimizer.step()

        return run

    # both sides train on the same number of documents, whose numbers of tokens differ by a few per cent
    return alternate(
        "training",
        steps(ours, ordered, fused=True),
        steps(plain, random),
        min(size.runs, 3),
        1e3 / (32 * size.training_batches),
        "s/1000 documents",
    )
