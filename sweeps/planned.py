"""What a study must offer to be swept: models, cells and a grid of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lstmptq.text.sources import Source


class PlannedModel(Protocol):
    """A training that cells need: the main study's ``ModelSpec``, or another study's."""

    @property
    def model(self) -> str:
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
