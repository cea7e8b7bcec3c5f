"""QLoRA: low-rank adapters by peft on a frozen base whose linear layers bitsandbytes keeps as 4-bit NF4.

bitsandbytes has kernels of its own for CPUs (dequantization, and a fused product for single rows on
processors with AVX512-BF16), so the base really is stored at 4 bits here. The products are of floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from lstmptq.companion.bert import BertClassifier, BertStudy, quiet
from lstmptq.companion.cells import Training
from lstmptq.companion.checkpoints import require_packages
from lstmptq.companion.finetune import OnEpoch, save, train_loop, write_card
from lstmptq.companion.recipes import LoraRecipe
from lstmptq.models.base import seeded
from lstmptq.seeds import derive_seed


def adapt(study: BertStudy, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Train adapters and classification layer; leaves those alone in ``model.safetensors``."""
    assert isinstance(training.recipe, LoraRecipe)
    classifier = new_adapters(study, training.recipe)
    keep_layout(classifier.network)
    trainable = [name for name, p in classifier.network.named_parameters() if p.requires_grad]

    def kept() -> dict[str, Any]:
        return {name: dict(classifier.network.named_parameters())[name] for name in trainable}

    history = train_loop(study, classifier, training.recipe, on_epoch, kept)
    save(kept(), path / "model.safetensors")
    write_card(study, path, classifier, history, parameters=_parameters(classifier.network))


def keep_layout(network: nn.Module) -> None:
    """Keep validation from laying out the 4-bit weights for inference.

    On processors with AVX512-BF16 the first evaluation packs them for a kernel that has no gradient, and
    nothing unpacks them when training goes on: the second epoch would fail (bitsandbytes 0.50).
    """
    from bitsandbytes.nn import Linear4bit

    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def load(study: BertStudy, training: Training, path: Path) -> BertClassifier:
    """The 4-bit base with the trained adapters."""
    assert isinstance(training.recipe, LoraRecipe)
    classifier = new_adapters(study, training.recipe)
    classifier.network.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    return classifier.eval()


def new_adapters(study: BertStudy, recipe: LoraRecipe) -> BertClassifier:
    """The checkpoint at 4 bits with untrained adapters.

    Raises:
        ValueError: if the checkpoint has no layers of the names that are to be adapted.
    """
    require_packages(("peft", "bitsandbytes"))
    with quiet():
        from peft import LoraConfig, get_peft_model
        from transformers import BitsAndBytesConfig

        four_bit = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=["classifier"],
        )
        network = study.network(quantization_config=four_bit, device_map={"": "cpu"})
        names = {name.rpartition(".")[2] for name, _ in network.named_modules()}
        if absent := [name for name in recipe.targets if name not in names]:
            raise ValueError(
                f"{study.spec.checkpoint.name} has no layers named {', '.join(absent)}, which qlora adapts: "
                "give a BERT, or leave qlora out of --methods"
            )
        config = LoraConfig(
            task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
            target_modules=list(recipe.targets),
        )  # fmt: skip
        with seeded(derive_seed("adapters", study.spec.seed)):
            adapted = get_peft_model(network, config)
    return study.classifier(adapted)


def _parameters(network: nn.Module) -> int:
    """Parameters by their number, not by the bytes that hold them: two 4-bit ones share a byte."""
    count = 0
    for parameter in network.parameters():
        state = getattr(parameter, "quant_state", None)
        count += state.shape.numel() if state is not None else parameter.numel()
    return count
