"""The companion study's cells: model x method x bits x seed; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from lstmptq.cells import ModelSpec, QuantizationSpec, digest_of, require_at_least, require_choice
from lstmptq.text.sources import Source

MODELS = ("discriminative", "generative", "bert")
METHODS = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
DYNAMIC_LIBRARIES = ("torch", "torchao")
DYNAMIC_BITS, QLORA_BITS = 8, 4  # the widths that their kernels have
# Where a method makes no sense: (model, method) -> why. Everything else is run.
NOT_APPLICABLE = {
    ("bert", "static_ptq"): "the static quantizers of this project are an LSTM's",
    ("discriminative", "qlora"): "there is no pre-trained LSTM to freeze at 4 bits and adapt",
    ("generative", "qlora"): "there is no pre-trained LSTM to freeze at 4 bits and adapt",
}


@dataclass(frozen=True, slots=True)
class BertRecipe:
    """How a BERT is fine-tuned."""

    epochs: int = 3
    learning_rate: float = 2e-5  # of AdamW, a tenth of the steps to warm up, then linearly to 0
    batch_size: int = 32
    precision: str = "float32"  # of the products in training; weights and evaluation are float32

    def __post_init__(self) -> None:
        require_at_least("epochs", self.epochs, 1)
        require_at_least("batch_size", self.batch_size, 1)
        require_choice("precision", self.precision, ("float32", "bfloat16"))
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


# of the packaged checkpoint, a small encoder of sentences: a larger step, not tuned further
PACKAGED_RECIPE = BertRecipe(learning_rate=2e-4)


@dataclass(frozen=True, slots=True)
class QatRecipe:
    """How a fine-tuned model is trained on under fake quantization."""

    epochs: int = 1
    learning_rate: float = 2e-5
    batch_size: int = 32
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How low-rank adapters are trained on a frozen 4-bit BERT."""

    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 32
    precision: str = "float32"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class BertSpec:
    """Everything that determines one fine-tuned BERT."""

    dataset: Source
    checkpoint: Source  # what it starts from
    seed: int = 0
    training_documents: int | None = None
    max_tokens: int = 64  # word pieces, the two special ones included
    recipe: BertRecipe = BertRecipe()

    def __post_init__(self) -> None:
        require_at_least("seed", self.seed, 0)
        require_at_least("training_documents", self.training_documents, 2)
        require_at_least("max_tokens", self.max_tokens, 3)

    @property
    def model(self) -> str:
        """Its name on the axis."""
        return "bert"

    def identity(self) -> dict[str, Any]:
        """The canonical, JSON-ready form."""
        return {
            "dataset": self.dataset.identity(),
            "checkpoint": self.checkpoint.identity(),
            "seed": self.seed,
            "training_documents": self.training_documents,
            "max_tokens": self.max_tokens,
            "recipe": asdict(self.recipe),
        }

    @property
    def sources(self) -> tuple[Source, ...]:
        """The corpus; the checkpoint is a directory or a package, which every machine needs to have."""
        return (self.dataset,)

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that holds the weights."""
        return "berts", self.identity()


@dataclass(frozen=True, slots=True)
class Training:
    """One training run: a float model, or one that is compressed while it is trained."""

    base: ModelSpec | BertSpec  # fp32: the model itself; qat: what it starts from; qlora: corpus, checkpoint
    regime: str = "fp32"  # fp32, qat, qlora
    recipe: QatRecipe | LoraRecipe | None = None
    bits: int | None = None

    @property
    def model(self) -> str:
        """The name of the model on the axis."""
        return self.base.model

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it is made from."""
        return self.base.sources

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact; of an FP32 LSTM the main study's own."""
        if self.regime == "fp32":
            return self.base.training
        assert self.recipe is not None
        key = {"base": self.base.identity(), "recipe": asdict(self.recipe), "bits": self.bits}
        return self.regime, key

    @property
    def training_id(self) -> str:
        """SHA-256 (hex) that names the training."""
        return digest_of(self.training)


@dataclass(frozen=True, slots=True)
class Timing:
    """How latency is measured: settings of a whole sweep."""

    threads: int = 1
    warmup: int = 5  # passes that are not counted
    repeats: int = 30  # passes of one document that are; of 64 documents a third of it, at least 5

    def __post_init__(self) -> None:
        require_at_least("threads", self.threads, 1)
        require_at_least("warmup", self.warmup, 0)
        require_at_least("repeats", self.repeats, 1)


