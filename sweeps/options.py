"""The command line of a sweep, and the grid it describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

import tyro

from lstmptq.runtime.kernel import KERNELS
from lstmptq.spec.axes import AXES, Axis
from lstmptq.spec.grid import Grid
from lstmptq.spec.requirements import require_at_least, require_choice
from sweeps.errors import UserError
from sweeps.planning.plan import FanOut
from sweeps.planning.samples import Sample

DEVICES = ("cpu", "cuda")
REMOVED_FLAGS = {  # and what replaces each of them
    "--probe": "run a few cells with --samples N, then --dry-run judges by those",
    "--price-per-hour": "multiply the hours that --dry-run prints by the price of its workers",
}


def _values(name: str) -> Any:
    return tyro.conf.arg(metavar=f"{name} [{name} ...]")


Names = Annotated[tuple[str, ...], _values("NAME")]
Numbers = Annotated[tuple[int, ...], _values("N")]
Number = Annotated[int | None, tyro.conf.arg(metavar="N")]
Results = Annotated[str | None, tyro.conf.arg(metavar="RESULTS")]
Folder = Annotated[str | None, tyro.conf.arg(metavar="DIR|URI")]


def _flag(axis: Axis) -> tuple[str, Any, Any]:
    """Return the name, type and default of a flag; the default None stands for an optional number."""
    numbers = axis.varies and all(isinstance(value, int) for value in axis.default)
    kind: Any = (Numbers if numbers else Names) if axis.varies else type(axis.default)
    if axis.default is None:
        kind = Number
    return axis.option, Annotated[kind, tyro.conf.arg(help=axis.help)], axis.default


@dataclass(frozen=True)
class SweepConfig(make_dataclass("Flags", [_flag(axis) for axis in AXES], frozen=True)):  # type: ignore[misc]
    """Run every combination of the axes and store one row per combination as Parquet.

    Axes take several values, separated by spaces: --bits fp32 8 4 --seeds 0 1 2.
    The same command, given again, runs only what is missing.
    """

    isolate: bool = False
    """add, for each width below 8, cells with one stage at 8 bits and all others low, and the reverse"""
    samples: Number = None
    """run N random cells of the grid, FP32 included; a larger N keeps those of a smaller one; None: all"""
    sample_seed: int = 0
    """seed of the draw of --samples"""
    workers: Number = None
    """trials to run at the same time; None: one per processor"""
    device: str = "cpu"
    """device of the tensors: cpu, cuda"""
    kernel: str = "auto"
    """code that runs the LSTM and the scoring on a CPU: native (compiled by numba), eager (plain torch), or
    auto (native where numba is installed); the rows record the choice"""
    fan_out: FanOut = "trial"
    """content of one Ray Tune trial: all cells of an FP32 model and a bit width (trial), or one cell"""
    out: Folder = None
    """directory of the results, or s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; None: results/<dataset>"""
    artifacts: Folder = None
    """location of FP32 models and everything else that cells share; None: OUT/artifacts"""
    no_predictions: bool = False
    """do not store the predicted classes; `python -m analysis drops` then has no intervals"""
    dry_run: bool = False
    """print the plan and the time it would take, judged by earlier cells in OUT, and stop"""
    status: Results = None
    """print the progress of the sweep whose --out was RESULTS, from any machine, and stop"""
    retry_failed: bool = False
    """run failed cells again"""
    cluster: bool = False
    """use the Ray cluster at RAY_ADDRESS, or else the one that this machine is part of. If there is none,
    start the cluster of --cluster-config, run the sweep on its head node and fetch the results; the same
    command goes on watching if given again"""
    cluster_config: Annotated[str, tyro.conf.arg(metavar="FILE")] = "cluster.yaml"
    """file for Ray's cluster launcher that describes the cluster to start"""
    stop: bool = False
    """with --cluster: stop the sweep of this --out on the cluster, as Ctrl-C does for a local one; finished
    cells are kept"""
    down: bool = False
    """with --cluster: tear the cluster down once the results are here; alone: tear it down now"""

    def grid(self) -> Grid:
        """Return the grid that the flags describe.

        Raises:
            UserError: if a value is not allowed, or a file or package is missing.
        """
        try:
            require_at_least("workers", self.workers, 1)
            require_choice("device", self.device, DEVICES)
            require_choice("kernel", self.kernel, KERNELS)
            return Grid.parse(
                isolate=self.isolate, **{axis.option: getattr(self, axis.option) for axis in AXES}
            )
        except (ValueError, OSError, ImportError) as problem:
            raise UserError(str(problem)) from problem

    def sample(self) -> Sample | None:
        """Return the sample of the grid that ``--samples`` asks for, or None for the whole grid.

        Raises:
            UserError: if its size or seed is not allowed.
        """
        try:
            return None if self.samples is None else Sample(self.samples, self.sample_seed)
        except ValueError as problem:
            raise UserError(str(problem)) from problem


def parse(arguments: Sequence[str]) -> SweepConfig:
    """Parse a command line; ``--help`` and invalid arguments end the program.

    Raises:
        UserError: if a flag was removed; the message names its successor.
    """
    for flag in (argument.partition("=")[0] for argument in arguments):
        if flag in REMOVED_FLAGS:
            raise UserError(f"{flag} was removed: {REMOVED_FLAGS[flag]}")
    return tyro.cli(SweepConfig, prog="full_grid.py", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
