"""Quantization-aware training: the training of a fine-tuned model continues under fake quantization.

A BERT is trained by torchao with the scheme of the int8 kernel that runs it afterwards: activations per
token, asymmetric; weights per output channel, symmetric. An LSTM is trained by Brevitas with the quantizers
of the main study.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path

import torch
from brevitas.graph.calibrate import calibration_mode
from safetensors.torch import load_file, save_file

from lstmptq.companion.bert import quiet
from lstmptq.companion.bert_assets import BertAssets, read_card
from lstmptq.companion.cells import CompanionCell, Training
from lstmptq.companion.dynamic import dynamic_bert
from lstmptq.companion.finetune import CLIP
from lstmptq.companion.methods import qat_quantization
from lstmptq.companion.prepared import Prepared, prepare_timed
from lstmptq.model_assets import ModelAssets
from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch, batches_in_order
from lstmptq.models.training import OnEpoch, count_steps, run_epochs, validate
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import Observation, read_statistics
from lstmptq.quantization.oracle import BrevitasClassifier, WeightQuantizer, brevitas_graph


def train_bert(assets: BertAssets, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Continue the training of the FP32 BERT under torchao's fake quantization of its linear layers."""
    assert training.recipe is not None
    classifier = assets.load()
    with quiet():
        from torchao.quantization import quantize_
        from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

        activation = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
        weight = IntxFakeQuantizeConfig(torch.int8, "per_channel", is_symmetric=True)
        quantize_(
            classifier.network,
            QATConfig(activation_config=activation, weight_config=weight, step="prepare"),
        )
    assets.fine_tune(classifier, training.recipe, path, on_epoch)


def prepare_bert(assets: BertAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the trained BERT from `path` on the int8 kernel that it was trained for.

    The kernel differs from the training in one respect: all activations of a call share one scale.
    """
    del cell
    return prepare_timed(read_card(path), lambda: dynamic_bert(assets.load(path), "torch", per_channel=True))


def train_lstm(assets: ModelAssets, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Continue the training of the FP32 LSTM under Brevitas' quantizers.

    Leaves ``model.safetensors`` (float weights), ``observation.safetensors`` (the learnt ranges of the
    activations) and ``card.json``. The weights before the first epoch can be the best ones too.
    """
    recipe, bits = training.recipe, training.bits
    assert recipe is not None
    assert bits is not None
    spec = qat_quantization(bits)
    oracle = calibrate_oracle(assets.model, bits, [*batches_in_order(assets.calibration_set(spec))])
    train_set = assets.dataset.train
    optimizer = torch.optim.Adam(oracle.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=count_steps(recipe, train_set))

    def convert() -> tuple[TrainableClassifier, Observation]:
        return extract_float_model(oracle, assets.model), read_statistics(oracle)

    def validate_quantized() -> tuple[float, float]:
        model, observation = convert()
        return validate(quantize(model, spec, observation, []), assets.dataset.valid)

    history, (model, observation) = run_epochs(
        oracle,
        oracle.loss,
        validate_quantized,
        convert,
        (optimizer, schedule),
        train_set, recipe, assets.spec.seed,
        clip=CLIP, order="qat epoch", judge_start=True, on_epoch=on_epoch,
    )  # fmt: skip
    save_file(model.state_dict(), path / "model.safetensors")
    observation.save(path / "observation.safetensors")
    card = {"spec": training.training[1], "recipe": asdict(recipe), **history}
    (path / "card.json").write_text(json.dumps(card, indent=2))


def prepare_lstm(assets: ModelAssets, cell: CompanionCell, path: Path) -> Prepared:
    """Load the trained LSTM from `path` and run it under the quantizers that it was trained with."""
    assert cell.quantization is not None
    spec, model = cell.quantization, assets.untrained()
    model.load_state_dict(load_file(path / "model.safetensors"))
    observation = Observation.load(path / "observation.safetensors")
    card = assets.card | {"epochs": read_card(path)["best_epoch"]}
    return prepare_timed(card, lambda: quantize(model.eval(), spec, observation, []))


def calibrate_oracle(model: TrainableClassifier, bits: int, batches: list[Batch]) -> BrevitasClassifier:
    """Build Brevitas' own model of `model`, ready to train.

    The ranges of its activations are set from `batches`; those of its weights follow the weights, as in the
    evaluator.
    """
    oracle = brevitas_graph(model, qat_quantization(bits), WeightQuantizer)
    with torch.no_grad(), calibration_mode(oracle):
        for batch in batches:
            oracle.observe_output_layer(batch, batch.labels)
    return oracle


def extract_float_model(oracle: BrevitasClassifier, like: TrainableClassifier) -> TrainableClassifier:
    """Return a copy of `like` with the float weights behind a Brevitas model."""
    model = copy.deepcopy(like)
    oracle.copy_weights_to(model)
    return model.eval()