@dataclass(frozen=True, slots=True)
class CompanionCell:
    """One point of the companion study; one row of the table `cells`."""

    model: Training
    method: str = "fp32"  # one of METHODS
    fp32: ModelSpec | BertSpec | None = None  # what it is compared with; None: what its training starts from
    asked_of: str | None = None  # whose dynamic_ptq of a BERT: one of DYNAMIC_LIBRARIES
    quantization: QuantizationSpec | None = None  # static_ptq, and the quantizers of an LSTM's qat
    limit: int | None = None  # evaluate the first so many test documents (seeded order); None: all
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)
        require_at_least("limit", self.limit, 1)
        if reason := NOT_APPLICABLE.get((self.model.model, self.method)):
            raise ValueError(f"{self.method} does not apply to {self.model.model}: {reason}")

    @property
    def reference(self) -> ModelSpec | BertSpec:
        """The FP32 model that it is compared with."""
        return self.fp32 or self.model.base

    @property
    def float_training(self) -> Training:
        """The training of the FP32 model."""
        return Training(self.reference)

    @property
    def done_by(self) -> str | None:
        """Which package did it; None for FP32."""
        if self.method == "dynamic_ptq":
            return self.asked_of or "torch"
        bert = self.model.model == "bert"
        return {
            "static_ptq": "brevitas",
            "qat": "torchao, torch" if bert else "brevitas",  # trained by, run by
            "qlora": "peft, bitsandbytes",
        }.get(self.method)

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""
        if self.quantization is not None:
            return self.quantization.bits
        return {"fp32": None, "qlora": QLORA_BITS}.get(self.method, DYNAMIC_BITS)

    def identity(self) -> dict[str, Any]:
        """The canonical, JSON-ready form."""
        return {
            "study": "companion",
            "training": self.model.training_id,
            "fp32": self.float_training.training_id,
            "method": self.method,
            "library": self.asked_of,
            "quantization": self.quantization.identity() if self.quantization else None,
            "limit": self.limit,
            "timing": asdict(self.timing),
        }

    @property
    def cell_id(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return digest_of(self.identity())


@dataclass(frozen=True, slots=True)
class CompanionGrid:
    """The axes of a companion sweep, and the settings that all its cells share."""

    datasets: tuple[Source, ...]
    embedding: Source  # of the LSTMs
    checkpoint: Source | None  # of the BERT; None: no BERT among the models
    models: tuple[str, ...] = MODELS
    methods: tuple[str, ...] = METHODS
    bits: tuple[int, ...] = (8, 4)  # of static_ptq, and of an LSTM's qat
    seeds: tuple[int, ...] = (0,)
    libraries: tuple[str, ...] = DYNAMIC_LIBRARIES  # of a BERT's dynamic_ptq
    training_documents: int | None = None
    limit: int | None = None
    max_tokens: int = 64
    recipe: BertRecipe = BertRecipe()
    qat: QatRecipe = QatRecipe()
    qlora: LoraRecipe = LoraRecipe()
    lstm_epochs: int | None = None
    lstm_qat_epochs: int = 1
    timing: Timing = Timing()

    AXES = ("datasets", "models", "methods", "bits", "seeds", "libraries")
    SETTINGS = (
        "embedding", "checkpoint", "training_documents", "limit", "max_tokens", "recipe", "qat", "qlora",
        "lstm_epochs", "lstm_qat_epochs", "timing",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for axis in self.AXES:
            values = getattr(self, axis)
            if not values:
                raise ValueError(f"{axis} must have at least one value, got none")
            if len(set(values)) != len(values):
                raise ValueError(f"{axis} must not repeat a value, got {values}")
        for name, allowed in (("models", MODELS), ("methods", METHODS), ("libraries", DYNAMIC_LIBRARIES)):
            for value in getattr(self, name):
                require_choice(name, value, allowed)
        if "bert" in self.models and self.checkpoint is None:
            raise ValueError("the model bert needs a checkpoint, got none")
        if not sum(1 for _ in self.cells()):  # all of them: each checks its own values
            listed = "; ".join(f"{model} x {method}: {why}" for (model, method), why in self.left_out.items())
            raise ValueError(f"none of these methods applies to these models: {listed}")

    @property
    def left_out(self) -> dict[tuple[str, str], str]:
        """The (model, method) that were asked for and do not apply, and why."""
        return {
            pair: why
            for pair, why in NOT_APPLICABLE.items()
            if pair[0] in self.models and pair[1] in self.methods
        }

    def base(self, dataset: Source, model: str, seed: int) -> ModelSpec | BertSpec:
        """The FP32 model at a point of the grid."""
        if model == "bert":
            assert self.checkpoint is not None
            return BertSpec(
                dataset, self.checkpoint, seed, self.training_documents, self.max_tokens, self.recipe
            )
        return ModelSpec(
            dataset, model, self.embedding, seed, training_documents=self.training_documents,
            epochs=self.lstm_epochs,
        )  # fmt: skip

    def cells(self) -> Iterator[CompanionCell]:
        """Every cell that makes sense once, in a fixed order."""
        for dataset in self.datasets:
            for model in self.models:
                for seed in self.seeds:
                    base = self.base(dataset, model, seed)
                    for method in self.methods:
                        if (model, method) not in NOT_APPLICABLE:
                            yield from self._cells(base, method)

    def _cells(self, base: ModelSpec | BertSpec, method: str) -> Iterator[CompanionCell]:
        def cell(training: Training, **more: Any) -> CompanionCell:
            return CompanionCell(training, method, limit=self.limit, timing=self.timing, **more)

        float_model = Training(base)
        if isinstance(base, BertSpec):
            if method == "dynamic_ptq":
                yield from (cell(float_model, asked_of=library) for library in self.libraries)
            elif method == "qat":
                yield cell(Training(base, "qat", self.qat, DYNAMIC_BITS))
            elif method == "qlora":
                # it starts from the checkpoint: how the float model was fine-tuned plays no part
                training = Training(replace(base, recipe=BertRecipe()), "qlora", self.qlora, QLORA_BITS)
                yield cell(training, fp32=base)
            else:
                yield cell(float_model)
        elif method in ("static_ptq", "qat"):
            for bits in self.bits:
                # what is trained under its quantizers needs no correction of its weights afterwards
                algorithm = "gpfq" if method == "static_ptq" else "none"
                spec = QuantizationSpec(bits, 8, algorithm)
                recipe = QatRecipe(self.lstm_qat_epochs, 1e-3, 64)
                training = float_model if method == "static_ptq" else Training(base, "qat", recipe, bits)
                yield cell(training, quantization=spec)
        else:
            yield cell(float_model)
