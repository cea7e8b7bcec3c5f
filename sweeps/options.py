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
    """The name, type and default of a flag; None as a default stands for a number that is not given."""
    numbers = axis.varies and all(isinstance(value, int) for value in axis.default)
    kind: Any = (Numbers if numbers else Names) if axis.varies else type(axis.default)
    if axis.default is None:
        kind = Number
    return axis.option, Annotated[kind, tyro.conf.arg(help=axis.help)], axis.default


@dataclass(frozen=True)
class SweepConfig(make_dataclass("Flags", [_flag(axis) for axis in AXES], frozen=True)):  # type: ignore[misc]
    """Run every combination of the axes and keep one row each as Parquet.

    Axes take several values, separated by spaces: --bits fp32 8 4 --seeds 0 1 2.
    The same command, given again, runs only what is missing.
    """

    isolate: bool = False
    """for each width below 8, also with one stage kept at 8 bits while all else is low, and the reverse"""
    samples: Number = None
    """run so many cells, drawn at random from the grid, FP32 ones too; a larger number contains the smaller;
    None: all"""
    sample_seed: int = 0
    """of that draw"""
    workers: Number = None
    """trials at the same time; None: one a processor"""
    device: str = "cpu"
    """where tensors are computed: cpu, cuda"""
    kernel: str = "auto"
    """what runs LSTM and scoring on a CPU: native (compiled by numba), eager (plain torch), or auto: native
    where numba is installed; the rows say which it was"""
    fan_out: FanOut = "trial"
    """what one Ray Tune trial is: all cells of an FP32 model and a bit width (trial), or one cell"""
    out: Folder = None
    """where the results go: a directory, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; None: results/<dataset>"""
    artifacts: Folder = None
    """where FP32 models and whatever cells share are kept, also a directory or a URI; None: OUT/artifacts"""
    no_predictions: bool = False
    """do not keep what each document was taken for; without, `python -m analysis drops` has no intervals"""
    dry_run: bool = False
    """print what would be run and what it would take, judged by earlier cells in OUT, and stop"""
    status: Results = None
    """print how far the sweep has come whose --out was RESULTS, from anywhere, and stop"""
    retry_failed: bool = False
    """run the cells again that failed"""
    cluster: bool = False
    """use the Ray cluster at RAY_ADDRESS, or the one this machine is part of; without one, bring up that of
    --cluster-config, run there, and bring the results back: the same command again goes on watching"""
    cluster_config: Annotated[str, tyro.conf.arg(metavar="FILE")] = "cluster.yaml"
    """what --cluster brings up: a file for Ray's cluster launcher"""
    stop: bool = False
    """with --cluster: end the sweep of this --out on the cluster, as Ctrl-C would end one here; what is
    finished stays"""
    down: bool = False
    """with --cluster: take the cluster down when the results are here; alone: take it down now"""

    def grid(self) -> Grid:
        """The grid these flags describe.

        Raises:
            UserError: if a value is not allowed, or a file or package is not there.
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
        """The part of the grid that is asked for; None: all of it.

        Raises:
            UserError: if its size or seed is not allowed.
        """
        try:
            return None if self.samples is None else Sample(self.samples, self.sample_seed)
        except ValueError as problem:
            raise UserError(str(problem)) from problem


def parse(arguments: Sequence[str]) -> SweepConfig:
    """Read a command line; ``--help`` and a line that cannot be read end the program.

    Raises:
        UserError: if a flag was removed; the text names its successor.
    """
    for flag in (argument.partition("=")[0] for argument in arguments):
        if flag in REMOVED_FLAGS:
            raise UserError(f"{flag} was removed: {REMOVED_FLAGS[flag]}")
    return tyro.cli(SweepConfig, prog="full_grid.py", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
