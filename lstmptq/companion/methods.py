"""The table of methods: what each one is for each kind of model; needs no torch.

A new method is a file that prepares (and trains) its models, and an entry for each kind of model here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lstmptq.companion.recipes import BERT_RECIPE, LoraRecipe, QatRecipe, Recipe
from lstmptq.spec.specs import QuantizationSpec

NO_PRETRAINED_LSTM = "there is no pre-trained LSTM to freeze at 4 bits and adapt"


def qat_quantization(bits: int) -> QuantizationSpec:
    """Return the quantizers that an LSTM's qat trains under, and is run with afterwards.

    Its weights are not corrected: they were trained under their quantizers.
    """
    return QuantizationSpec(bits, 8, "none")


def _keep_base(base: Any) -> Any:
    return base


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compress one kind of model.

    Attributes:
        prepare: ``module:function`` in this package that makes a cell's model ready to evaluate.
        train: ``module:function`` in this package that trains what `prepare` loads; "" for the FP32 model.
        recipe: the type of recipe that `train` needs.
        start: turns the spec of the FP32 model into the spec of what `train` starts from.
        packages: the packages that do it.
        libraries: the packages to choose from where there are several, and the modules that each needs.
        modules: modules to import before memory is measured.
        bits: the only weight width; None for FP32 and where `quantization` takes any.
        quantization: returns the simulated quantizers of a width; None where a kernel has a width of its own.
        reason: why the method does not apply; "" where it does.
    """

    prepare: str = ""
    train: str = ""
    recipe: type[Recipe] | None = None
    start: Callable[[Any], Any] = _keep_base
    packages: str | None = None
    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    bits: int | None = None
    quantization: Callable[[int], QuantizationSpec] | None = None
    reason: str = ""


_LSTM = {
    "fp32": Method("lstm:prepare_fp32"),
    "static_ptq": Method(
        "lstm:prepare_static",
        packages="brevitas",
        quantization=lambda bits: QuantizationSpec(bits, 8, "gpfq"),
    ),
    "qat": Method(
        "qat:prepare_lstm", "qat:train_lstm", QatRecipe, packages="brevitas", quantization=qat_quantization
    ),
    "qlora": Method(reason=NO_PRETRAINED_LSTM),
}
METHOD_TABLE: dict[str, dict[str, Method]] = {  # by kind of model
    "discriminative": {
        **_LSTM,
        "dynamic_ptq": Method("dynamic:prepare_discriminative", packages="torch", bits=8),
    },
    "generative": {**_LSTM, "dynamic_ptq": Method("dynamic:prepare_generative", packages="torch", bits=8)},
    "bert": {
        "fp32": Method("bert_assets:prepare_fp32"),
        "dynamic_ptq": Method(
            "dynamic:prepare_bert", libraries={"torch": (), "torchao": ("torchao.quantization",)}, bits=8
        ),
        "static_ptq": Method(reason="the static quantizers of this project are an LSTM's"),
        "qat": Method("qat:prepare_bert", "qat:train_bert", QatRecipe, packages="torchao, torch", bits=8),
        "qlora": Method(
            "qlora:prepare", "qlora:train", LoraRecipe,
            # it starts from the checkpoint: how the FP32 model was fine-tuned plays no part
            start=lambda base: replace(base, recipe=BERT_RECIPE),
            packages="peft, bitsandbytes", modules=("bitsandbytes", "peft"), bits=4,
        ),
    },
}  # fmt: skip
MODELS = tuple(METHOD_TABLE)
METHODS = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
REGIMES = ("fp32", "qat", "qlora")  # the methods that train
LIBRARIES = tuple(METHOD_TABLE["bert"]["dynamic_ptq"].libraries)
# (model, method) -> why it does not apply; every other pair is run
NOT_APPLICABLE = {
    (model, name): method.reason
    for model, methods in METHOD_TABLE.items()
    for name, method in methods.items()
    if method.reason
}
