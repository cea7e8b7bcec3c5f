"""Bytes on disk: integers as integers, shared tensors once."""

import numpy as np
import pytest
import torch
from torch import nn

from lstmptq.companion.stored import drop_shared, list_levels, list_tensors, measure_file, pack_levels
from lstmptq.models.batches import batches_in_order
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import observe
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=37, vocabulary=307, classes=4, longest=23)


def test_stored_bytes_are_those_of_the_parameters():
    model = nn.Linear(64, 32)
    assert 4 * (64 * 32 + 32) < measure_file(list_tensors(model)) < 4 * (64 * 32 + 32) + 400
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(model), {nn.Linear})
    kinds = {tensor.dtype for tensor in dict(list_tensors(quantized)).values()}
    assert torch.int8 in kinds
    assert 64 * 32 + 4 * 32 < measure_file(list_tensors(quantized)) < 64 * 32 + 4 * 32 + 800


def test_shared_tensors_are_stored_once_and_others_of_their_shape_are_not_lost():
    shared = nn.Linear(16, 16, bias=False)
    both = nn.ModuleDict({"a": shared, "b": shared, "c": nn.Linear(16, 16, bias=False)})
    assert len(drop_shared(list_tensors(both))) == 2


@pytest.mark.parametrize("bits", [8, 5, 4, 3])
@torch.no_grad()
def test_levels_are_packed_at_their_bits(bits):
    levels = np.random.default_rng(0).integers(0, 2**bits, 1001)
    packed = pack_levels(levels, bits)
    assert len(packed) == -(-1001 * bits // 8)
    spread = np.unpackbits(packed)[: 1001 * bits].reshape(-1, bits)
    assert (spread @ (1 << np.arange(bits)[::-1]) == levels).all()
    model = random_model("generative")
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    quantized = quantize(model, QuantizationSpec(bits, 8, "none"), observation, [])
    weights = sum(weight.original.numel() for weight in quantized.quantized_weights())
    assert weights * bits / 8 < measure_file(list_levels(quantized)) < weights * bits / 8 + 4000
