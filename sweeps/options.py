"""The command line of a sweep, and the grid it describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import tyro

from lstmptq.runtime.kernel import KERNELS
from lstmptq.spec.cells import Grid
from lstmptq.spec.requirements import HIGHEST_BITS, LOWEST_BITS, require_at_least, require_choice
from lstmptq.text.corpora import resolve_corpus
from lstmptq.text.embeddings import resolve_embedding
from lstmptq.text.noise import Noise
from sweeps.errors import UserError
from sweeps.planning.plan import FanOut
from sweeps.planning.samples import Sample

Value = TypeVar("Value")
DEVICES = ("cpu", "cuda")
REMOVED_FLAGS = {  # and what replaces each of them
    "--probe": "run a few cells with --samples N, then --dry-run judges by those",
    "--price-per-hour": "multiply the hours that --dry-run prints by the price of its workers",
}


def _values(name: str) -> object:
    return tyro.conf.arg(metavar=f"{name} [{name} ...]")


Names = Annotated[tuple[str, ...], _values("NAME")]
Numbers = Annotated[tuple[int, ...], _values("N")]
Number = Annotated[int | None, tyro.conf.arg(metavar="N")]
Results = Annotated[str | None, tyro.conf.arg(metavar="RESULTS")]
Folder = Annotated[str | None, tyro.conf.arg(metavar="DIR|URI")]


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Run every combination of the axes and keep one row each as Parquet.

    Axes take several values, separated by spaces: --bits fp32 8 4 --seeds 0 1 2.
    The same command, given again, runs only what is missing.
    """

    dataset: Names = ("bbc_news",)
    """bbc_news, ag_news, dbpedia_14, emotion, or a .parquet or .csv file with the columns text and label"""
    models: Names = ("discriminative", "generative")
    """discriminative, generative"""
    embeddings: Names = ("word2vec", "glove", "spacy")
    """word2vec, glove, spacy; another source as word2vec:PATH, glove:PATH, spacy:PIPELINE"""
    hidden: Numbers = (100,)
    """LSTM units a layer"""
    layers: Numbers = (1,)
    """LSTM layers"""
    training_documents: Names = ("all",)
    """documents to train on: a number, or all"""
    epochs: Numbers = ()
    """training epochs, the best on validation is taken; none: the model's own default; several: the weights
    after each of them, of one training run as long as the largest"""
    bits: Names = ("fp32", "8", "7", "6", "5", "4", "3")
    """weight bit widths: 2 to 8, and fp32 for the baseline"""
    internal_bits: Names = ("8",)
    """bit widths of the LSTM's own quantizers: 2 to 8, or same (as the weights)"""
    algorithms: Names = ("gpfq",)
    """weight correction after calibration: none, gpfq, gptq, qronos"""
    class_ratios: Names = ("balanced", "classes:3", "classes:2", "classes:1")
    """calibration sets: balanced, natural (the shares of the training documents), classes:K (the first K
    evenly), head:SHARE (of the first class), or every class' share, as 0.4,0.3,0.3"""
    observer: Names = ("mean",)
    """what sets an activation's scale: mean (of the percentiles of time steps and batches, as Brevitas), max,
    percentile (of all values together)"""
    io_scales: Names = ("shared",)
    """scale of the LSTM's input and its hidden state: shared (as Brevitas), separate"""
    padding: Names = ("counted",)
    """padded steps of the calibration set's batches: counted (as Brevitas), masked"""
    isolate: bool = False
    """for each width below 8, also with one stage kept at 8 bits while all else is low, and the reverse"""
    noise: Names = ("clean", "typo:0.05", "typo:0.10", "typo:0.20")
    """input noise: clean, or typo, swap, drop with a level, as typo:0.05"""
    seeds: Numbers = (0,)
    """of split, initial weights, training order and calibration draws"""
    calibration_documents: Number = None
    """documents in a calibration set; None: as many as the smallest class has, at most 512"""
    calibration_labels: str = "own"
    """labels the generative decoder is calibrated under: own (each document's), all"""
    shift_documents: int = 256
    """evaluation documents whose activations are compared"""
    redraws: int = 5
    """calibrate each balanced model so many times more, on other documents: the shift that mere luck causes,
    the margin of `python -m analysis shifts`; 0 saves its time, and no margin is known"""
    limit: Number = None
    """evaluate so many test documents; None: all"""
    embedding_dim: Number = None
    """reduce the word vectors to this width by PCA; None: their own width"""
    freeze_embedding: bool = False
    """keep the word vectors as they came instead of training them further"""
    pooling: str = "mean"
    """what the discriminative model classifies from: mean (over the tokens), last (hidden state)"""
    min_freq: Number = None
    """a word needs so many occurrences in the training split; None: 5, or 2 below 10,000 documents"""
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
            return Grid(
                datasets=_each(self.dataset, resolve_corpus),
                models=self.models,
                embeddings=_each(self.embeddings, resolve_embedding),
                seeds=self.seeds,
                hidden=self.hidden,
                layers=self.layers,
                training_documents=_each(self.training_documents, parse_documents),
                epochs=self.epochs or (None,),
                bits=_each(self.bits, parse_bits),
                internal_bits=_each(self.internal_bits, parse_internal_bits),
                algorithms=self.algorithms,
                class_ratios=self.class_ratios,
                observers=self.observer,
                io_scales=self.io_scales,
                paddings=self.padding,
                isolate=self.isolate,
                noise=_each(self.noise, Noise.parse),
                calibration_documents=self.calibration_documents,
                calibration_labels=self.calibration_labels,
                shift_documents=self.shift_documents,
                redraws=self.redraws,
                limit=self.limit,
                embedding_dim=self.embedding_dim,
                freeze_embedding=self.freeze_embedding,
                pooling=self.pooling,
                min_freq=self.min_freq,
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


def _each(values: Sequence[str], parse_value: Callable[[str], Value]) -> tuple[Value, ...]:
    return tuple(parse_value(value) for value in values)


def parse_bits(text: str) -> int | None:
    """A weight bit width, or None for ``fp32``.

    Raises:
        ValueError: if it is neither.
    """
    if text == "fp32":
        return None
    if text.isdecimal() and LOWEST_BITS <= int(text) <= HIGHEST_BITS:
        return int(text)
    raise ValueError(
        f"bits must be in {LOWEST_BITS}..{HIGHEST_BITS} or fp32, got {text}: use fp32 for the FP32 baseline"
    )


def parse_internal_bits(text: str) -> int | Literal["same"]:
    """A bit width of the LSTM's own quantizers, or ``same``.

    Raises:
        ValueError: if it is neither.
    """
    if text == "same":
        return "same"
    if text.isdecimal() and LOWEST_BITS <= int(text) <= HIGHEST_BITS:
        return int(text)
    raise ValueError(
        f"internal-bits must be in {LOWEST_BITS}..{HIGHEST_BITS} or same, got {text}: "
        "use same for the width of the weights"
    )


def parse_documents(text: str) -> int | None:
    """A number of documents, or None for ``all``.

    Raises:
        ValueError: if it is neither.
    """
    if text == "all":
        return None
    if text.isdecimal() and int(text) >= 2:
        return int(text)
    raise ValueError(f"training-documents must be a number, at least 2, or all, got {text}")
