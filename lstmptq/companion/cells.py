"""The companion study's cells: model x method x bits x seed; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from lstmptq.companion.recipes import (
    BERT_RECIPE,
    LORA_RECIPE,
    QAT_RECIPE,
    BertRecipe,
    LoraRecipe,
    QatRecipe,
)
from lstmptq.spec.cells import ModelSpec, QuantizationSpec, digest_of
from lstmptq.spec.requirements import require_at_least, require_axis, require_bits, require_choice
from lstmptq.text.sources import Source

MODELS = ("discriminative", "generative", "bert")
METHODS = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
REGIMES = ("fp32", "qat", "qlora")  # the methods that train
DYNAMIC_LIBRARIES = ("torch", "torchao")
DYNAMIC_BITS, QLORA_BITS = 8, 4  # the widths that their kernels have
# Where a method makes no sense: (model, method) -> why. Everything else is run.
NOT_APPLICABLE = {
    ("bert", "static_ptq"): "the static quantizers of this project are an LSTM's",
    ("discriminative", "qlora"): "there is no pre-trained LSTM to freeze at 4 bits and adapt",
    ("generative", "qlora"): "there is no pre-trained LSTM to freeze at 4 bits and adapt",
}


@dataclass(frozen=True, slots=True)
class BertSpec:
    """Everything that determines one fine-tuned BERT."""

    dataset: Source
    checkpoint: Source  # what it starts from
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


def _require_applies(model: str, method: str) -> None:
    if reason := NOT_APPLICABLE.get((model, method)):
        raise ValueError(f"{method} does not apply to {model}: {reason}")


def _differ_in_recipe_alone(one: ModelSpec | BertSpec, other: ModelSpec | BertSpec) -> bool:
    if not (isinstance(one, BertSpec) and isinstance(other, BertSpec)):
        return False
    return replace(one, recipe=other.recipe) == other


def qat_quantization(bits: int) -> QuantizationSpec:
    """The quantizers that an LSTM's qat trains under, and is run with afterwards.

    Its weights are not corrected: they were trained under their quantizers.
    """
    return QuantizationSpec(bits, 8, "none")


@dataclass(frozen=True, slots=True)
class Training:
    """One training run: a float model, or one that is compressed while it is trained."""

    base: ModelSpec | BertSpec  # fp32: the model itself; qat: what it starts from; qlora: corpus, checkpoint
    regime: str = "fp32"  # one of REGIMES
    recipe: QatRecipe | LoraRecipe | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        require_choice("regime", self.regime, REGIMES)
        _require_applies(self.kind, self.regime)
        kind = {"fp32": None, "qat": QatRecipe, "qlora": LoraRecipe}[self.regime]
        if kind is None:
            if self.recipe is not None or self.bits is not None:
                raise ValueError(
                    f"an fp32 training has no recipe and no bits of its own, got {self.recipe} and "
                    f"{self.bits}: its base says how it is trained"
                )
            return
        if not isinstance(self.recipe, kind):
            raise ValueError(f"a {self.regime} training needs a {kind.__name__}, got {self.recipe}")
        if self.bits is None:
            raise ValueError(f"a {self.regime} training needs bits, got none")
        if isinstance(self.base, ModelSpec):
            require_bits("bits", self.bits)
            if self.recipe.precision != "float32":
                raise ValueError(
                    f"precision of an LSTM's qat must be float32, got {self.recipe.precision!r}: Brevitas' "
                    "quantizers train in it"
                )
        elif self.bits != (width := QLORA_BITS if self.regime == "qlora" else DYNAMIC_BITS):
            raise ValueError(
                f"bits of a BERT's {self.regime} must be {width}, the width of its kernel, got {self.bits}"
            )

    @property
    def kind(self) -> str:
        """The name of the model on the axis."""
        return self.base.kind

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
    repeats: int = 30  # passes of one document that are; of 64 documents a fifth of it, at least 5

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
        _require_applies(self.model.kind, self.method)
        regime = self.method if self.method in REGIMES else "fp32"
        if self.model.regime != regime:
            raise ValueError(f"{self.method} needs a training of {regime}, got one of {self.model.regime}")
        self._require_library()
        self._require_quantization()
        self._require_reference()

    def _require_library(self) -> None:
        if (self.model.kind, self.method) == ("bert", "dynamic_ptq"):
            require_choice("asked_of", self.asked_of or "none", DYNAMIC_LIBRARIES)
        elif self.asked_of is not None:
            raise ValueError(
                f"asked_of is for dynamic_ptq of a bert, got {self.asked_of!r} for {self.method} of "
                f"{self.model.kind}: leave it out"
            )

    def _require_quantization(self) -> None:
        named = f"{self.method} of {self.model.kind}"
        if self.method == "static_ptq" or (self.method == "qat" and isinstance(self.model.base, ModelSpec)):
            if self.quantization is None:
                raise ValueError(f"{named} needs a quantization, got none")
        elif self.quantization is not None:
            raise ValueError(f"{named} has a width of its own, got {self.quantization}: leave it out")
        if self.method == "qat" and self.quantization is not None:
            assert self.model.bits is not None
            trained = qat_quantization(self.model.bits)
            if self.quantization != trained:
                raise ValueError(f"{named} is run as it was trained, as {trained}, got {self.quantization}")

    def _require_reference(self) -> None:
        base, other = self.model.base, self.fp32
        if other is None or other == base:
            return
        if self.method != "qlora" or not _differ_in_recipe_alone(base, other):
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
        """Which package did it; None for FP32."""
        if self.method == "dynamic_ptq":
            return self.asked_of or "torch"
        bert = self.model.kind == "bert"
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
                training = Training(replace(base, recipe=BERT_RECIPE), "qlora", self.qlora, QLORA_BITS)
                yield cell(training, fp32=base)
            else:
                yield cell(float_model)
        elif method in ("static_ptq", "qat"):
            for bits in self.bits:
                if method == "static_ptq":
                    yield cell(float_model, quantization=QuantizationSpec(bits, 8, "gpfq"))
                else:
                    training = Training(base, "qat", QatRecipe(self.lstm_qat_epochs, 1e-3, 64), bits)
                    yield cell(training, quantization=qat_quantization(bits))
        else:
            yield cell(float_model)
