import pytest
import torch

from lstmptq.models.base import seeded
from lstmptq.quantization.correct import correct
from lstmptq.quantization.quantizer import weight_quantizer
from tests.lstmptq.quantization.oracles import brevitas_gpfq


@pytest.fixture
def layer():
    """Correlated inputs, their noisy quantized counterparts, a weight, its 4-bit quantizer."""
    with seeded(5):
        mixing = torch.randn(24, 24)
        inputs = torch.randn(900, 24) @ mixing
        quantized = inputs + 0.2 * torch.randn(900, 24)
        weight = torch.randn(50, 24)
    return weight, weight_quantizer(weight, bits=4), quantized, inputs


def output_error(weight, quantizer, quantized, inputs, corrected):
    return float((quantized @ quantizer(corrected).t() - inputs @ weight.t()).square().mean())


def test_gpfq_equals_brevitas(layer):
    weight, quantizer, quantized, inputs = layer
    ours = correct("gpfq", weight, quantizer, quantized, inputs)
    theirs = brevitas_gpfq(weight, quantizer.bits, quantized, inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert torch.equal(quantizer(ours), quantizer(theirs))


@pytest.mark.parametrize("algorithm", ["gpfq", "qronos"])
def test_correction_lowers_the_output_error(layer, algorithm):
    plain = output_error(*layer, correct("none", *layer))
    assert output_error(*layer, correct(algorithm, *layer)) < 0.8 * plain


def test_gptq_lowers_the_error_on_its_own_inputs(layer):
    weight, quantizer, quantized, _ = layer
    plain = output_error(weight, quantizer, quantized, quantized, weight)
    corrected = correct("gptq", weight, quantizer, quantized, quantized)
    assert output_error(weight, quantizer, quantized, quantized, corrected) < 0.8 * plain


@pytest.mark.parametrize("algorithm", ["gpfq", "gptq", "qronos"])
def test_dead_inputs_do_no_harm(layer, algorithm):
    """At 3 bits the LSTM's output can be zero throughout: its columns have no energy."""
    weight, quantizer, quantized, inputs = layer
    quantized = quantized.clone()
    quantized[:, :10] = 0
    corrected = correct(algorithm, weight, quantizer, quantized, inputs)
    assert torch.isfinite(corrected).all()


def test_scale_does_not_move(layer):
    weight, quantizer, quantized, inputs = layer
    for algorithm in ("gpfq", "gptq", "qronos"):
        corrected = correct(algorithm, weight, quantizer, quantized, inputs)
        assert torch.equal(weight_quantizer(weight, bits=4).scale, quantizer.scale)
        codes = quantizer.codes(corrected)
        assert codes.min() >= -8
        assert codes.max() <= 7


def test_original_weight_is_left_alone(layer):
    weight, quantizer, quantized, inputs = layer
    before = weight.clone()
    for algorithm in ("none", "gpfq", "gptq", "qronos"):
        correct(algorithm, weight, quantizer, quantized, inputs)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("algorithm", ["brevitas_gpfq", "gpfq2"])
def test_another_algorithm_is_refused(layer, algorithm):
    message = f"^algorithm must be one of none, gpfq, gptq, qronos, got '{algorithm}'$"
    with pytest.raises(ValueError, match=message):
        correct(algorithm, *layer)
