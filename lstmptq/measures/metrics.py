"""The quality of a classifier: accuracy, macro-F1, confusion, NLL, calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ECE_BINS = 15
# Fraction bits kept of a margin's 23, as in half precision but with the range of float32. The other bits are
# noise that does not compress: without them 5,000 cells of 7,600 documents take 72 MB instead of 188.
MARGIN_BITS = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """The class scores of a set of documents.

    Attributes:
        log_posterior: (documents, classes) float64, log p(y | x).
        labels: (documents,) int64 true classes.

    Raises:
        ValueError: if a log posterior is not finite.
    """

    log_posterior: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        broken: npt.NDArray[np.bool_] = np.any(~np.isfinite(self.log_posterior), axis=1)
        if broken.any():
            raise ValueError(
                f"class scores must be finite, got others for {broken.sum()} of {len(broken)} documents, "
                f"{self.log_posterior[broken.argmax()].tolist()} for document {broken.argmax()}: the "
                "model's training diverged, or its word vectors are too large"
            )

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(documents,) the most probable class; the first one in a tie."""
        return np.asarray(self.log_posterior.argmax(axis=1), dtype=np.int64)


def confusion_matrix(
    labels: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int
) -> npt.NDArray[np.int64]:
    """Count documents by true class and prediction.

    Args:
        labels: (documents,) true classes.
        predicted: (documents,) predicted classes.
        classes: number of classes.

    Returns:
        (classes, classes) counts: true classes in rows, predictions in columns.
    """
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """Average 2 TP / (2 TP + FP + FN) over the classes; 0 for a class that never occurs at all."""
    hits = np.diag(confusion)
    touched = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(np.divide(2.0 * hits, touched, out=np.zeros(len(hits)), where=touched > 0)))


def expected_calibration_error(scores: Scores, bins: int = ECE_BINS) -> float:
    """Average the gap between confidence and accuracy over bins (Guo et al. 2017, equation 3).

    Args:
        scores: scores of at least one document.
        bins: number of equally wide bins, open at the upper end except for the last.

    Returns:
        0..1, with bins weighted by their number of documents.
    """
    confidence = np.exp(scores.log_posterior.max(axis=1))
    right = (scores.predicted == scores.labels).astype(np.float64)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def metric_columns(scores: Scores) -> dict[str, Any]:
    """Compute the columns of a `cells` row that describe the quality of the classifier."""
    classes = scores.log_posterior.shape[1]
    predicted = scores.predicted
    confusion = confusion_matrix(scores.labels, predicted, classes)
    true_class = scores.log_posterior[np.arange(len(scores.labels)), scores.labels]
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": macro_f1(confusion),
        "nll": float(-true_class.mean()),
        "ece": expected_calibration_error(scores),
        "confusion": confusion.tolist(),
        "documents": len(scores.labels),
    }


def prediction_columns(scores: Scores) -> dict[str, Any]:
    """Compute the columns of a `predictions` row: each document's label, prediction and margin."""
    second, first = np.partition(scores.log_posterior, -2, axis=1)[:, -2:].T
    return {
        "labels": scores.labels.tolist(),
        "predicted": scores.predicted.tolist(),
        "margin": round_margins(first - second).tolist(),
    }


def round_margins(margins: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round margins to `MARGIN_BITS` fraction bits."""
    fraction, exponent = np.frexp(margins)
    steps = 2.0 ** (MARGIN_BITS + 1)  # frexp's fractions begin at 1/2
    found: npt.NDArray[np.float32] = np.ldexp(np.rint(fraction * steps) / steps, exponent).astype(np.float32)
    return found
