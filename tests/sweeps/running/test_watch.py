"""What becomes of a job whose worker or node died."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from rich.console import Console

from sweeps.running import runner
from sweeps.running.artifact_server import ArtifactAccess
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.running.session import ClusterError
from sweeps.running.watch import DEATHS_ALONE, KEPT, LOSSES, UNSTARTED, Death, Job, Watch, explain_death
from sweeps.running.workers import CellTrial
from tests.sweeps.fake_study import FakeStudy

KILLED, LOST = Death("its worker died"), Death("its node was lost", lost_node=True)


def test_what_is_left_runs_again_together_then_each_part_alone() -> None:
    """A part that kills its worker again and again fails; those behind it do not."""
    [again] = Job(tuple("abc")).after(KILLED, tuple("bc"))
    assert again == Job(tuple("bc"), deaths=1)
    alone = again.after(KILLED, tuple("bc"))
    assert [job.parts for job in alone] == [("b",), ("c",)]
    job = alone[0]
    for _ in range(DEATHS_ALONE - 1):
        [job] = job.after(KILLED, job.parts)
    assert job.after(KILLED, job.parts) == []


def test_a_part_that_is_finished_clears_the_count() -> None:
    job = Job(tuple("abcd"), deaths=1, losses=LOSSES - 1)
    assert job.after(KILLED, tuple("bcd")) == [Job(tuple("bcd"), deaths=1)]
    assert job.after(LOST, tuple("bcd")) == [Job(tuple("bcd"), losses=1)]


def test_a_lost_node_is_no_failure_of_the_part_until_it_is_always_lost() -> None:
    job = Job(("a",), deaths=DEATHS_ALONE - 1)
    for number in range(1, LOSSES):
        [job] = job.after(LOST, job.parts)
        assert (job.deaths, job.losses) == (DEATHS_ALONE - 1, number)
    assert job.after(LOST, job.parts) == []


def test_what_would_only_happen_again_is_given_up() -> None:
    assert Job(tuple("ab")).after(Death("no", final=True), tuple("ab")) == []


class Counting(Watch[str]):
    """A watch of jobs that report nothing but which part is finished."""

    def __init__(self, jobs: Sequence[Job[str]]) -> None:
        super().__init__(jobs, Phase("parts", {}, 1, 1), SweepProgress(Console(file=io.StringIO())))
        self.left = [list(job.parts) for job in jobs]
        self.failed: list[tuple[tuple[str, ...], str]] = []

    def take(self, job: int, result: dict[str, Any]) -> None:
        self.left[job].remove(result["part"])

    def left_of(self, job: int) -> tuple[str, ...]:
        return tuple(self.left[job])

    def fail(self, job: int, reason: str, log: str | None = None) -> None:
        del log
        self.failed.append((self.left_of(job), reason))


def test_little_of_a_result_is_left_for_tune_to_keep() -> None:
    """It keeps a trial's last result, and some ten statistics of each number in it, to the end of a run."""
    from ray.tune.experiment import Trial

    trial = Trial("name", config={"job": 0}, stub=True)
    result = {"part": "a", "pid": 7, "trial_id": "x", "seconds": 1.0, "done": True, "training_iteration": 3}
    Counting([Job(("a", "b"))]).on_trial_result(trial=trial, result=result)
    trial.update_last_result(result)
    assert result.keys() <= KEPT | {"experiment_tag"}
    assert trial.run_metadata.metric_analysis == {}


