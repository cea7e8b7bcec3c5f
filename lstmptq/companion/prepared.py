"""What every method returns: a model that is ready to evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is ready to evaluate, with the costs of its preparation."""

    classifier: Any  # a lstmptq.models.base.Classifier
    card: dict[str, Any]  # of its training
    observe_seconds: float = 0.0
    quantize_seconds: float = 0.0
    calibration_documents: int | None = None


def prepare_timed(card: dict[str, Any], build: Callable[[], Any], **more: Any) -> Prepared:
    """Build a classifier and time it; `more` are further attributes of :class:`Prepared`."""
    started = time.perf_counter()
    return Prepared(build(), card, quantize_seconds=time.perf_counter() - started, **more)
