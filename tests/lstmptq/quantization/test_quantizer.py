import pytest
import torch

from lstmptq.quantization.quantizer import Quantizer, quantize_bias, weight_quantizer


@pytest.mark.parametrize(
    ("bits", "signed", "lowest", "highest", "scale"),
    [
        (8, True, -128, 127, 1 / 128),
        (3, True, -4, 3, 1 / 4),
        (8, False, 0, 255, 1 / 255),
        (3, False, 0, 7, 1 / 7),
    ],
)
def test_grid(bits, signed, lowest, highest, scale):
    quantizer = Quantizer.from_statistic(torch.tensor(1.0), bits, signed)
    assert (quantizer.lowest, quantizer.highest) == (lowest, highest)
    assert float(quantizer.scale) == pytest.approx(scale)


def test_rounds_half_to_even():
    quantizer = Quantizer(torch.tensor(1.0), 8)
    assert quantizer(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])).tolist() == [0, 2, 2, 0, -2]


def test_divides_by_the_scale():
    """x * (1 / s) and x / s round differently: only the division equals Brevitas."""
    scale = torch.tensor(0.1)
    values = torch.arange(-1270, 1270).float() * 0.01 * 0.5
    assert torch.equal(Quantizer(scale, 8).codes(values), (values / scale).round().clamp(-128, 127))
    assert not torch.equal((values / scale).round(), (values * (1 / scale)).round())


def test_all_zero_weight_gets_a_positive_scale():
    quantizer = weight_quantizer(torch.zeros(3, 3), bits=4)
    assert float(quantizer.scale) > 0
    assert torch.equal(quantizer(torch.zeros(3)), torch.zeros(3))


def test_clipped_counts_values_beyond_the_outermost_level():
    quantizer = Quantizer(torch.tensor(1.0), 3)
    assert quantizer.clipped(torch.tensor([3.0, 3.4, 3.6, -4.4, -4.6])).tolist() == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_does_not_change_its_input():
    values = torch.tensor([0.3, 0.7])
    Quantizer(torch.tensor(1.0), 8)(values)
    assert torch.equal(values, torch.tensor([0.3, 0.7]))


def test_bias_lies_on_the_accumulator_grid():
    scale = torch.tensor(0.5) * torch.tensor(0.25)
    assert torch.equal(
        quantize_bias(torch.tensor([0.2, -0.3]), torch.tensor(0.5), torch.tensor(0.25)),
        torch.tensor([2.0, -2.0]) * scale,
    )
