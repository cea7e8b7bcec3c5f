"""From a cell to the model that is evaluated and measured."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from lstmptq.artifacts import Artifacts
from lstmptq.companion import qat, qlora
from lstmptq.companion.bert import BertStudy, quiet
from lstmptq.companion.cells import BertSpec, CompanionCell, Training
from lstmptq.companion.dynamic import dynamic_bert, dynamic_lstm
from lstmptq.companion.finetune import OnEpoch, fine_tuned, float_classifier
from lstmptq.measures.metrics import Scores
from lstmptq.model_assets import ModelAssets, evaluated_documents, score
from lstmptq.models.base import Classifier
from lstmptq.models.batches import batches_by_length
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import Observation
from lstmptq.runtime.kernel import choose_kernel
from lstmptq.spec.cells import ModelSpec
from lstmptq.text.noise import CLEAN
from lstmptq.text.vocabulary import EncodedCorpus

# of an LSTM there is one, qat.train_lstm
BERT_TRAININGS = {"qat": qat.train_bert, "qlora": qlora.adapt}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be scored, and what it took beyond its training."""

    classifier: Classifier
    card: dict[str, Any]  # of its training
    observe_seconds: float = 0.0
    quantize_seconds: float = 0.0
    calibration_documents: int | None = None


@dataclass(frozen=True)
class Companion:
    """The models of the companion study and what they are evaluated on.

    Attributes:
        base: the FP32 model, which says corpus and seed as well.
        artifacts: where trained models are found or left.
    """

    base: ModelSpec | BertSpec
    artifacts: Artifacts

    @cached_property
    def study(self) -> ModelAssets | BertStudy:
        """What trains the FP32 model and holds its corpus."""
        if isinstance(self.base, BertSpec):
            return BertStudy(self.base, self.artifacts)
        return ModelAssets(self.base, self.artifacts)

    def train(self, training: Training, on_epoch: OnEpoch | None = None) -> Path:
        """Train, or find, what `training` says: a directory with ``model.safetensors`` and ``card.json``."""
        study = self.study

        def build(path: Path) -> None:
            if isinstance(study, ModelAssets):
                qat.train_lstm(study, training, path, on_epoch)
            else:
                BERT_TRAININGS[training.regime](study, training, path, on_epoch)

        if training.regime != "fp32":
            return self.artifacts.get_or_build(*training.training, build)
        return study.train_model(on_epoch) if isinstance(study, ModelAssets) else fine_tuned(study, on_epoch)

    def bring(self, cell: CompanionCell) -> None:
        """Find or build all that :meth:`prepare` and :meth:`documents` read for `cell` and its FP32 model."""
        for training in (cell.float_training, cell.model):
            self.train(training)
        self.documents(cell.limit)
        if isinstance(self.study, ModelAssets):
            self.study.untrained()  # on its word vectors
            if cell.method == "static_ptq" and cell.quantization is not None:
                self.study.observation(cell.quantization)

    def import_libraries(self, cell: CompanionCell) -> None:
        """Import what preparing `cell` needs, and load the tokenizer: whoever measures does so before."""
        if isinstance(self.study, BertStudy):
            assert self.study.tokenizer
            names = ["transformers.models.bert.modeling_bert"]
            names += ["torchao.quantization"] if cell.asked_of == "torchao" else []
            names += ["bitsandbytes", "peft"] if cell.method == "qlora" else []
            with quiet():
                for name in names:
                    importlib.import_module(name)
        else:
            choose_kernel()  # imports what is compiled

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.study.classes if isinstance(self.study, BertStudy) else self.study.dataset.classes

    def documents(self, limit: int | None) -> EncodedCorpus:
        """The evaluated test documents: the same ones for a BERT and for an LSTM."""
        test = self.study.split("test") if isinstance(self.study, BertStudy) else self.study.test_set(CLEAN)
        return test.take(evaluated_documents(len(test), limit, self.base.seed))

    def prepare(self, cell: CompanionCell) -> Prepared:
        """The model of `cell`, ready to evaluate."""
        study = self.study
        path = self.train(cell.model)
        started = time.perf_counter()
        if isinstance(study, BertStudy):
            card = json.loads((path / "card.json").read_text())
            classifier: Classifier = self._bert(study, cell, path)
            return Prepared(classifier, card, 0.0, time.perf_counter() - started)
        card = study.card
        if cell.method == "fp32":
            return Prepared(study.model, card)
        if cell.method == "dynamic_ptq":
            model = study.model  # loading it is no part of quantizing it
            started = time.perf_counter()
            return Prepared(dynamic_lstm(model), card, 0.0, time.perf_counter() - started)
        assert cell.quantization is not None
        if cell.method == "qat":
            model = study.untrained()
            model.load_state_dict(load_file(path / "model.safetensors"))
            observation = Observation.load(path / "observation.safetensors")
            started = time.perf_counter()
            quantized = quantize(model.eval(), cell.quantization, observation, [])
            trained = json.loads((path / "card.json").read_text())
            # a card of its own: the study keeps the one it read
            card = card | {"epochs": trained["best_epoch"]}
            return Prepared(quantized, card, 0.0, time.perf_counter() - started)
        calibration = study.calibration_set(cell.quantization)
        observation, seconds = study.observation(cell.quantization)
        started = time.perf_counter()
        quantized = quantize(study.model, cell.quantization, observation, batches_by_length(calibration))
        return Prepared(quantized, card, seconds, time.perf_counter() - started, len(calibration))

    def _bert(self, study: BertStudy, cell: CompanionCell, path: Path) -> Classifier:
        if cell.method == "qlora":
            return qlora.load(study, cell.model, path)
        classifier = study.load(path)
        if cell.method == "dynamic_ptq":
            assert cell.asked_of is not None
            return dynamic_bert(classifier, cell.asked_of)
        if cell.method == "qat":
            # the kernel whose scheme it was trained under, save that a call's activations share one scale
            return dynamic_bert(classifier, "torch", per_channel=True)
        return classifier

    def float_scores(self, limit: int | None) -> tuple[Scores, float]:
        """Scores of the FP32 model, kept among the artifacts, and the seconds it took to score."""
        if isinstance(self.study, ModelAssets):
            found = self.study.float_scores(CLEAN, limit)
            return found.model, found.seconds
        key = {"model": self.base.identity(), "limit": limit}

        def build(path: Path) -> None:
            assert isinstance(self.study, BertStudy)
            corpus, classifier = self.documents(limit), float_classifier(self.study)
            started = time.perf_counter()
            scores = score(classifier, corpus)
            np.savez(
                path / "scores.npz", model=scores.log_posterior, labels=scores.labels,
                seconds=time.perf_counter() - started,
            )  # fmt: skip

        with np.load(self.artifacts.get_or_build("bert_scores", key, build) / "scores.npz") as arrays:
            return Scores(arrays["model"], arrays["labels"]), float(arrays["seconds"])
