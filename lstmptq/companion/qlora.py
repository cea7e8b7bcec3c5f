"""QLoRA: low-rank adapters by peft on a frozen base whose linear layers bitsandbytes stores as 4-bit NF4.

bitsandbytes has its own kernels for CPUs (dequantization, and a fused product for single rows on processors
with AVX512-BF16), so the base is really stored at 4 bits here. The products are products of floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.bert_assets import BertAssets, read_card
from lstmptq.companion.cells import CompanionCell, Training
from lstmptq.companion.checkpoints import require_packages
from lstmptq.companion.prepared import Prepared, prepare_timed
from lstmptq.companion.recipes import LoraRecipe
from lstmptq.models.base import seeded
from lstmptq.models.training import OnEpoch
from lstmptq.seeds import derive_seed


def train(assets: BertAssets, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Train adapters and output layer; ``model.safetensors`` holds those alone."""
    classifier = new_adapters(assets, cast(LoraRecipe, training.recipe))
    network = classifier.network
    keep_layout(network)
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]

    def weights() -> dict[str, Tensor]:
        parameters = dict(network.named_parameters())
        return {name: parameters[name] for name in trainable}

    assert training.recipe is not None
    assets.fine_tune(
        classifier, training.recipe, path, on_epoch, weights, parameters=count_parameters(network)
    )


def keep_layout(network: nn.Module) -> None:
    """Keep validation from packing the 4-bit weights for inference.

    On processors with AVX512-BF16 the first evaluation packs them for a kernel that has no gradient, and
    nothing unpacks them when training continues: the second epoch would fail (bitsandbytes 0.50).
    """
    from bitsandbytes.nn import Linear4bit

    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def prepare(assets: BertAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the 4-bit base with the adapters that were trained in `path`."""
    return prepare_timed(read_card(path), lambda: load(assets, cell.model, path))


def load(assets: BertAssets, training: Training, path: Path) -> BertClassifier:
    """Load the 4-bit base with trained adapters."""
    classifier = new_adapters(assets, cast(LoraRecipe, training.recipe))
    classifier.network.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    return classifier.eval()


def new_adapters(assets: BertAssets, recipe: LoraRecipe) -> BertClassifier:
    """Load the checkpoint at 4 bits and add untrained adapters.

    Raises:
        ValueError: if the checkpoint lacks a layer that is to be adapted.
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
        network = assets.network(quantization_config=four_bit, device_map={"": "cpu"})
        names = {name.rpartition(".")[2] for name, _ in network.named_modules()}
        if absent := [name for name in recipe.targets if name not in names]:
            raise ValueError(
                f"{assets.spec.checkpoint.name} has no layers named {', '.join(absent)}, which qlora adapts: "
                "give a BERT, or leave qlora out of --methods"
            )
        config = LoraConfig(
            task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
            target_modules=list(recipe.targets),
        )  # fmt: skip
        with seeded(derive_seed("adapters", assets.spec.seed)):
            adapted = get_peft_model(network, config)
    return assets.classifier(adapted)


def count_parameters(network: nn.Module) -> int:
    """Count parameters, not the bytes that hold them: two 4-bit parameters share a byte."""
    count = 0
    for parameter in network.parameters():
        state = getattr(parameter, "quant_state", None)
        count += state.shape.numel() if state is not None else parameter.numel()
    return count
