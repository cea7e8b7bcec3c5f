"""The command with its results in an object store: a refused write, a slow one, and the answer from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

from tests.sweeps.command import ROOT, start
from tests.sweeps.fake_study import logged
from tests.sweeps.s3 import Server

OUT = "s3://results/a/sweep"


@pytest.mark.slow
def test_a_sweep_into_a_bucket_survives_a_refusal_and_slow_writes(server: Server, tmp_path: Path) -> None:
    study, environment = f"{{'journal': {str(tmp_path)!r}}}", {**os.environ, "TMPDIR": str(tmp_path)}
    environment["RAY_TMPDIR"] = tempfile.gettempdir()  # Ray's sockets need a short path

    server.rows = 3
    shown, _ = (run := start(OUT, study, environment=environment)).communicate(timeout=300)
    assert run.returncode == 2, shown
    assert shown.splitlines()[-1] == (
        f"error: cannot write results to {OUT}: access is denied: check the credentials and the bucket's "
        "policy. What is written stays: put that right, and the same command goes on where it stopped"
    )
    assert "Traceback" not in shown
    assert logged(tmp_path, "train") == ["generative"]

    server.rows, server.refused, server.delay = None, 0, 0.05
    shown, _ = (run := start(OUT, study, environment=environment)).communicate(timeout=300)
    assert run.returncode == 0, shown
    counts = re.search(rf"8 cells: (\d) done, 0 failed, (\d) left; results in {OUT}", shown)
    assert counts is not None, shown
    stored, left = map(int, counts.groups())
    assert stored >= 1  # cells that come together are written together
    assert left >= 1
    assert stored + left == 8
    assert f"Parquet: {OUT}/cells/*.parquet" in shown
    assert f"--out {OUT} --seeds 0 1 2" in shown
    cells = pl.scan_parquet(f"{OUT}/cells/*.parquet").collect()
    assert len(cells) == cells["cell_id"].n_unique() == 8
    assert set(cells["status"]) == {"ok"}
    assert logged(tmp_path, "train") == ["generative"]  # it was found in the bucket
    server.delay = 0.0

    said = subprocess.run(
        [sys.executable, "-m", "analysis", "summary", OUT], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert "Accuracy: bbc_news" in said.stdout
    query = next(line for line in shown.splitlines() if line.startswith("query it:"))
    found = subprocess.run(
        query.removeprefix("query it:"), shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert "generative" in found.stdout, found.stderr

    shown, _ = start(OUT, study, environment=environment).communicate(timeout=300)
    assert "8 cells: 8 done, 0 failed, 0 left" in shown
    assert "starting Ray" not in shown
