"""The companion study's cells: model x method x bits x seed; needs no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lstmptq.companion.methods import (
    LIBRARIES,
    METHOD_TABLE,
    METHODS,
    MODELS,
    NOT_APPLICABLE,
    REGIMES,
    Method,
)
from lstmptq.companion.recipes import (
    BERT_RECIPE,
    LORA_RECIPE,
    QAT_RECIPE,
    BertRecipe,
    LoraRecipe,
    QatRecipe,
    Recipe,
)
from lstmptq.spec.identity import digest_of
from lstmptq.spec.requirements import require_at_least, require_axis, require_bits, require_choice
from lstmptq.spec.specs import ModelSpec, QuantizationSpec
from lstmptq.text.sources import Source


@dataclass(frozen=True, slots=True)
class BertSpec:
    """Everything that determines one fine-tuned BERT."""

    dataset: Source
    checkpoint: Source  # the pre-trained weights that it starts from
    seed: int = 0
    training_documents: int | None = None
    max_tokens: int = 64  # word pieces, the two special ones included
    recipe: BertRecipe = BERT_RECIPE

    def __post_init__(self) -> None:
        require_at_least("seed", self.seed, 0)
        require_at_least("training_documents", self.training_documents, 2)
        require_at_least("max_tokens", self.max_tokens, 3)

    @property
    def kind(self) -> str:
        """The value of the axis `models`."""
        return "bert"

    def identity(self) -> dict[str, Any]:
        """Return the canonical, JSON-ready form."""
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
        """The corpus. Every machine has to have the checkpoint, a directory or a package."""
        return (self.dataset,)

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that holds the weights."""
        return "berts", self.identity()

    @property
    def model_id(self) -> str:
        """SHA-256 (hex) that names the model among the artifacts."""
        return digest_of(self.training)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that only this kind of model has."""
        digest = self.checkpoint.digest
        return {"pretrained": self.checkpoint.name + (f" ({digest})" if digest else "")}


def _find_method(model: str, name: str) -> Method:
    method = METHOD_TABLE[model][name]
    if method.reason:
        raise ValueError(f"{name} does not apply to {model}: {method.reason}")
    return method


@dataclass(frozen=True, slots=True)
class Training:
    """One training run: a float model, or one that is compressed while it is trained."""

    base: ModelSpec | BertSpec  # fp32: the model itself; qat: what it starts from; qlora: corpus, checkpoint
    regime: str = "fp32"  # one of REGIMES
    recipe: Recipe | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        require_choice("regime", self.regime, REGIMES)
        method = _find_method(self.kind, self.regime)
        if method.recipe is None:
            if self.recipe is not None or self.bits is not None:
                raise ValueError(
                    f"an fp32 training has no recipe and no bits of its own, got {self.recipe} and "
                    f"{self.bits}: its base says how it is trained"
                )
            return
        if not isinstance(self.recipe, method.recipe):
            raise ValueError(f"a {self.regime} training needs a {method.recipe.__name__}, got {self.recipe}")
        if self.bits is None:
            raise ValueError(f"a {self.regime} training needs bits, got none")
        if method.quantization:
            require_bits("bits", self.bits)
            if self.recipe.precision != "float32":
                raise ValueError(
                    f"precision of an LSTM's qat must be float32, got {self.recipe.precision!r}: Brevitas' "
                    "quantizers train in it"
                )
        elif self.bits != method.bits:
            raise ValueError(
                f"bits of a BERT's {self.regime} must be {method.bits}, the width of its kernel, got "
                f"{self.bits}"
            )

    @property
    def kind(self) -> str:
        """The kind of the model."""
        return self.base.kind

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that the training reads."""
        return self.base.sources

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact; an FP32 LSTM has the artifact of the main study."""
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
    repeats: int = 30  # counted passes of one document; a fifth of it, at least 5, of 64 documents

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
    asked_of: str | None = None  # the library, where the method has several to choose from
    quantization: QuantizationSpec | None = None  # static_ptq, and the quantizers of an LSTM's qat
    limit: int | None = None  # evaluate the first N test documents (seeded order); None: all
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)
        require_at_least("limit", self.limit, 1)
        method = _find_method(self.model.kind, self.method)
        regime = self.method if method.train else "fp32"
        if self.model.regime != regime:
            raise ValueError(f"{self.method} needs a training of {regime}, got one of {self.model.regime}")
        if method.libraries:
            require_choice("asked_of", self.asked_of or "none", tuple(method.libraries))
        elif self.asked_of is not None:
            raise ValueError(
                f"asked_of is for dynamic_ptq of a bert, got {self.asked_of!r} for {self.method} of "
                f"{self.model.kind}: leave it out"
            )
        self._require_quantization(method)
        self._require_reference(method)

    def _require_quantization(self, method: Method) -> None:
        named = f"{self.method} of {self.model.kind}"
        if method.quantization is None:
            if self.quantization is not None:
                raise ValueError(f"{named} has a width of its own, got {self.quantization}: leave it out")
            return
        if self.quantization is None:
            raise ValueError(f"{named} needs a quantization, got none")
        if self.model.bits is not None:
            trained = method.quantization(self.model.bits)
            if self.quantization != trained:
                raise ValueError(f"{named} is run as it was trained, as {trained}, got {self.quantization}")

    def _require_reference(self, method: Method) -> None:
        base, other = self.model.base, self.reference
        if other.kind != base.kind or method.start(other) != method.start(base):
            raise ValueError(
                f"fp32 must be what the training starts from, or for qlora differ in its recipe alone, got "
                f"{other} beside {base}: leave it out"
            )

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
        """The packages that train and run it; None for FP32."""
        return self.asked_of or METHOD_TABLE[self.model.kind][self.method].packages

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""
        if self.quantization is not None:
            return self.quantization.bits
        return METHOD_TABLE[self.model.kind][self.method].bits

    def identity(self) -> dict[str, Any]:
        """Return the canonical, JSON-ready form."""
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
    libraries: tuple[str, ...] = LIBRARIES  # of a BERT's dynamic_ptq
    training_documents: int | None = None
    limit: int | None = None
    max_tokens: int = 64
    recipe: BertRecipe = BERT_RECIPE
    qat: QatRecipe = QAT_RECIPE
    qlora: LoraRecipe = LORA_RECIPE
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
            require_axis(axis, getattr(self, axis))
        for name, allowed in (("models", MODELS), ("methods", METHODS), ("libraries", LIBRARIES)):
            for value in getattr(self, name):
                require_choice(name, value, allowed)
        if "bert" in self.models and self.checkpoint is None:
            raise ValueError("the model bert needs a checkpoint, got none")
        if not sum(1 for _ in self.cells()):  # all of them: each checks its own values
            listed = "; ".join(f"{model} x {method}: {why}" for (model, method), why in self.left_out.items())
            raise ValueError(f"none of these methods applies to these models: {listed}")

    @property
    def left_out(self) -> dict[tuple[str, str], str]:
        """The requested pairs of model and method that do not apply, and why."""
        return {
            pair: why
            for pair, why in NOT_APPLICABLE.items()
            if pair[0] in self.models and pair[1] in self.methods
        }

    def base(self, dataset: Source, model: str, seed: int) -> ModelSpec | BertSpec:
        """Make the FP32 model at a point of the grid."""
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
        """Yield every cell that makes sense once, in a fixed order."""
        for dataset, model, seed in itertools.product(self.datasets, self.models, self.seeds):
            base = self.base(dataset, model, seed)
            for name in self.methods:
                if (model, name) not in NOT_APPLICABLE:
                    yield from self._cells(base, name, METHOD_TABLE[model][name])

    def _cells(self, base: ModelSpec | BertSpec, name: str, method: Method) -> Iterator[CompanionCell]:
        widths = self.bits if method.quantization else (method.bits,)
        libraries = self.libraries if method.libraries else (None,)
        for bits, library in itertools.product(widths, libraries):
            training = Training(base)
            if method.train:
                training = Training(method.start(base), name, self._recipe(name, method), bits)
            quantization = method.quantization(bits) if method.quantization and bits else None
            yield CompanionCell(training, name, base, library, quantization, self.limit, self.timing)

    def _recipe(self, name: str, method: Method) -> Recipe:
        if name == "qlora":
            return self.qlora
        return QatRecipe(self.lstm_qat_epochs, 1e-3, 64) if method.quantization else self.qat
