"""Runs a plan with Ray Tune: FP32 models first, then the trials, every finished cell into the store.

Tune starts processes, hands out the jobs and restarts what dies. It keeps nothing: rows are taken out of
its results as they arrive, its own files go to a temporary directory, and what is left to do is always read
from the Parquet.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from lstmptq.artifacts import Artifacts
from sweeps.cluster import ClusterError
from sweeps.plan import Plan
from sweeps.progress import Stage, SweepProgress
from sweeps.store import ResultStore
from sweeps.watch import CellWatch, TrainingWatch, Watch, fail_cells
from sweeps.workers import CellTrial, ModelTraining, Work

TRIALS_A_RUN = 500  # Tune's driver keeps something of every trial: a long plan runs in parts
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # or every trial writes three files of results
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables also at verbose=0
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep at once; Tune would finish its step first
    "TUNE_WARN_THRESHOLD_S": "60",
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is run; none of it changes a row."""

    artifacts: Path  # where FP32 models and all that cells share are found or built
    workers: int  # trials that run at the same time
    device: str = "cpu"
    kernel: str = "auto"
    work: Work = Work()  # noqa: RUF009 - frozen
    cell_workers: int | None = None  # of the cells' stage; None: as many


def run_plan(plan: Plan, store: ResultStore, options: RunOptions, progress: SweepProgress) -> None:
    """Train the FP32 models of a plan and run its trials.

    Needs a connection to Ray (:func:`sweeps.cluster.ray_session`). A cell that cannot be run is stored as
    failed, with its reason, and the others go on.

    Args:
        plan: what to run.
        store: where the rows go.
        options: how to run it.
        progress: where to show it.

    Raises:
        StoreError: if a row cannot be written.
        KeyboardInterrupt: if the user stops the sweep; what is stored stays.
    """
    untrained = _train_models(plan, options, progress)
    options = replace(options, workers=options.cell_workers or options.workers)
    failed = len(plan.failed)
    stage = Stage("cells", plan.kinds, options.workers, plan.planned, done=plan.done, failed=failed)
    with progress.stage(stage):
        for trial in plan.trials:
            if (reason := untrained.get(trial[0].model.training_id)) is not None:
                why = f"training the FP32 model failed: {reason}"
                fail_cells(trial, why, store, stage, options.work.failed_row)
        trials = [trial for trial in plan.trials if trial[0].model.training_id not in untrained]
        for start in range(0, len(trials), TRIALS_A_RUN):
            part = trials[start : start + TRIALS_A_RUN]
            _fit(CellTrial, part, CellWatch(part, store, stage, progress, options.work.failed_row), options)


def _train_models(plan: Plan, options: RunOptions, progress: SweepProgress) -> dict[str, str]:
    """Train the FP32 models that are missing; returns the training_id of those that failed, and why."""
    found = plan.trained(Artifacts(options.artifacts))
    models = [spec for spec in plan.models if spec not in found]
    work = Counter(spec.model for spec in models)
    stage = Stage("FP32 models", work, options.workers, len(plan.models), done=len(found))
    untrained: dict[str, str] = {}
    with progress.stage(stage):
        for start in range(0, len(models), TRIALS_A_RUN):
            part = models[start : start + TRIALS_A_RUN]
            _fit(ModelTraining, part, TrainingWatch(part, untrained, stage, progress), options)
    return untrained


def _fit(trainable: type[Any], jobs: Sequence[Any], watch: Watch, options: RunOptions) -> None:
    """Let Tune run `jobs`, one trial each."""
    if not jobs:
        return
    resources: dict[str, float] = {"cpu": 1}
    if options.device.startswith("cuda"):
        resources["gpu"] = _share_of_a_gpu(options)
    parameters = tune.with_parameters(
        trainable,
        work=options.work,
        jobs=jobs,
        artifacts=options.artifacts.resolve(),
        device=options.device,
        kernel=options.kernel,
    )
    with _quiet_tune(), tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(parameters, resources),
            param_space={"job": tune.grid_search(list(range(len(jobs))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,  # or every trial starts a process and imports torch
                max_concurrent_trials=options.workers,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[watch],
                failure_config=tune.FailureConfig(max_failures=1),  # a worker that died, not an exception
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except tune.TuneError:
            if watch.problem is None:
                raise
            raise watch.problem from None


def _share_of_a_gpu(options: RunOptions) -> float:
    gpus = ray.cluster_resources().get("GPU", 0)
    if not gpus:
        raise ClusterError(f"--device {options.device} needs a GPU and Ray sees none: use --device cpu")
    return float(min(1.0, gpus / options.workers))


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune's own reports say nothing that the progress does not say better."""
    logger = logging.getLogger("ray.tune")
    level, before = logger.level, {name: os.environ.get(name) for name in _TUNE_ENVIRONMENT}
    os.environ.update(_TUNE_ENVIRONMENT)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
