"""What a sweep runs: a grid of cells, and the functions that train their models and run their trials."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lstmptq.artifacts import Artifacts
from lstmptq.results import FinishedCell
from lstmptq.text.sources import Source


class PlannedModel(Hashable, Protocol):
    """A training run that cells depend on."""

    @property
    def kind(self) -> str:
        """Its value on the axis of models."""

    @property
    def training(self) -> tuple[str, dict[str, Any]]:
        """Kind and key of the artifact that the training leaves."""

    @property
    def training_id(self) -> str:
        """SHA-256 (hex) that names the training."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The corpus and the word vectors that it reads."""


class PlannedCell(Protocol):
    """A point of a grid; it becomes one row."""

    @property
    def model(self) -> PlannedModel:
        """The training that it depends on."""

    @property
    def cell_id(self) -> str:
        """SHA-256 (hex) that names the cell."""

    @property
    def bits(self) -> int | None:
        """Weight bit width; None is FP32."""


class PlannedGrid(Protocol):
    """Axes and settings, and the cells that they span."""

    @property
    def AXES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the class
        """Names of the attributes that vary."""

    @property
    def SETTINGS(self) -> tuple[str, ...]:  # noqa: N802
        """Names of the attributes that have one value for the whole sweep."""

    def cells(self) -> Iterator[PlannedCell]:
        """Yield every cell once, in a fixed order."""


@dataclass(frozen=True, slots=True)
class Study:
    """A grid, and the module that knows how to train its models and how to run its cells.

    The module is imported when one of its functions is first called, so that planning a sweep needs no torch.
    """

    grid: PlannedGrid
    module: str  # offers train_model, run_trial and failed_row, like lstmptq.trial
    kinds: tuple[str, ...]  # kinds of models; those whose cells take longest come last
    trained_last: str | None = None  # a kind of artifact whose training starts from another one
    cell_workers: int | None = None  # how many cells run at the same time; None: one per worker

    def prepare_worker(self) -> None:
        """Make a worker process compute on one thread; see :data:`sweeps.running.session.THREADS`."""
        import torch

        torch.set_num_threads(1)

    def train(
        self, model: Any, artifacts: Artifacts, *, device: str, on_epoch: Callable[[int, int, float], None]
    ) -> None:
        """Train a model of the grid, or find it among the artifacts; see `train_model` of the module."""
        self._resolve("train_model")(model, artifacts, device=device, on_epoch=on_epoch)

    def run(self, cells: Sequence[Any], artifacts: Artifacts, *, device: str) -> Iterator[FinishedCell]:
        """Run the cells of one trial, yielding each as it finishes; see `run_trial` of the module."""
        found: Iterator[FinishedCell] = self._resolve("run_trial")(cells, artifacts, device=device)
        return found

    def failed_row(self, cell: Any, reason: str) -> dict[str, Any]:
        """Return the row of a cell that could not be run."""
        row: dict[str, Any] = self._resolve("failed_row")(cell, reason)
        return row

    def _resolve(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = pkgutil.resolve_name(f"{self.module}:{name}")
        return found
