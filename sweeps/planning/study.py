"""What a study must offer to be swept: models, cells, a grid of them, and the functions that do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lstmptq.artifacts import Artifacts
from lstmptq.text.sources import Source

if TYPE_CHECKING:
    from lstmptq.results import FinishedCell


class PlannedModel(Protocol):
    """A training that cells need: the main study's ``ModelSpec``, or another study's."""

    @property
    def kind(self) -> str:
        """Its name on the axis, one of MODELS."""

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that it leaves."""

    @property
    def training_id(self) -> str:
        """Names the training."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it is made from: corpus, word vectors."""

    def __hash__(self) -> int:
        """It is a key of dictionaries."""


class PlannedCell(Protocol):
    """A point of a grid that becomes a row: the main study's ``Cell``, or another study's."""

    @property
    def model(self) -> Any:  # a PlannedModel: a Protocol's member types are invariant
        """The training it needs."""

    @property
    def cell_id(self) -> str:
        """Its name."""

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""


class PlannedGrid(Protocol):
    """Axes and settings, and the cells they come to."""

    @property
    def AXES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the class
        """Names of its attributes that vary."""

    @property
    def SETTINGS(self) -> tuple[str, ...]:  # noqa: N802
        """Names of its attributes that all cells share."""

    def cells(self) -> Iterator[Any]:
        """Every cell (a PlannedCell) once, in a fixed order."""


def _train(spec: Any, artifacts: Artifacts, **options: Any) -> object:
    # imported here, so that the driver, which only names these functions, does without torch
    from lstmptq.trial import train_model

    return train_model(spec, artifacts, **options)


def _run(cells: Sequence[Any], artifacts: Artifacts, **options: Any) -> Iterator[FinishedCell]:
    from lstmptq.trial import run_trial

    return run_trial(cells, artifacts, **options)


def _failed_row(cell: Any, reason: str) -> dict[str, Any]:
    from lstmptq.trial import failed_row

    return failed_row(cell, reason)


@dataclass(frozen=True, slots=True)
class Work:
    """The functions that do the work: the study's ``train_model`` and ``run_trial``, or another study's."""

    train: Callable[..., object] = _train
    run: Callable[..., Iterator[FinishedCell]] = _run
    failed_row: Callable[[Any, str], dict[str, Any]] = _failed_row  # of a cell that could not be run
