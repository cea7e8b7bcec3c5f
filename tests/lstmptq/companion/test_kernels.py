"""What is said to have multiplied is what did."""

import numpy as np
import torch

from lstmptq.companion.kernels import kernel_columns, operator_times
from lstmptq.models.batches import batches_in_order, make_batch
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import observe
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=37, vocabulary=307, classes=4, longest=23)
BATCH = make_batch(CORPUS, np.arange(37))


@torch.no_grad()
def test_simulated_quantization_is_shown_as_what_it_is():
    model = random_model("discriminative")
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    quantized = quantize(model, QuantizationSpec(8, 8, "none"), observation, [])
    assert kernel_columns(quantized, [BATCH])["integer_share"] == 0


@torch.no_grad()
def test_operators_come_the_longest_first():
    times = [ms for ms, _ in operator_times(random_model("discriminative"), [BATCH]).values()]
    assert times == sorted(times, reverse=True)
