"""The companion study as a command: ``python sweeps/emotion.py --help``."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from lstmptq.cells import require_at_least
from lstmptq.companion.cells import PACKAGED_RECIPE, BertRecipe, CompanionGrid, LoraRecipe, QatRecipe, Timing
from lstmptq.companion.checkpoints import PACKAGED, require_packages, resolve_checkpoint
from lstmptq.places import Place, below, is_uri
from lstmptq.text.corpora import resolve_corpus
from lstmptq.text.embeddings import resolve_embedding
from sweeps import record, store
from sweeps.files import UserError
from sweeps.full_grid import INTERRUPTED
from sweeps.heartbeat import Heartbeat
from sweeps.logs import paths_of_logs
from sweeps.options import Folder, Names, Number, Numbers, parse_documents
from sweeps.plan import FanOut, Plan, describe, make_plan, print_failed
from sweeps.shelves import Shelf
from sweeps.storage import open_storage, user_place
from sweeps.tokens import use_token

if TYPE_CHECKING:
    from lstmptq.artifacts import Artifacts
    from lstmptq.trial import FinishedCell
    from sweeps.workers import Work

Rate = Annotated[float | None, tyro.conf.arg(metavar="X")]


@dataclass(frozen=True, slots=True)
class EmotionConfig:
    """Compress a BERT emotion classifier in four ways, the LSTM classifiers beside it, and keep one row each.

    Axes take several values, separated by spaces: --methods fp32 qat --seeds 0 1 2. Combinations that make no
    sense are listed and left out. The same command, given again, runs only what is missing.
    """

    dataset: Names = ("emotion",)
    """emotion (from the hub), another named corpus, or a .parquet or .csv file with columns text and label"""
    bert: Annotated[str | None, tyro.conf.arg(metavar="NAME_OR_PATH")] = None
    """checkpoint to fine-tune: a name on the hub, a directory, or all-MiniLM-L6-v2 of the installed package;
    None: google-bert/bert-base-uncased from the local cache or the hub, without both the packaged one"""
    models: Names = ("bert", "discriminative", "generative")
    """bert, discriminative, generative"""
    methods: Names = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
    """fp32, dynamic_ptq, static_ptq (LSTMs), qat, qlora (BERT)"""
    libraries: Names = ("torch", "torchao")
    """who does a BERT's dynamic_ptq: torch (quantize_dynamic), torchao"""
    bits: Numbers = (8, 4)
    """weight bit widths of an LSTM's static_ptq and qat; dynamic_ptq and a BERT's qat have 8, qlora 4"""
    seeds: Numbers = (0,)
    """of initial weights, training order and calibration draws"""
    embedding: str = "glove"
    """word vectors of the LSTMs: word2vec, glove, spacy, or with a file as glove:PATH"""
    training_documents: str = "all"
    """documents to train on: a number, or all"""
    limit: Number = None
    """evaluate so many test documents; None: all"""
    max_tokens: int = 64
    """word pieces of a document that a BERT reads"""
    epochs: Number = None
    """epochs of fine-tuning a BERT; None: 3"""
    learning_rate: Rate = None
    """of fine-tuning a BERT; None: 2e-5, and 2e-4 for the packaged one, a small encoder of sentences"""
    qat_epochs: int = 1
    """epochs of training on under fake quantization"""
    qat_learning_rate: float = 2e-5
    """of a BERT's"""
    qlora_epochs: int = 3
    """epochs of training adapters"""
    qlora_learning_rate: float = 1e-3
    """of training adapters"""
    batch_size: int = 32
    """documents a step of training a BERT"""
    precision: str = "float32"
    """of a BERT's products in training: float32, bfloat16 (faster where the processor has it); weights and
    evaluation are float32"""
    lstm_epochs: Number = None
    """epochs of training an LSTM; None: the model's own default"""
    threads: int = 1
    """threads that latency is measured with"""
    warmup: int = 5
    """passes before that do not count"""
    repeats: int = 100
    """passes of one document that do; of 64 documents a fifth of it"""
    workers: Number = None
    """models that are trained at the same time; None: one a processor. Cells are measured one at a time"""
    again: bool = False
    """run finished cells again, for instance to time them at a quieter moment; trained models are kept"""
    out: Folder = None
    """where the results go; None: results/emotion_study"""
    artifacts: Folder = None
    """where trained models are kept; None: OUT/artifacts"""
    fan_out: FanOut = "trial"
    """what one Ray Tune trial is: all cells of a training (trial), or one cell"""
    dry_run: bool = False
    """print what would be run, and stop"""
    retry_failed: bool = False
    """run the cells again that failed"""
    cluster: bool = False
    """use the Ray cluster at RAY_ADDRESS, or else the one this machine is part of"""

    def grid(self) -> tuple[CompanionGrid, str | None]:
        """The grid these flags describe, and why its BERT is the one it is.

        Raises:
            UserError: if a value is not allowed, or a file, checkpoint or package is not there.
        """
        try:
            require_at_least("workers", self.workers, 1)
            checkpoint, why = resolve_checkpoint(self.bert) if "bert" in self.models else (None, None)
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
                models=self.models,
                methods=self.methods,
                bits=self.bits,
                seeds=self.seeds,
                libraries=self.libraries,
                training_documents=parse_documents(self.training_documents),
                limit=self.limit,
                max_tokens=self.max_tokens,
                recipe=recipe,
                qat=QatRecipe(self.qat_epochs, self.qat_learning_rate, self.batch_size, self.precision),
                qlora=LoraRecipe(
                    self.qlora_epochs, self.qlora_learning_rate, self.batch_size, self.precision
                ),
                lstm_epochs=self.lstm_epochs,
                lstm_qat_epochs=self.qat_epochs,
                timing=Timing(self.threads, self.warmup, self.repeats),
            ), why
        except (ValueError, OSError, ImportError) as problem:
            raise UserError(str(problem)) from problem


