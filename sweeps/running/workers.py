"""The code that runs in worker processes: Tune trainables that call the study."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from ray import tune

from lstmptq.artifacts import RefusedError
from lstmptq.results import FinishedCell
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.runtime.problems import describe_problem, format_traceback
from sweeps.planning.study import PlannedCell, PlannedModel, Study
from sweeps.running.artifact_server import ArtifactAccess

# A finished cell is sent at once, because it would be lost if the worker died. Only cells that take less than
# SHORT_SECONDS are sent together, about every REPORT_SECONDS, because each message makes the worker wait.
SHORT_SECONDS = 0.25
REPORT_SECONDS = 1.0


class _Worker(tune.Trainable):  # type: ignore[misc]
    """A process that does one job after the other; Tune starts it once and sends it the index of each job."""

    def setup(
        self,
        config: dict[str, Any],
        study: Study,
        jobs: Sequence[Any],
        artifacts: ArtifactAccess,
        device: str,
        kernel: str,
    ) -> None:
        study.prepare_worker()
        if kernel != "auto":
            os.environ[KERNEL_VARIABLE] = kernel  # resolves ``auto`` from here on
        self.study, self.jobs, self.device = study, jobs, device
        self.refusal: str | None = None
        try:
            self.artifacts = artifacts.open()
        except RefusedError as problem:  # raised here, it would look like a worker that cannot start
            self.refusal = str(problem)
        self.reset_config(config)

    @staticmethod
    def job_of(parts: Sequence[Any]) -> Any:
        """Return the argument of :meth:`begin` for the parts of a :class:`sweeps.running.watch.Job`."""
        return parts

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job without starting it, since Tune may replace it before the first step."""
        self.job, self.started = self.jobs[new_config["job"]], False
        return True

    def step(self) -> dict[str, Any]:
        """Do the next part of the job and report it."""
        if self.refusal is not None:
            return {"cells": [], "seconds": 0.0, "refused": self.refusal, "done": True}
        if not self.started:
            self.started = True
            self.begin(self.job)
        return self.report()

    def begin(self, job: Any) -> None:
        """Start a job, without any state of the previous one."""
        raise NotImplementedError

    def report(self) -> dict[str, Any]:
        """Wait for the next part of the job."""
        raise NotImplementedError


class ModelTraining(_Worker):
    """Trains one FP32 model, reporting each epoch."""

    @staticmethod
    def job_of(parts: Sequence[PlannedModel]) -> PlannedModel:
        """Return the model, since a training has one part."""
        return parts[0]

    def begin(self, job: PlannedModel) -> None:
        """Train in a thread, because Tune asks for reports while the study calls back."""
        self.reports: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._train, args=(job, self.reports), daemon=True).start()

    def _train(self, spec: PlannedModel, reports: queue.SimpleQueue[dict[str, Any]]) -> None:
        def on_epoch(epoch: int, epochs: int, accuracy: float) -> None:
            reports.put({"epoch": epoch, "epochs": epochs, "accuracy": accuracy, "done": False})

        try:
            self.study.train(spec, self.artifacts, device=self.device, on_epoch=on_epoch)
        except RefusedError as problem:
            reports.put({"refused": str(problem), "done": True})
        except Exception as problem:  # reported, so that the sweep goes on without the model
            reports.put(_problem(problem))
        else:
            reports.put({"done": True, "peak_bytes": peak_bytes()})

    def report(self) -> dict[str, Any]:
        """Wait for the next epoch, or for the end."""
        return self.reports.get()


class CellTrial(_Worker):
    """Runs the cells of one trial, reporting them as they are finished."""

    def begin(self, job: Sequence[PlannedCell]) -> None:
        """Prepare the trial; the first report computes its first cell."""
        self.finished = self.study.run(job, self.artifacts, device=self.device)

    def report(self) -> dict[str, Any]:
        """Run one cell, or several short ones."""
        started = before = time.monotonic()
        cells: list[FinishedCell] = []
        report: dict[str, Any] = {"cells": cells, "done": False}
        try:
            for cell in self.finished:
                cells.append(cell)
                now = time.monotonic()
                if now - before >= SHORT_SECONDS or now - started >= REPORT_SECONDS:
                    break
                before = now
            else:
                report["done"] = True
        except RefusedError as problem:
            report |= {"refused": str(problem), "done": True}
        except Exception as problem:  # reported, so that the sweep goes on without the cells that are left
            report |= _problem(problem)
        return report | {"seconds": time.monotonic() - started, "peak_bytes": peak_bytes()}


def _problem(problem: BaseException) -> dict[str, Any]:
    """Return the last report of a job that an exception ended."""
    return {"problem": describe_problem(problem), "log": format_traceback(problem), "done": True}


def peak_bytes() -> int | None:
    """Return the peak resident memory of this process; None where Linux does not tell."""
    try:
        with open("/proc/self/status") as file:
            found = next(line for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return 1024 * int(found.split()[1])
