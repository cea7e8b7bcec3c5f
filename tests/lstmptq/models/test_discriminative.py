"""One vector a document."""

import pytest
import torch

from lstmptq.models.discriminative import pool

STATES = torch.arange(12.0).view(2, 3, 2)
LENGTHS = torch.tensor([2, 3])
MASK = torch.arange(3) < LENGTHS[:, None]


def test_pooling_reads_real_tokens_alone():
    assert pool(STATES, LENGTHS, MASK, "mean").tolist() == [[1, 2], [8, 9]]
    assert pool(STATES, LENGTHS, MASK, "last").tolist() == [[2, 3], [10, 11]]


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match=r"^pooling must be one of mean, last, got 'max'$"):
        pool(STATES, LENGTHS, MASK, "max")
