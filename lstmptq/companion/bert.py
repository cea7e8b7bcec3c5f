"""A BERT as a classifier of this study, and the libraries behind it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lstmptq.companion.checkpoints import require_packages
from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries report about themselves, such as load reports and missing GPU extensions."""
    require_packages(("transformers",))
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("bitsandbytes", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class BertClassifier(nn.Module, Classifier):
    """A sequence classifier of transformers that offers ``class_scores``.

    Args:
        network: takes input_ids and attention_mask and returns ``.logits`` (batch, classes).
        pad: the padding id of the tokenizer.
    """

    def __init__(self, network: nn.Module, pad: int) -> None:
        super().__init__()
        self.network, self.pad = network, pad

    def logits(self, batch: Batch) -> Tensor:
        """Return (batch, classes)."""
        mask = batch.mask
        tokens = batch.tokens.masked_fill(~mask, self.pad)
        found: Tensor = self.network(input_ids=tokens, attention_mask=mask.long()).logits
        return found

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes), log p(y | x); see :class:`lstmptq.models.base.Classifier`."""
        return self.logits(batch).float().log_softmax(dim=1)