def main(arguments: Sequence[str] | None = None, work: Work | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program; None takes ``sys.argv``.
        work: the functions that do the work; None takes the companion study's.

    Returns:
        The exit code: 0, or 1 if a cell failed, 2 if the user has to change something, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    config = tyro.cli(EmotionConfig, prog="emotion.py", args=given, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        return sweep(config, given, work)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


def sweep(config: EmotionConfig, given: Sequence[str], work: Work | None = None) -> int:
    """Plan and run what `config` asks for; see :func:`main` for the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    grid, why = config.grid()
    out = user_place(config.out or "results/emotion_study")
    artifacts = user_place(config.artifacts or str(below(out, "artifacts")))
    if why:
        console.print(why, markup=False)
    for (model, method), reason in grid.left_out.items():
        console.print(f"does not apply, left out: {model} x {method}: {reason}", markup=False)
    if config.dry_run:
        storage = open_storage(out)
        found = record.read_record(storage)
        if found is not None:
            record.check_record(storage, found, grid)
        plan = _plan(config, grid, store.read_index(out))
        describe(plan, console, len(plan.trained(Shelf(artifacts))), 1, logs=paths_of_logs(storage))
        return 0
    command = shlex.join(["python", "sweeps/emotion.py", *given])
    with store.open_store(out, grid, command) as results:
        if config.again:
            results.discard([cell.cell_id for cell in grid.cells()])
        plan = _plan(config, grid, results.index)
        results.discard(plan.retried)
        state = f"{plan.planned} cells: {plan.done} done, {len(plan.failed)} failed, {plan.left} left"
        console.print(f"{state}; results in {out}", markup=False)
        others = (len(results.finished()) - plan.done, len(results.failed()) - len(plan.failed))
        try:
            with Heartbeat(results.out, plan, others, command) as heartbeat:
                _run(plan, results, config, artifacts, console, work, heartbeat)
        except KeyboardInterrupt:
            results.publish()
            go_on = shlex.join(
                ["python", "sweeps/emotion.py", *(word for word in given if word != "--again")]
            )
            console.print(
                f"\nstopped; {len(results.finished())} finished cells are stored. To go on: {go_on}"
            )
            return INTERRUPTED
        planned = {cell.cell_id for cell in grid.cells()}
        failed = {cell_id: text for cell_id, text in results.failed().items() if cell_id in planned}
    from analysis.companion import print_companion

    print_companion(out)
    print_failed(failed, console, paths_of_logs(open_storage(out)))
    if failed:
        console.print("the same command with --retry-failed runs them again")
    console.print(f"Parquet: {out}/cells/*.parquet (a row a cell); table: python -m analysis companion {out}")
    return 1 if failed else 0


def _plan(config: EmotionConfig, grid: CompanionGrid, index: dict[str, store.StoredCell]) -> Plan:
    plan = make_plan(
        grid, store.finished_cells(index), store.failed_cells(index), config.retry_failed, config.fan_out
    )
    # what is trained on starts from an FP32 model: put last, it seldom waits for one
    models: list[Any] = sorted(plan.models, key=lambda model: model.regime == "qat")
    return replace(plan, models=tuple(models))


def _run(
    plan: Plan,
    results: store.ResultStore,
    config: EmotionConfig,
    artifacts: Place,
    console: Console,
    work: Work | None,
    heartbeat: Heartbeat,
) -> None:
    if not plan.trials:
        return
    console.print("starting Ray")
    if config.cluster:
        use_token()
    with warnings.catch_warnings():  # of libraries, about themselves
        warnings.simplefilter("ignore")
        # imported here: they take seconds, and --help and --dry-run do without
        from sweeps.cluster import ray_session
        from sweeps.progress import SweepProgress
        from sweeps.runner import RunOptions, run_plan

        workers = config.workers or len(os.sched_getaffinity(0))
        with ray_session(workers, config.cluster) as slots:
            options = RunOptions(
                artifacts, min(slots, config.workers or slots), work=work or companion_work(),
                apart=config.cluster or is_uri(artifacts), cell_workers=1,
            )  # fmt: skip
            run_plan(plan, results, options, SweepProgress(console, heartbeat))


def companion_work() -> Work:
    """The companion study's functions; each imports what it needs in the worker."""
    from sweeps.workers import Work

    return Work(_train, _run_trial, _failed_row)


def _train(training: Any, artifacts: Artifacts, **options: Any) -> object:
    from lstmptq.companion.trial import train_model

    return train_model(training, artifacts, **options)


def _run_trial(cells: Sequence[Any], artifacts: Artifacts, **options: Any) -> Iterator[FinishedCell]:
    from lstmptq.companion.trial import run_trial

    return run_trial(cells, artifacts, **options)


def _failed_row(cell: Any, reason: str) -> dict[str, Any]:
    from lstmptq.companion.trial import failed_row

    return failed_row(cell, reason)


if __name__ == "__main__":
    sys.exit(main())
