"""Quantization-aware training: a fine-tuned model trained on under fake quantization.

A BERT by torchao, with the scheme of the int8 kernel it is run by afterwards: activations by token,
asymmetric; weights by output channel, symmetric. An LSTM by Brevitas, with the quantizers of the main study.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.quant import Int32Bias
from torch import Tensor, nn

from lstmptq.companion.bert import BertStudy, quiet
from lstmptq.companion.cells import Training, qat_quantization
from lstmptq.companion.finetune import CLIP, OnEpoch, float_classifier, save, train_loop, write_card
from lstmptq.companion.recipes import QatRecipe
from lstmptq.model_assets import ModelAssets
from lstmptq.models.base import TrainableClassifier, seeded
from lstmptq.models.batches import Batch, batches_in_order, language_model_pair, real_tokens, shuffled_batches
from lstmptq.models.generative import GenerativeClassifier
from lstmptq.models.training import Epoch, best_epoch, validate
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import read_statistics
from lstmptq.quantization.oracle import GATES, BrevitasClassifier, HeadInputQuantizer, WeightQuantizer
from lstmptq.seeds import derive_seed, generator


def train_bert(study: BertStudy, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Train the fine-tuned BERT of `study` on under torchao's fake quantization of its linear layers."""
    assert isinstance(training.recipe, QatRecipe)
    classifier = float_classifier(study)
    with quiet():
        from torchao.quantization import quantize_
        from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

        activation = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
        weight = IntxFakeQuantizeConfig(torch.int8, "per_channel", is_symmetric=True)
        quantize_(
            classifier.network,
            QATConfig(activation_config=activation, weight_config=weight, step="prepare"),
        )
    history = train_loop(study, classifier, training.recipe, on_epoch)
    save(classifier.network.state_dict(), path / "model.safetensors")
    write_card(study, path, classifier, history)


def train_lstm(study: ModelAssets, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Train the FP32 LSTM of `study` on under Brevitas' quantizers, and keep what the evaluator needs.

    Leaves ``model.safetensors`` (float weights), ``observation.safetensors`` (the learnt ranges of the
    activations) and ``card.json``. The weights before the first epoch compete for being the best too.
    """
    recipe, bits = training.recipe, training.bits
    assert isinstance(recipe, QatRecipe)
    assert bits is not None
    spec = qat_quantization(bits)
    oracle = calibrated(study.model, bits, [*batches_in_order(study.calibration_set(spec))])
    optimizer = torch.optim.Adam(oracle.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * -(-len(study.dataset.train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    history: list[Epoch] = []

    def look(number: int, losses: list[float], started: float) -> None:
        model = float_weights(oracle, study.model)
        observation = read_statistics(oracle)
        accuracy, nll = validate(quantize(model, spec, observation, []), study.dataset.valid)
        loss = float(np.mean(losses)) if losses else float("nan")
        history.append(Epoch(number, loss, accuracy, nll, time.perf_counter() - started))
        if best_epoch(history) == number:
            save(model.state_dict(), path / "model.safetensors")
            observation.save(path / "observation.safetensors")
        if on_epoch and number:
            on_epoch(number, recipe.epochs, accuracy)

    look(0, [], time.perf_counter())
    with seeded(derive_seed("dropout", study.spec.seed)):
        for number in range(1, recipe.epochs + 1):
            started, losses = time.perf_counter(), []
            oracle.train()
            order = generator("qat epoch", study.spec.seed, number)
            for batch in shuffled_batches(study.dataset.train, order, recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = _loss(oracle, batch)
                loss.backward()
                nn.utils.clip_grad_norm_(oracle.parameters(), CLIP)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            oracle.eval()
            look(number, losses, started)
    card = {
        "spec": training.training[1],
        "recipe": asdict(recipe),
        "best_epoch": best_epoch(history),
        "history": [asdict(epoch) | _finite(epoch) for epoch in history],
        "train_seconds": sum(epoch.seconds for epoch in history),
    }
    (path / "card.json").write_text(json.dumps(card, indent=2))


def _finite(epoch: Epoch) -> dict[str, Any]:
    return {"train_loss": epoch.train_loss if np.isfinite(epoch.train_loss) else None}


def calibrated(model: TrainableClassifier, bits: int, batches: list[Batch]) -> BrevitasClassifier:
    """Brevitas' own model of `model`, its activations' ranges set from `batches`, ready to train.

    The ranges of all weights follow the weights, as the evaluator's do.
    """
    oracle = BrevitasClassifier(model, bits, qat_quantization(bits).internal_bits)
    head = oracle.head
    oracle.head = qnn.QuantLinear(
        head.in_features, head.out_features, bias=head.bias is not None,
        weight_quant=WeightQuantizer, weight_bit_width=bits,
        input_quant=HeadInputQuantizer, input_bit_width=bits,
        bias_quant=Int32Bias if head.bias is not None else None,
    )  # fmt: skip
    oracle.head.load_state_dict(model.correctable.state_dict(), strict=False)
    oracle.eval()
    with torch.no_grad(), calibration_mode(oracle):
        for batch in batches:
            oracle.head.input_quant(oracle.head_input(batch, batch.labels))
    return oracle


def _loss(oracle: BrevitasClassifier, batch: Batch) -> Tensor:
    """Mean cross entropy: of the label, or of the next word under the document's own label."""
    logits = oracle(batch, batch.labels)
    if oracle.label_embedding is None:
        return nn.functional.cross_entropy(logits, batch.labels)
    _, targets, lengths = language_model_pair(batch)
    return nn.functional.cross_entropy(logits, targets[real_tokens(lengths, targets.shape[1])])


@torch.no_grad()
def float_weights(oracle: BrevitasClassifier, like: TrainableClassifier) -> TrainableClassifier:
    """The float weights behind a Brevitas model, as a classifier of the study; `like` is left as it is."""
    model = copy.deepcopy(like)
    model.embedding.weight.copy_(oracle.embedding.weight)
    model.correctable.weight.copy_(oracle.head.weight)
    if model.correctable.bias is not None:
        model.correctable.bias.copy_(oracle.head.bias)
    if isinstance(model, GenerativeClassifier):
        assert oracle.label_embedding is not None
        model.label_embedding.weight.copy_(oracle.label_embedding.weight)
    for number, (layer,) in enumerate(oracle.lstm.layers):
        gates = [getattr(layer, f"{gate}_gate_params") for gate in GATES]
        parts = {
            "weight_ih": torch.cat([gate.input_weight.weight for gate in gates]),
            "weight_hh": torch.cat([gate.hidden_weight.weight for gate in gates]),
            "bias_ih": torch.cat([gate.bias for gate in gates]),
        }
        for name, value in parts.items():
            getattr(model.lstm, f"{name}_l{number}").copy_(value)
        getattr(model.lstm, f"bias_hh_l{number}").zero_()
    return model.eval()
