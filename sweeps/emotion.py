"""The companion study as a command: ``python sweeps/emotion.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from lstmptq.companion.cells import CompanionGrid, Timing
from lstmptq.companion.checkpoints import PACKAGED, require_packages, resolve_checkpoint
from lstmptq.companion.methods import MODELS
from lstmptq.companion.recipes import PACKAGED_RECIPE, BertRecipe, LoraRecipe, QatRecipe
from lstmptq.runtime.locations import join_location
from lstmptq.spec.parsing import parse_documents
from lstmptq.spec.requirements import require_at_least
from lstmptq.text.corpora import resolve_corpus
from lstmptq.text.embeddings import resolve_embedding
from sweeps.commands import Sweep, exit_code
from sweeps.errors import UserError
from sweeps.options import Folder, Names, Number, Numbers
from sweeps.planning.plan import FanOut, print_failed, print_plan
from sweeps.planning.study import Study
from sweeps.storage.artifacts import ArtifactStorage
from sweeps.storage.opening import open_storage, user_location
from sweeps.store.index import finished_cells, read_index
from sweeps.store.logs import paths_of_logs

SCRIPT = "emotion.py"
SAME_NAMES = ("models", "methods", "bits", "seeds", "libraries", "limit", "max_tokens", "lstm_epochs")
Rate = Annotated[float | None, tyro.conf.arg(metavar="X")]


@dataclass(frozen=True, slots=True)
class EmotionConfig:
    """Compress a BERT emotion classifier and the LSTM classifiers beside it, and keep one row per cell.

    Axes take several values, separated by spaces: --methods fp32 qat --seeds 0 1 2. Combinations that do
    not apply are listed and left out. The same command, given again, runs only the missing cells.
    """

    dataset: Names = ("emotion",)
    """emotion (from the hub), another named corpus, or a .parquet or .csv file with columns text and label"""
    bert: Annotated[str | None, tyro.conf.arg(metavar="NAME_OR_PATH")] = None
    """checkpoint to fine-tune: a name on the hub, a directory, or all-MiniLM-L6-v2 of the installed package;
    None: google-bert/bert-base-uncased from the local cache or the hub, or else the packaged one"""
    models: Names = ("bert", "discriminative", "generative")
    """bert, discriminative, generative"""
    methods: Names = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
    """fp32, dynamic_ptq, static_ptq (LSTMs), qat, qlora (BERT)"""
    libraries: Names = ("torch", "torchao")
    """packages that run a BERT's dynamic_ptq: torch (quantize_dynamic), torchao"""
    bits: Numbers = (8, 4)
    """weight bit widths of an LSTM's static_ptq and qat; dynamic_ptq and a BERT's qat have 8, qlora 4"""
    seeds: Numbers = (0,)
    """seeds of initial weights, training order and calibration draws"""
    embedding: str = "glove"
    """word vectors of the LSTMs: word2vec, glove, spacy, or with a file as glove:PATH"""
    training_documents: str = "all"
    """documents to train on: a number, or all"""
    limit: Number = None
    """number of test documents to evaluate; None: all"""
    max_tokens: int = 64
    """word pieces that a BERT reads of a document"""
    epochs: Number = None
    """epochs of fine-tuning a BERT; None: 3"""
    learning_rate: Rate = None
    """learning rate of fine-tuning a BERT; None: 2e-5, or 2e-4 for the packaged encoder of sentences"""
    qat_epochs: int = 1
    """epochs of quantization-aware training"""
    qat_learning_rate: float = 2e-5
    """learning rate of a BERT's quantization-aware training"""
    qlora_epochs: int = 3
    """epochs of training adapters"""
    qlora_learning_rate: float = 1e-3
    """learning rate of training adapters"""
    batch_size: int = 32
    """documents per training step of a BERT"""
    precision: str = "float32"
    """precision of a BERT's products in training: float32, or bfloat16, which is faster where the processor
    has it; weights and evaluation are float32"""
    lstm_epochs: Number = None
    """epochs of training an LSTM; None: the model's own default"""
    threads: int = 1
    """threads to measure latency with"""
    warmup: int = 5
    """passes before the measurement that are not counted"""
    repeats: int = 100
    """measured passes of one document; a fifth as many of 64 documents"""
    workers: Number = None
    """models to train at the same time; None: one per processor. Cells are measured one at a time"""
    again: bool = False
    """run finished cells again, for instance to time them on a quieter machine; trained models are kept"""
    out: Folder = None
    """location of the results; None: results/emotion_study"""
    artifacts: Folder = None
    """location of trained models; None: OUT/artifacts"""
    fan_out: FanOut = "trial"
    """content of one Ray Tune trial: all cells of a training (trial), or one cell (cell)"""
    dry_run: bool = False
    """print the plan and stop"""
    retry_failed: bool = False
    """run failed cells again"""
    cluster: bool = False
    """use the Ray cluster at RAY_ADDRESS, or else the one that this machine is part of"""

    def grid(self) -> tuple[CompanionGrid, str | None]:
        """Make the grid that these flags describe, and a sentence on where its BERT comes from.

        Raises:
            UserError: if a value is not allowed, or a file, checkpoint or package is missing.
        """
        try:
            require_at_least("workers", self.workers, 1)
            checkpoint, why = None, None
            if "bert" in self.models:
                checkpoint, why = resolve_checkpoint(self.bert, self.max_tokens)
            if checkpoint and {"qat", "dynamic_ptq", "qlora"} & set(self.methods):
                require_packages()
            default = PACKAGED_RECIPE if checkpoint and checkpoint.name == PACKAGED else BertRecipe()
            recipe = BertRecipe(
                default.epochs if self.epochs is None else self.epochs,
                default.learning_rate if self.learning_rate is None else self.learning_rate,
                self.batch_size, self.precision,
            )  # fmt: skip
            return CompanionGrid(
                datasets=tuple(resolve_corpus(name) for name in self.dataset),
                embedding=resolve_embedding(self.embedding),
                checkpoint=checkpoint,
                training_documents=parse_documents(self.training_documents),
                recipe=recipe,
                qat=QatRecipe(self.qat_epochs, self.qat_learning_rate, self.batch_size, self.precision),
                qlora=LoraRecipe(
                    self.qlora_epochs, self.qlora_learning_rate, self.batch_size, self.precision
                ),
                lstm_qat_epochs=self.qat_epochs,
                timing=Timing(self.threads, self.warmup, self.repeats),
                **{name: getattr(self, name) for name in SAME_NAMES},
            ), why
        except (ValueError, OSError, ImportError) as problem:
            raise UserError(str(problem)) from problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program; None takes ``sys.argv``.

    Returns:
        The exit code: 0, or 1 if a cell failed, 2 if the user has to change something, 130 after Ctrl-C.
    """
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    config = tyro.cli(EmotionConfig, prog=SCRIPT, args=given, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_code(lambda: _run(config, given))


def _run(config: EmotionConfig, given: tuple[str, ...]) -> int:
    console = Console(soft_wrap=True, highlight=False)
    grid, why = config.grid()
    if why:
        console.print(why, markup=False)
    for (model, method), reason in grid.left_out.items():
        console.print(f"does not apply, left out: {model} x {method}: {reason}", markup=False)
    sweep = _make_sweep(config, grid, given)
    logs = open_storage(sweep.out)
    if config.dry_run:
        plan = sweep.look()
        print_plan(
            plan, console, len(plan.trained(ArtifactStorage(sweep.artifacts))), 1, logs=paths_of_logs(logs)
        )
        return 0
    failed = sweep.run(console)
    if finished_cells(read_index(logs)):
        from analysis.questions.companion import print_companion

        print_companion(sweep.out)
    print_failed(failed, console, paths_of_logs(logs))
    if failed:
        console.print("the same command with --retry-failed runs them again")
    out = sweep.out
    console.print(
        f"Parquet: {out}/cells/*.parquet (one row per cell); table: python -m analysis companion {out}"
    )
    return 1 if failed else 0


def _make_sweep(config: EmotionConfig, grid: CompanionGrid, given: tuple[str, ...]) -> Sweep:
    out = user_location(config.out or "results/emotion_study")
    return Sweep(
        script=SCRIPT,
        given=given,
        study=companion_study(grid),
        out=out,
        artifacts=user_location(config.artifacts or str(join_location(out, "artifacts"))),
        fan_out=config.fan_out,
        retry_failed=config.retry_failed,
        again=config.again,
        cluster=config.cluster,
        workers=config.workers,
    )


def companion_study(grid: CompanionGrid) -> Study:
    """Return the study of this command: ways to compress a BERT, and the LSTM classifiers beside it."""
    # two cells that run at the same time could not be timed
    return Study(grid, "lstmptq.companion.trial", MODELS, trained_last="qat", cell_workers=1)


if __name__ == "__main__":
    sys.exit(main())