def test_a_node_on_which_no_worker_starts_costs_no_cell_and_ends_a_sweep_that_has_no_other() -> None:
    broken = explain_death(ray.exceptions.RuntimeEnvSetupError("no space left on device"))
    watch = Counting([Job((str(number),)) for number in range(2 * UNSTARTED)])
    for number in range(UNSTARTED - 1):
        watch.bury(number, broken)
    trial = SimpleNamespace(config={"job": UNSTARTED})  # another node works
    watch.on_trial_result(trial=trial, result={"part": str(UNSTARTED)})
    for number in range(UNSTARTED + 1, 2 * UNSTARTED):
        watch.bury(number, broken)
    assert watch.failed == []
    assert len(watch.again) == 2 * UNSTARTED - 2
    with pytest.raises(ClusterError) as problem:
        watch.bury(UNSTARTED - 1, broken)
    text = str(problem.value)
    assert text.startswith(
        "10 workers in a row could not be started, the last one because RuntimeEnvSetupError: "
    )
    assert text.endswith(
        "no space left on device: put that right, and the same command goes on where it stopped"
    )


def test_what_is_left_is_taken_up_where_tune_itself_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[Counting] = []

    def stopping(*_: Any, **__: Any) -> Any:
        watch = watches[-1]
        if len(watches) == 1:
            watch.on_trial_result(trial=SimpleNamespace(config={"job": 0}), result={"part": "a"})
            raise KeyError("a tracked actor")
        for number, job in enumerate(watch.jobs):
            for part in job.parts:
                watch.on_trial_result(trial=SimpleNamespace(config={"job": number}), result={"part": part})

    def watching(jobs: Sequence[Job[str]]) -> Counting:
        watches.append(Counting(jobs))
        return watches[-1]

    monkeypatch.setattr(runner.tune, "Tuner", lambda *_, **__: SimpleNamespace(fit=stopping))
    monkeypatch.setattr(runner.tune, "with_parameters", lambda *_, **__: None)
    monkeypatch.setattr(runner.tune, "with_resources", lambda *_, **__: None)
    options = runner.RunOptions(FakeStudy(), "artifacts", 1)
    runner._run_rounds(
        CellTrial, [Job(tuple("ab")), Job(tuple("cd"))], watching, ArtifactAccess(None), options
    )
    assert [job.parts for job in watches[1].jobs] == [("b",), ("c", "d")]
    assert watches[1].again == watches[0].failed == watches[1].failed == []


def test_tune_that_stops_before_anything_moved_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping() -> None:
        raise KeyError("a tracked actor")

    monkeypatch.setattr(runner.tune, "Tuner", lambda *_, **__: SimpleNamespace(fit=stopping))
    monkeypatch.setattr(runner.tune, "with_parameters", lambda *_, **__: None)
    monkeypatch.setattr(runner.tune, "with_resources", lambda *_, **__: None)
    with pytest.raises(KeyError):
        runner._run_rounds(
            CellTrial,
            [Job(("a",))],
            Counting,
            ArtifactAccess(None),
            runner.RunOptions(FakeStudy(), "artifacts", 1),
        )


def died(message: str, **facts: Any) -> ray.exceptions.ActorDiedError:
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    cause = ActorDiedErrorContext(actor_id=b"x" * 16, error_message=message, **facts)
    return ray.exceptions.ActorDiedError(cause)


PREEMPTED = {"node_death_info": {"reason": "AUTOSCALER_DRAIN_PREEMPTED"}}


@pytest.mark.parametrize(
    ("problem", "lost_node", "final"),
    [
        (died("The actor died because its node has died. Node Id: 1"), True, False),
        (died("drained", **PREEMPTED), True, False),
        (died("Worker unexpectedly exits with a connection error code 2."), False, False),
        (ray.exceptions.ActorUnavailableError("no answer", b"x" * 16), True, False),
        (ray.exceptions.OutOfMemoryError("too much"), False, False),
        (ray.exceptions.RuntimeEnvSetupError("no disk"), True, False),
        (ray.exceptions.ObjectStoreFullError("full"), True, False),
        (RuntimeError("boo"), False, True),
    ],
)
def test_a_lost_node_is_told_from_a_dead_worker(problem: Exception, lost_node: bool, final: bool) -> None:
    """Of what Ray says; a change of its words would show in the fault test."""
    death = explain_death(problem)
    assert (death.lost_node, death.final) == (lost_node, final), death
