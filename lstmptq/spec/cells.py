"""Cells, the points of the grid: what identifies one, what is valid, and its name.

A cell is everything that determines one row of the results, and nothing else: no path, host or worker
count. Its name, ``cell_id``, is the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from lstmptq.spec.models import MODEL_KINDS
from lstmptq.spec.requirements import (
    HIGHEST_BITS,
    require_at_least,
    require_axis,
    require_bits,
    require_choice,
)
from lstmptq.text.calibration import parse_class_ratio
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.text.sources import Source

MODELS = tuple(MODEL_KINDS)
EMBEDDINGS = ("word2vec", "glove", "spacy")
ALGORITHMS = ("none", "gpfq", "gptq", "qronos")
POOLINGS = ("mean", "last")
CALIBRATION_LABELS = ("own", "all")
OBSERVERS = ("mean", "max", "percentile")
IO_SCALES = ("shared", "separate")
PADDINGS = ("counted", "masked")
# word vectors; the LSTM's weights; its quantizers by kind; the last linear layer with its input and, in the
# generative model, the label vectors
STAGES = ("embedding", "lstm_weights", "io", "gates", "sigmoids", "tanhs", "cell_state", "head")
ISOLATED = ("kept", "lowered")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that determines one trained FP32 model."""

    dataset: Source
    kind: str  # one of MODELS
    embedding: Source  # its name is one of EMBEDDINGS
    seed: int = 0  # initial weights, order of documents, corpus split
    hidden: int = 100  # LSTM units a layer
    layers: int = 1
    training_documents: int | None = None  # None: all; a number takes a stratified, nested sample
    embedding_dim: int | None = None  # reduce the vectors to this width by PCA; None: their own width
    freeze_embedding: bool = False  # keep the vectors as they came instead of training them further
    pooling: str = "mean"  # discriminative: mean over real tokens, or the last hidden state; else mean
    epochs: int | None = None  # of the training run; None: the model's own default
    max_tokens: int = 80  # documents are cut here
    min_freq: int | None = (
        None  # a word needs so many occurrences in the training split; None: 5, or 2 below 10,000 documents
    )
    max_words: int = 40_000  # most frequent words kept
    # the weights after so many of the run's epochs, however good; None: those that are best on validation
    checkpoint: int | None = None

    def __post_init__(self) -> None:
        require_choice("model", self.kind, MODELS)
        require_choice("embedding", self.embedding.name, EMBEDDINGS)
        require_choice("pooling", self.pooling, POOLINGS)
        for name in ("hidden", "layers", "epochs", "max_tokens", "min_freq", "max_words", "embedding_dim"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("training_documents", self.training_documents, 2)
        require_at_least("seed", self.seed, 0)
        require_at_least("checkpoint", self.checkpoint, 1)
        if self.checkpoint is not None and (self.epochs is None or self.checkpoint > self.epochs):
            raise ValueError(
                f"checkpoint must be one of the run's epochs, got {self.checkpoint} of {self.epochs}: "
                "give epochs, the length of the run, as well"
            )
        if self.kind != "discriminative":  # nothing is pooled: the same model must not have two names
            object.__setattr__(self, "pooling", "mean")

    def identity(self) -> dict[str, Any]:
        """The canonical, JSON-ready form."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found |= {"model": found.pop("kind")}  # its name in every identity so far
        found |= {"dataset": self.dataset.identity(), "embedding": self.embedding.identity()}
        if self.checkpoint is None:
            del found["checkpoint"]  # the names of models of before
        return found

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it is made from: corpus and word vectors."""
        return self.dataset, self.embedding

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that holds the weights; a run's checkpoints share theirs."""
        if self.checkpoint is None:
            return "models", self.identity()
        return "runs", replace(self, checkpoint=None).identity()

    @property
    def training_id(self) -> str:
        """SHA-256 (hex) that names the training: equal for the checkpoints of one run."""
        return digest_of(self.training)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that only this kind of model has."""
        return {"embedding": self.embedding.name, "hidden": self.hidden, "layers": self.layers}

    @property
    def model_id(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the FP32 model's name among the artifacts."""
        return digest_of(self.identity())


@dataclass(frozen=True, slots=True)
class ObserverOptions:
    """Which statistic of its values sets an activation quantizer's scale; the defaults are Brevitas'."""

    observer: str = "mean"  # of the calls' percentiles; max of all values; percentile of all values together
    io_scales: str = "shared"  # by the LSTM's input and its hidden state, or separate
    padding: str = "counted"  # padded steps of a batch count as Brevitas has it, or are masked

    def __post_init__(self) -> None:
        require_choice("observer", self.observer, OBSERVERS)
        require_choice("io_scales", self.io_scales, IO_SCALES)
        require_choice("padding", self.padding, PADDINGS)

    def identity(self) -> dict[str, Any]:
        """What differs from Brevitas: nothing by default, as in results of before these options."""
        return _changed(self)


@dataclass(frozen=True, slots=True)
class Isolation:
    """One stage at another width than the rest; without a stage, nothing is."""

    stage: str | None = None  # one of STAGES
    how: str | None = None  # kept at 8 bits while the rest is low; lowered while the rest is at 8 bits

    def __post_init__(self) -> None:
        if (self.stage is None) != (self.how is None):
            raise ValueError(f"isolation needs a stage and how, or neither, got {self.stage} and {self.how}")
        if self.stage is not None and self.how is not None:
            require_choice("isolated stage", self.stage, STAGES)
            require_choice("how a stage is isolated", self.how, ISOLATED)

    def width(self, stage: str, bits: int) -> int:
        """The width of `stage` where it would be `bits` if nothing were isolated."""
        if self.stage is None:
            return bits
        low = (stage == self.stage) == (self.how == "lowered")
        return bits if low else HIGHEST_BITS


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """Everything that determines how a trained model is quantized."""

    bits: int  # weights, and the input of the last linear layer
    internal_bits: int  # the LSTM's own quantizers
    algorithm: str = "gpfq"  # weight correction after calibration, one of ALGORITHMS
    class_ratio: str = "balanced"  # shares of the classes in the calibration set
    calibration_documents: int | None = None  # None: as many as the smallest class has, at most 512
    calibration_labels: str = "own"  # generative: decoder inputs under the document's own label, or all
    options: ObserverOptions = ObserverOptions()
    isolation: Isolation = Isolation()

    def __post_init__(self) -> None:
        require_bits("bits", self.bits)
        require_bits("internal_bits", self.internal_bits)
        require_choice("algorithm", self.algorithm, ALGORITHMS)
        require_choice("calibration_labels", self.calibration_labels, CALIBRATION_LABELS)
        require_at_least("calibration_documents", self.calibration_documents, 1)
        if self.isolation.stage and (self.internal_bits != self.bits or self.bits == HIGHEST_BITS):
            raise ValueError(
                f"a stage is isolated where everything else has one width below {HIGHEST_BITS}, got bits "
                f"{self.bits} and internal_bits {self.internal_bits}"
            )
        # one spelling, one cell: head:0.50 and head:0.5 are the same
        object.__setattr__(self, "class_ratio", str(parse_class_ratio(self.class_ratio)))

    def identity(self) -> dict[str, Any]:
        """The canonical, JSON-ready form."""
        names = ("bits", "internal_bits", "algorithm", "class_ratio", "calibration_documents",
                 "calibration_labels")  # fmt: skip
        found = {name: getattr(self, name) for name in names} | self.options.identity()
        if self.isolation.stage:
            found |= {"isolated_stage": self.isolation.stage, "isolated_how": self.isolation.how}
        return found


def _changed(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their default: cells of before a field keep their name."""
    return {f.name: getattr(spec, f.name) for f in fields(spec) if getattr(spec, f.name) != f.default}


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid; one row of the table `cells`."""

    model: ModelSpec
    quantization: QuantizationSpec | None = None  # None: the FP32 baseline
    noise: Noise = CLEAN
    limit: int | None = None  # evaluate the first so many test documents (seeded order); None: all
    shift_documents: int = 256  # evaluation documents whose activations are compared
    redraws: int = 0  # balanced, clean cells: calibration sets drawn anew, for the margin of a shift

    def __post_init__(self) -> None:
        require_at_least("limit", self.limit, 1)
        require_at_least("shift_documents", self.shift_documents, 1)
        require_at_least("redraws", self.redraws, 0)
        if self.redraws and not _can_redraw(self.quantization, self.noise):
            # their rows are named balanced_vs_redraw, and make the margin of clean cells
            raise ValueError(
                f"redraws must be 0 but in a quantized, balanced, clean cell without an isolated stage, got "
                f"{self.redraws} with {self._described()}"
            )

    def _described(self) -> str:
        spec = self.quantization
        if spec is None:
            return "FP32"
        stage = f", {spec.isolation.stage} isolated" if spec.isolation.stage else ""
        return f"{spec.class_ratio}, {self.noise}{stage}"

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""
        return self.quantization.bits if self.quantization else None

    def identity(self) -> dict[str, Any]:
        """The canonical, JSON-ready form."""
        found = {
            "model": self.model.identity(),
            "quantization": self.quantization.identity() if self.quantization else None,
            "noise": {"kind": self.noise.kind, "level": self.noise.level},
            "limit": self.limit,
            "shift_documents": self.shift_documents,
        }
        return found | (
            {"redraws": self.redraws} if self.redraws else {}
        )  # without: the names of old results

    @property
    def cell_id(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return digest_of(self.identity())


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes of a sweep, and the settings that all its cells share."""

    datasets: tuple[Source, ...]
    models: tuple[str, ...] = MODELS
    embeddings: tuple[Source, ...] = tuple(Source(name) for name in EMBEDDINGS)
    seeds: tuple[int, ...] = (0,)
    hidden: tuple[int, ...] = (100,)
    layers: tuple[int, ...] = (1,)
    training_documents: tuple[int | None, ...] = (None,)
    # one value: the run's length, its best epoch is taken; several: checkpoints of one run, the longest
    epochs: tuple[int | None, ...] = (None,)
    bits: tuple[int | None, ...] = (None, 8, 7, 6, 5, 4, 3)
    internal_bits: tuple[int | Literal["same"], ...] = (8,)
    algorithms: tuple[str, ...] = ("gpfq",)
    class_ratios: tuple[str, ...] = ("balanced", "classes:3", "classes:2", "classes:1")
    observers: tuple[str, ...] = ("mean",)
    io_scales: tuple[str, ...] = ("shared",)
    paddings: tuple[str, ...] = ("counted",)
    noise: tuple[Noise, ...] = (CLEAN, Noise("typo", 0.05), Noise("typo", 0.10), Noise("typo", 0.20))
    isolate: bool = False  # clean cells more for each low width: one stage kept at 8 bits, or alone lowered
    # settings: one value for the whole sweep
    calibration_documents: int | None = None
    calibration_labels: str = "own"
    shift_documents: int = 256
    redraws: int = 5
    limit: int | None = None
    embedding_dim: int | None = None
    freeze_embedding: bool = False
    pooling: str = "mean"
    min_freq: int | None = None

    AXES = (
        "datasets", "models", "embeddings", "seeds", "hidden", "layers", "training_documents", "epochs",
        "bits", "internal_bits", "algorithms", "class_ratios", "observers", "io_scales", "paddings", "noise",
    )  # fmt: skip
    SETTINGS = (
        "calibration_documents", "calibration_labels", "shift_documents", "redraws", "limit", "embedding_dim",
        "freeze_embedding", "pooling", "run_epochs", "min_freq",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for axis in self.AXES:
            require_axis(axis, getattr(self, axis))
        for cell in self.cells():  # every combination of values is checked by the cells themselves
            del cell

    @property
    def run_epochs(self) -> int | None:
        """Epochs of a training run; None: the model's own default. A setting: one a sweep."""
        return max((epochs for epochs in self.epochs if epochs is not None), default=None)

    def model_specs(self) -> Iterator[ModelSpec]:
        """The FP32 models the grid needs, in the order of the axes; checkpoints of a run are adjacent."""
        checkpoints = self.epochs if len(self.epochs) > 1 else (None,)
        axes = (self.datasets, self.models, self.embeddings, self.hidden, self.layers,
                self.training_documents, self.seeds, checkpoints)  # fmt: skip
        for dataset, model, embedding, hidden, layers, documents, seed, checkpoint in itertools.product(
            *axes
        ):
            yield ModelSpec(
                dataset=dataset, kind=model, embedding=embedding, seed=seed, hidden=hidden, layers=layers,
                training_documents=documents, embedding_dim=self.embedding_dim,
                freeze_embedding=self.freeze_embedding, pooling=self.pooling, epochs=self.run_epochs,
                min_freq=self.min_freq, checkpoint=checkpoint,
            )  # fmt: skip

    def quantization_specs(self) -> Iterator[QuantizationSpec | None]:
        """The quantizations of each model, bits varying slowest; FP32 comes once, as None."""
        for bits in self.bits:
            if bits is None:
                yield None
                continue
            widths = dict.fromkeys(bits if width == "same" else width for width in self.internal_bits)
            axes = (widths, self.algorithms, self.class_ratios, self.observers, self.io_scales, self.paddings)
            for internal, algorithm, ratio, *options in itertools.product(*axes):
                yield QuantizationSpec(
                    bits, internal, algorithm, ratio, self.calibration_documents, self.calibration_labels,
                    ObserverOptions(*options),
                )  # fmt: skip

    def isolated_specs(self) -> Iterator[QuantizationSpec]:
        """What `isolate` adds: everything at 8 bits, everything at b, and the isolated stages in between."""
        low = [bits for bits in self.bits if bits is not None and bits < HIGHEST_BITS]
        options = (self.observers, self.io_scales, self.paddings)
        for algorithm, ratio, *values in itertools.product(self.algorithms, self.class_ratios, *options):
            if not low:
                return
            whole = QuantizationSpec(
                HIGHEST_BITS, HIGHEST_BITS, algorithm, ratio, self.calibration_documents,
                self.calibration_labels, ObserverOptions(*values),
            )  # fmt: skip
            yield whole
            for bits in low:
                lowered = replace(whole, bits=bits, internal_bits=bits)
                yield lowered
                for stage, how in itertools.product(STAGES, ISOLATED):
                    yield replace(lowered, isolation=Isolation(stage, how))

    def cells(self) -> Iterator[Cell]:
        """Every cell once, in a fixed order: models, then bits, then quantizations, then noise."""
        asked = itertools.product(self.quantization_specs(), self.noise)
        more = ((spec, CLEAN) for spec in self.isolated_specs()) if self.isolate else ()
        points = dict.fromkeys([*asked, *more])
        for spec, (quantization, noise) in itertools.product(self.model_specs(), points):
            yield Cell(
                spec,
                quantization,
                noise,
                self.limit,
                self.shift_documents,
                self._redraws(quantization, noise),
            )

    def _redraws(self, quantization: QuantizationSpec | None, noise: Noise) -> int:
        """Only a balanced, clean cell redraws: the others' names do not change with the setting."""
        return self.redraws if _can_redraw(quantization, noise) else 0


def _can_redraw(quantization: QuantizationSpec | None, noise: Noise) -> bool:
    if quantization is None or quantization.isolation.stage or noise != CLEAN:
        return False
    return quantization.class_ratio == "balanced"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
