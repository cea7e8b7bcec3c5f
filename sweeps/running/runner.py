"""Runs a plan with Ray Tune: trains the FP32 models, then runs the trials and stores every finished cell.

Tune starts processes and hands out jobs. It keeps nothing: rows are taken out of its results as they arrive,
its own files go to a temporary directory, and the Parquet says what is left to do. It restarts nothing: the
unfinished parts of a job whose worker or node died become jobs of the next round.
"""

from __future__ import annotations

import gc
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler

from lstmptq.runtime.locations import Location
from lstmptq.runtime.problems import describe_problem
from sweeps.errors import UserError
from sweeps.planning.plan import Plan
from sweeps.planning.study import Study
from sweeps.running.artifact_server import ArtifactAccess, start_artifact_server
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.running.session import ClusterError, environment
from sweeps.running.watch import CellWatch, Job, TrainingWatch, Watch, fail_cells
from sweeps.running.workers import CellTrial, ModelTraining
from sweeps.storage.artifacts import ArtifactStorage
from sweeps.store.writer import ResultStore

TRIALS_PER_RUN = 2000  # a longer plan runs in parts, because Tune's driver keeps some 5 KB per trial
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they would write three files per trial
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables even with verbose=0
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # or Tune would finish its step before Ctrl-C ends the sweep
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # only the last snapshot, because a sweep goes on from its rows
    "TUNE_WARN_THRESHOLD_S": "60",
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is run. Apart from the study, none of it changes the values of a row."""

    study: Study
    artifacts: Location  # where FP32 models and other artifacts are found or built
    workers: int  # how many trials run at the same time
    device: str = "cpu"
    kernel: str = "auto"
    apart: bool = False  # whether workers do not see `artifacts` and are sent what they need


def run_plan(plan: Plan, store: ResultStore, options: RunOptions, progress: SweepProgress) -> None:
    """Train the FP32 models of a plan and run its trials.

    Needs a connection to Ray; see :func:`sweeps.running.session.ray_session`. A cell that cannot be run is
    stored as failed with the reason, and the sweep goes on.

    Args:
        plan: the plan.
        store: where the rows go.
        options: how to run the plan.
        progress: where to show the progress.

    Raises:
        StoreError: if a row cannot be written.
        KeyboardInterrupt: if the user stops the sweep; what is stored stays.
    """
    artifacts = _open_artifacts(plan, options)
    untrained = _train_models(plan, artifacts, options, progress)
    options = replace(options, workers=options.study.cell_workers or options.workers)
    failed = len(plan.failed)
    phase = Phase("cells", plan.kinds, options.workers, plan.planned, done=plan.done, failed=failed)
    with progress.phase(phase):
        for trial in plan.trials:
            if (why := untrained.get(trial[0].model.training_id)) is not None:
                reason = f"training the FP32 model failed: {why[0]}"
                fail_cells(trial, reason, store, phase, options.study, why[1])
        jobs = [Job(trial) for trial in plan.trials if trial[0].model.training_id not in untrained]
        _run_rounds(
            CellTrial,
            jobs,
            lambda part: CellWatch(part, store, phase, progress, options.study),
            artifacts,
            options,
        )


def _open_artifacts(plan: Plan, options: RunOptions) -> ArtifactAccess:
    if not options.apart:
        return ArtifactAccess(Path(options.artifacts).resolve())
    sources = [source for spec in plan.models for source in spec.sources]
    return start_artifact_server(options.artifacts, list(dict.fromkeys(sources)))


def _train_models(
    plan: Plan, artifacts: ArtifactAccess, options: RunOptions, progress: SweepProgress
) -> dict[str, tuple[str, str | None]]:
    """Train the missing FP32 models; return training_id -> reason and log of those that failed."""
    found = plan.trained(ArtifactStorage(options.artifacts))
    models = [spec for spec in plan.models if spec not in found]
    work = Counter(spec.kind for spec in models)
    phase = Phase("FP32 models", work, options.workers, len(plan.models), done=len(found))
    untrained: dict[str, tuple[str, str | None]] = {}
    shares: dict[str, float] = {}
    with progress.phase(phase):
        _run_rounds(
            ModelTraining,
            [Job((spec,)) for spec in models],
            lambda part: TrainingWatch(part, untrained, shares, phase, progress),
            artifacts,
            options,
        )
    return untrained


def _run_rounds(
    trainable: type[Any],
    jobs: Sequence[Job[Any]],
    make_watch: Callable[[Sequence[Job[Any]]], Watch[Any]],
    artifacts: ArtifactAccess,
    options: RunOptions,
) -> None:
    """Run jobs in parts, and each part in rounds: a round runs the jobs that deaths left unfinished."""
    for start in range(0, len(jobs), TRIALS_PER_RUN):
        part, unstarted = jobs[start : start + TRIALS_PER_RUN], 0
        while part:
            watch = make_watch(part)
            watch.unstarted = unstarted
            _fit(trainable, watch, artifacts, options)
            part, unstarted = watch.again, watch.unstarted


def _fit(trainable: type[Any], watch: Watch[Any], artifacts: ArtifactAccess, options: RunOptions) -> None:
    """Let Tune run the jobs of `watch`, one trial each."""
    resources: dict[str, float] = {"cpu": 1}
    if options.device.startswith("cuda"):
        resources["gpu"] = _share_of_a_gpu(options)
    parameters = tune.with_parameters(
        trainable,
        study=options.study,
        jobs=[trainable.job_of(job.parts) for job in watch.jobs],
        artifacts=artifacts,
        device=options.device,
        kernel=options.kernel,
    )
    with _quiet_tune(), _scratch() as scratch:
        tuner = tune.Tuner(
            tune.with_resources(parameters, resources),
            param_space={"job": tune.grid_search(list(range(len(watch.jobs))))},
            tune_config=tune.TuneConfig(
                scheduler=_NewestFirst(),
                reuse_actors=True,  # or every trial starts a process and imports torch
                max_concurrent_trials=options.workers,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                # Tune's own callback is silent at verbose=0, but has to see the results before `watch` strips
                # them: otherwise it reports every trial as completed
                callbacks=[TrialProgressCallback(), watch],
                failure_config=tune.FailureConfig(max_failures=0),  # see sweeps.running.watch.Job
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except UserError:
            raise
        except Exception as problem:
            if watch.problem is not None:
                raise watch.problem from None
            if not watch.moved:
                raise
            # Tune 2.60 fails when a worker dies just as it is given another trial
            watch.bury_all(f"Ray Tune stopped: {describe_problem(problem)}")
    del tuner
    gc.collect()  # trials are reference cycles: without this, those of several parts pile up


def _share_of_a_gpu(options: RunOptions) -> float:
    gpus = ray.cluster_resources().get("GPU", 0)
    if not gpus:
        raise ClusterError(f"--device {options.device} needs a GPU and Ray sees none: use --device cpu")
    return float(min(1.0, gpus / options.workers))


@contextmanager
def _scratch() -> Iterator[str]:
    """Make a temporary directory for Tune's own files."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
    except OSError as problem:
        raise UserError(
            f"Ray Tune needs room for its own files, and {tempfile.gettempdir()} has none "
            f"({problem.strerror}): make some, or set TMPDIR to another directory"
        ) from problem
    with folder:
        yield folder.name


class _NewestFirst(FIFOScheduler):  # type: ignore[misc]
    """Gives a free worker to the newest waiting trial, for which no worker is starting yet.

    Tune's own order gives it to the trial that has waited longest, and stops the worker that was starting for
    that trial. Where trials are shorter than the start of a worker, a dead worker was never replaced.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the newest waiting trial; Tune calls this at each of its steps."""
        trials = reversed(tune_controller.get_trials())
        return next((trial for trial in trials if trial.status == Trial.PENDING), None)


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Silence Tune, because the progress says it better."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with environment(_TUNE_ENVIRONMENT):
            yield
    finally:
        logger.setLevel(level)
