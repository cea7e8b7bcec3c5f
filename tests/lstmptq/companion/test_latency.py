"""Latency: what is timed, what is said of it, and a process that needs nothing of its parent's."""

import os
import pickle
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.companion import latency
from lstmptq.companion.cells import CompanionCell, Timing, Training
from lstmptq.companion.latency import MeasuringError, draw, latency_columns, measure_apart
from lstmptq.companion.methods import qat_quantization
from lstmptq.companion.preparation import make_assets, prepare
from lstmptq.models.base import seeded
from tests.lstmptq.synthetic import random_corpus

CORPUS = random_corpus(documents=5, vocabulary=307, classes=4, longest=9)
QUICK = Timing(warmup=0, repeats=2)


class Clock:
    """Time that models spend, and nothing else."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Slow:
    """A classifier that takes a time of its own each pass, in ms."""

    def __init__(self, clock, *times):
        self.clock, self.times, self.seen = clock, list(times), []

    def class_scores(self, batch):
        self.seen.append(batch)
        self.clock.now += self.times.pop(0) / 1e3


def test_single_documents_come_in_their_order_and_start_again():
    drawn = draw(CORPUS, 1, 7)
    assert [batch.index.tolist() for batch in drawn] == [[0], [1], [2], [3], [4], [0], [1]]
    assert drawn[1].tokens[0].tolist() == CORPUS.document(1).tolist()


def test_many_documents_are_one_batch_whatever_the_repeats():
    [batch] = draw(CORPUS, 12, 30)
    assert batch.index.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_times_are_quartiles_and_the_ratio_is_taken_pass_by_pass(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency.time, "perf_counter", clock.perf_counter)
    ours = Slow(clock, 1000, 1, 2, 3, 4, 5)  # a pass to warm up first
    theirs = Slow(clock, 1000, 3, 6, 9, 12, 5)
    found = latency_columns(1, ours, theirs, ["a", "b", "c", "d", "e"], warmup=1)
    assert found == pytest.approx(
        {"latency_1_ms": 3, "latency_1_low_ms": 2, "latency_1_high_ms": 4, "speedup_1": 3}
    )
    assert ours.seen == theirs.seen == ["a", "a", "b", "c", "d", "e"]


def test_fp32_is_as_fast_as_itself(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency.time, "perf_counter", clock.perf_counter)
    found = latency_columns(64, Slow(clock, 3, 5), None, ["a", "b"], warmup=0)
    assert found["speedup_64"] == 1
    assert found["latency_64_ms"] == pytest.approx(4)


@pytest.fixture
def cells():
    """A function from a specification to the cells of an LSTM, one a method."""

    def make(spec):
        return {
            "fp32": CompanionCell(Training(spec), limit=9, timing=QUICK),
            "static_ptq": CompanionCell(
                Training(spec), "static_ptq", quantization=qat_quantization(4), limit=9, timing=QUICK
            ),
        }

    return make


@pytest.mark.slow
def test_a_cell_is_measured_without_the_client_of_its_artifacts(
    lstm_spec, cells, driver, tmp_path, monkeypatch
):
    """With a cluster it holds an actor, which means nothing to another process and cannot go there.

    The artifacts are named from where the sweep was started, which is not where the new process runs.
    """
    spec = lstm_spec()
    artifacts = Artifacts(tmp_path / "of the driver's")
    prepare(make_assets(spec, artifacts), cells(spec)["static_ptq"])
    client = driver(artifacts)
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(client)
    # corpus and vectors are where this machine has nothing: whatever is not brought cannot be built either
    moved = replace(
        spec,
        dataset=replace(spec.dataset, location="/nowhere/emotions.parquet"),
        embedding=replace(spec.embedding, location="/nowhere/emotions.txt"),
    )
    started_from = tmp_path / "started from"
    started_from.mkdir()
    monkeypatch.chdir(started_from)
    for method, cell in cells(moved).items():
        found = measure_apart(cell, Artifacts(latency.Path(f"node of {method}"), client))
        assert found["latency_1_ms"] > 0
        assert found["threads"] == 1
    assert {path.name for path in started_from.iterdir()} == {"node of fp32", "node of static_ptq"}
    assert client.published == []


@pytest.mark.slow
def test_a_bert_is_measured_without_the_exchange_too(bert_spec, bert_artifacts, driver, tmp_path):
    prepare(make_assets(bert_spec, bert_artifacts), CompanionCell(Training(bert_spec)))
    moved = replace(bert_spec, dataset=replace(bert_spec.dataset, location="/nowhere/emotions.parquet"))
    cell = CompanionCell(Training(moved), "dynamic_ptq", asked_of="torch", limit=9, timing=QUICK)
    found = measure_apart(cell, Artifacts(tmp_path / "node", driver(bert_artifacts)))
    assert "quantized::linear_dynamic" in found["kernel"]
    assert found["speedup_1"] > 0


def test_modules_are_found_where_this_process_found_them(lstm_spec, cells, tmp_path, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(options)
        return subprocess.CompletedProcess(command, 0, stdout=f"{latency._MARK}{{}}\n", stderr="")

    monkeypatch.setattr(latency.subprocess, "run", run)
    monkeypatch.setattr(latency.sys, "path", ["", "relative", *latency.sys.path])
    monkeypatch.chdir(tmp_path)
    assert measure_apart(cells(lstm_spec())["fp32"], Artifacts(tmp_path / "artifacts")) == {}
    entries = asked[0]["env"]["PYTHONPATH"].split(os.pathsep)
    assert entries[:2] == [str(tmp_path), str(tmp_path / "relative")]


def test_a_process_that_fails_says_why_and_keeps_where(lstm_spec, cells, tmp_path, monkeypatch):
    def run(command, **_):
        said = "Traceback (most recent call last):\n  somewhere in it\nMemoryError: no room\n"
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=said)

    monkeypatch.setattr(latency.subprocess, "run", run)
    with pytest.raises(MeasuringError, match=r"^measuring ended with code 1: MemoryError: no room") as caught:
        measure_apart(cells(lstm_spec())["fp32"], Artifacts(tmp_path / "artifacts"))
    assert "somewhere in it" in caught.value.__notes__[0]


def test_a_process_that_is_killed_says_nothing(lstm_spec, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(
        latency.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -9, "", "")
    )
    with pytest.raises(MeasuringError, match=r"^measuring ended with code -9: nothing$"):
        measure_apart(cells(lstm_spec())["fp32"], Artifacts(tmp_path / "artifacts"))


def test_the_peak_is_of_what_came_after_it_was_reset():
    latency.release_memory()  # or the tensor may fit into what earlier tests freed, and raise no peak
    if not latency.reset_peak():
        pytest.skip("this system does not reset a process' peak memory")
    before = latency.peak_bytes()
    with seeded(0):
        held = torch.randn(8_000_000)
    assert latency.peak_bytes() - before > 0.9 * held.nbytes
    del held
    latency.release_memory()
    assert latency.reset_peak()
    assert latency.peak_bytes() - latency.resident_bytes() < 8_000_000


def test_columns_are_plain_numbers():
    """They go into JSON on the way to the parent."""
    clock = Clock()
    found = latency_columns(1, Slow(clock, 1.0), Slow(clock, 1.0), ["a"], warmup=0)
    assert all(type(value) is float for value in found.values())
    assert not any(isinstance(value, np.generic) for value in found.values())
