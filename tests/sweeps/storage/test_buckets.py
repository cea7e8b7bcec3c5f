"""Results in an object store: moto's S3 server on loopback, which refuses or delays writes on demand."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import polars as pl
import pytest

import analysis
from analysis.frames.reading import ResultsError, read_record
from lstmptq.results import FinishedCell
from sweeps.errors import StoreError
from sweeps.processes import this_process
from sweeps.storage import buckets
from sweeps.storage.buckets import Bucket
from sweeps.storage.opening import open_storage
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import GRID, ok_row, prediction_row, tensor_rows
from tests.sweeps.s3 import Server

CELLS = list(GRID.cells())
OUT = "s3://results/a/sweep"


def rows(table: str = "cells") -> pl.DataFrame:
    return pl.scan_parquet(f"{OUT}/{table}/*.parquet").collect()


@pytest.mark.slow
def test_a_refused_write_is_explained_and_loses_nothing(server: Server) -> None:
    with open_store(OUT, GRID, "") as store:
        store.extend([FinishedCell(ok_row(CELLS[0]), tensor_rows(CELLS[0]))])
        store.publish()
        server.refused = -1
        with pytest.raises(StoreError) as problem:
            store.extend([FinishedCell(ok_row(CELLS[1]), tensor_rows(CELLS[1]))])
        server.refused = 0
    assert str(problem.value) == (
        f"cannot write results to {OUT}: access is denied: check the credentials and the bucket's policy. "
        "What is written stays: put that right, and the same command goes on where it stopped"
    )
    assert rows()["cell_id"].to_list() == [CELLS[0].cell_id]
    with open_store(OUT, GRID, "") as store:
        assert store.finished() == {CELLS[0].cell_id}


def test_a_fault_that_passes_is_waited_for(server: Server) -> None:
    server.refused, server.error = 1, "QuotaExceeded"
    Bucket(OUT).write("file", b"content")
    assert server.refused == 0
    assert Bucket(OUT).read("file") == b"content"


def test_a_slow_write_arrives_whole(server: Server) -> None:
    storage = Bucket(OUT)
    server.delay = 0.3
    started = time.monotonic()
    writing = threading.Thread(target=storage.write, args=("file", b"x" * 100_000))
    writing.start()
    time.sleep(0.1)
    assert not storage.exists("file")
    writing.join()
    assert time.monotonic() - started >= 0.3
    assert len(storage.read("file")) == 100_000


@pytest.mark.usefixtures("server")
def test_two_drivers_do_not_write_to_one_bucket() -> None:
    with open_store(OUT, GRID, ""):
        with pytest.raises(StoreError, match="try again in") as problem, open_store(OUT, GRID, ""):
            pass
        assert str(problem.value).startswith(
            f"{OUT} is being written by another sweep: wait until it has ended, or choose another --out"
        )


@pytest.mark.usefixtures("server")
def test_the_claim_of_a_driver_that_died_is_taken_over() -> None:
    storage = Bucket(OUT)
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    storage.write("lock/dead.json", json.dumps(this_process() | {"process": dead}).encode())
    with storage.lock():
        assert "lock/dead.json" not in storage.names("lock")


@pytest.mark.usefixtures("server")
def test_a_driver_that_slept_too_long_writes_nothing_beside_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its claim has expired, another one took over: it must not come back with its own rows and claim."""
    sleeper, later = Bucket(OUT), buckets._clock() + 2 * buckets.EXPIRE_SECONDS
    with sleeper.lock():
        [claim] = sleeper.names("lock")
        monkeypatch.setattr(buckets, "_clock", lambda: later)
        sleeper.write("file", b"nobody took over")
        sleeper.delete(claim)
        with pytest.raises(StoreError) as problem:
            sleeper.write("file", b"too late")
        assert str(problem.value) == (
            f"another sweep has taken {OUT} over, because this one stood still for more than 120 s: what is "
            "stored stays, and the same command goes on when the other has ended"
        )
        monkeypatch.setattr(buckets, "RENEW_SECONDS", 0.0)
        stop = threading.Event()
        ending = threading.Timer(60.0, stop.set)
        ending.start()
        sleeper._renew(claim, stop)
        ending.cancel()
        assert not stop.is_set()  # it gave up without being told
    assert sleeper.read("file") == b"nobody took over"
    assert sleeper.names("lock") == []


WRITE = """
import sys
from sweeps.storage.buckets import Bucket
storage = Bucket(sys.argv[1])
storage.write("file", b"x" * 1000)
print("ready", flush=True)
while True:
    storage.write("file", b"x" * 1000)
"""


@pytest.mark.slow
def test_an_interrupted_write_leaves_the_old_content_or_the_new(server: Server) -> None:
    """An upload that Ctrl-C stopped halfway used to be completed empty, with up to 64 cells in its place."""
    server.delay = 0.02
    for number in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, OUT], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.3 + 0.013 * number)
            writer.send_signal(signal.SIGINT)
            writer.wait(timeout=30)
        assert len(Bucket(OUT).read("file")) == 1000


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "ftp://host/x",
            "ftp://host/x has an unknown scheme: use a directory, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
        ),
    ],
)
def test_an_unknown_place_is_explained(uri: str, message: str) -> None:
    with pytest.raises(StoreError) as problem:
        open_storage(uri)
    assert str(problem.value) == message


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_the_analysis_reads_a_bucket() -> None:
    with pytest.raises(ResultsError) as problem:
        analysis.load(OUT)
    assert str(problem.value) == (
        f"there is no directory {OUT}: expected the results of a sweep, {OUT}/cells/*.parquet: make them "
        f"with `python sweeps/full_grid.py --out {OUT}`"
    )
    with open_store(OUT, GRID, "the command") as store:
        store.extend(FinishedCell(ok_row(cell), tensor_rows(cell), prediction_row(cell)) for cell in CELLS)
    cells, tensors = analysis.load(f"{OUT}/")
    assert len(cells.collect()) == analysis.load(OUT).planned == len(CELLS)
    assert len(tensors.collect()) == 2 * len(CELLS)
    assert read_record(OUT)["command"] == "the command"


def test_a_store_that_is_not_there_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        with pytest.raises(ResultsError, match=f"^{OUT} cannot be read: .*NETWORK_CONNECTION"):
            analysis.load(OUT)
