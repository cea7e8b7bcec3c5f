"""What a row is made of runs on one thread, and nobody else's threads are taken away."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from lstmptq import trial
from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.runtime.threads import one_thread
from lstmptq.spec.cells import Cell
from lstmptq.text.noise import Noise
from lstmptq.trial import run_trial, train_model


def threads():
    """Of torch, and of NumPy's BLAS."""
    return {
        torch.get_num_threads(),
        *(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"),
    }


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch):
    """The threads that each step of a trial had."""
    found = []
    finish, fit = trial._Steps.finish, ModelAssets._train

    def spied(step):
        def run(*arguments):
            found.append(threads())
            return step(*arguments)

        return run

    monkeypatch.setattr(trial._Steps, "finish", spied(finish))
    monkeypatch.setattr(ModelAssets, "_train", spied(fit))
    return found


@pytest.mark.usefixtures("two_threads")
def test_one_thread_and_then_as_many_as_before():
    with one_thread():
        assert threads() == {1}
        with one_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}
    with pytest.raises(RuntimeError, match="stop"), one_thread():
        raise RuntimeError("stop")
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_a_long_sum_does_not_depend_on_the_threads():
    values = np.random.default_rng(0).normal(size=2_000_003)
    with one_thread():
        alone = np.dot(values, values), torch.from_numpy(values).sum().item()
    with threadpool_limits(1, user_api="blas"):
        torch.set_num_threads(1)
        expected = np.dot(values, values), torch.from_numpy(values).sum().item()
    assert alone == expected


@pytest.mark.usefixtures("two_threads")
def test_trials_run_on_one_thread_and_give_the_others_back(tiny_spec, tmp_path, seen):
    cells = [Cell(tiny_spec("discriminative"), noise=Noise("typo", level)) for level in (0.1, 0.2, 0.3)]
    running = run_trial(cells, Artifacts(tmp_path))
    for _ in range(2):
        assert next(running).row["status"] == "ok"
        assert threads() == {2}  # the caller's own, between two cells
    running.close()
    assert threads() == {2}
    assert seen == [{1}] * 3  # two cells and, within the first, the training


@pytest.mark.usefixtures("two_threads")
def test_training_runs_on_one_thread(tiny_spec, tmp_path, seen):
    during = []
    train_model(
        tiny_spec("discriminative", epochs=1),
        Artifacts(tmp_path),
        on_epoch=lambda *_: during.append(threads()),
    )
    assert seen == during == [{1}]
    assert threads() == {2}
