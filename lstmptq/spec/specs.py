"""What determines an FP32 model, and how it is quantized.

The table of :mod:`lstmptq.spec.axes` describes most of the fields: which values are allowed, and how they
enter the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lstmptq.spec.axes import check_fields, identity_of
from lstmptq.spec.identity import digest_of
from lstmptq.spec.models import MODEL_KINDS, NO_VECTORS
from lstmptq.spec.requirements import HIGHEST_BITS, require_at_least, require_choice
from lstmptq.text.calibration import parse_class_ratio
from lstmptq.text.sources import Source

# Word vectors; the LSTM's weights; its quantizers by kind; the output layer with its input and, in the
# generative model, the label vectors. Stored rows call the output layer "head".
OUTPUT_LAYER = "head"
STAGES = ("embedding", "lstm_weights", "io", "gates", "sigmoids", "tanhs", "cell_state", OUTPUT_LAYER)
ISOLATED = ("kept", "lowered")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that determines one trained FP32 model."""

    dataset: Source
    kind: str  # one of MODELS
    embedding: Source  # its name is one of EMBEDDINGS
    seed: int = 0
    hidden: int = 100  # null in the kinds that have no LSTM, as is `layers`
    layers: int = 1
    training_documents: int | None = None  # None: all; a number takes a stratified, nested sample
    embedding_dim: int | None = None
    freeze_embedding: bool = False
    pooling: str = "mean"  # always "mean" unless the model is discriminative
    epochs: int | None = None  # length of the training run; None: the model's own default
    max_tokens: int = 80  # documents are cut here
    min_freq: int | None = None
    max_words: int = 40_000  # the most frequent words are kept
    checkpoint: int | None = None  # the weights after this epoch; None: the best on validation

    def __post_init__(self) -> None:
        check_fields(self, "model")
        for name in ("epochs", "max_tokens", "max_words"):
            require_at_least(name, getattr(self, name), 1)
        if self.checkpoint is not None and (self.epochs is None or self.checkpoint > self.epochs):
            raise ValueError(
                f"checkpoint must be one of the run's epochs, got {self.checkpoint} of {self.epochs}: "
                "give epochs, the length of the run, as well"
            )
        neutral = MODEL_KINDS[self.kind].neutral
        if self.embedding == NO_VECTORS and "embedding" not in neutral:
            raise ValueError(f"the model {self.kind} needs word vectors, got the embedding {NO_VECTORS.name}")
        for name, value in neutral.items():  # the same model must not have two names
            object.__setattr__(self, name, value)

    def identity(self) -> dict[str, Any]:
        """Return the canonical, JSON-ready form."""
        more = {name: getattr(self, name) for name in ("epochs", "max_tokens", "max_words")}
        return identity_of(self, "model") | more

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
        """The columns of a companion row that only this kind of model has."""
        return {"embedding": self.embedding.name, "hidden": self.hidden, "layers": self.layers}

    @property
    def model_id(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the FP32 model's name among the artifacts."""
        return digest_of(self.identity())


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
        """Return the width of `stage`, which would be `bits` if nothing were isolated."""
        if self.stage is None:
            return bits
        low = (stage == self.stage) == (self.how == "lowered")
        return bits if low else HIGHEST_BITS


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """Everything that determines how a trained model is quantized."""

    bits: int  # of the weights, and of the output layer's input
    internal_bits: int  # of the LSTM's own quantizers
    algorithm: str = "gpfq"  # weight correction after calibration
    class_ratio: str = "balanced"  # shares of the classes in the calibration set
    calibration_documents: int | None = None  # None: as many as the smallest class has, at most 512
    calibration_labels: str = "own"  # generative: decoder inputs under the document's own label, or all
    observer: str = "mean"  # statistic that sets an activation's scale; the defaults are Brevitas'
    io_scales: str = "shared"  # by the LSTM's input and its hidden state, or separate
    padding: str = "counted"  # padded steps count as in Brevitas, or are masked
    kept_classes: str = "first"  # favoured by an uneven class ratio: the corpus' first, or drawn by the seed
    isolation: Isolation = Isolation()

    def __post_init__(self) -> None:
        check_fields(self, "quantization")
        if self.isolation.stage and (self.internal_bits != self.bits or self.bits == HIGHEST_BITS):
            raise ValueError(
                f"a stage is isolated where everything else has one width below {HIGHEST_BITS}, got bits "
                f"{self.bits} and internal_bits {self.internal_bits}"
            )
        # one spelling, one cell: head:0.50 and head:0.5 are the same
        object.__setattr__(self, "class_ratio", str(parse_class_ratio(self.class_ratio)))

    def identity(self) -> dict[str, Any]:
        """Return the canonical, JSON-ready form."""
        found = identity_of(self, "quantization")
        if self.isolation.stage:
            found |= {"isolated_stage": self.isolation.stage, "isolated_how": self.isolation.how}
        return found

    def observation_identity(self) -> dict[str, Any]:
        """Return the part of the identity that the calibration statistics depend on; widths play no part."""
        widths = ("bits", "internal_bits", "algorithm", "isolated_stage", "isolated_how")
        return {name: value for name, value in self.identity().items() if name not in widths}
