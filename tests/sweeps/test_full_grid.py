"""The command: its flags, its errors, its plan, a sweep that is interrupted and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from lstmptq.results import FinishedCell
from lstmptq.spec.grid import Grid
from lstmptq.text.sources import Source
from sweeps.full_grid import main
from sweeps.options import SweepConfig, parse
from sweeps.store.index import read_index
from sweeps.store.writer import open_store
from tests.sweeps.command import ROOT, SMALL, start
from tests.sweeps.fake_study import find_trained, identity_columns, ok_row


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says on stderr when it refuses `arguments`."""
    assert main([*arguments, "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def test_no_flags_give_the_default_grid() -> None:
    assert parse([]) == SweepConfig()
    assert SweepConfig().grid() == Grid(datasets=(Source("bbc_news"),))


def test_every_axis_takes_several_values() -> None:
    line = (
        "--models generative --embeddings glove spacy --hidden 50 100 --layers 1 2 "
        "--training-documents all 500 --bits fp32 8 4 --internal-bits 8 same "
        "--algorithms none gpfq --class-ratios balanced head:0.7 "
        "--noise clean swap:0.1 --seeds 0 1 2 --calibration-documents 64 --limit 100 --embedding-dim 32 "
        "--freeze-embedding --pooling last --epochs 3 1 --min-freq 4 --shift-documents 10 "
        "--calibration-labels all --observer mean max --io-scales separate --padding counted masked --isolate"
    )
    grid = parse(line.split()).grid()
    assert grid.training_documents == (None, 500)
    assert grid.bits == (None, 8, 4)
    assert grid.internal_bits == (8, "same")
    assert grid.hidden == (50, 100)
    assert [noise.level for noise in grid.noise] == [0.0, 0.1]
    assert (grid.limit, grid.pooling, grid.freeze_embedding) == (100, "last", True)
    assert grid.isolate
    assert (grid.epochs, grid.run_epochs) == ((3, 1), 3)
    assert (grid.observers, grid.io_scales, grid.paddings) == (
        ("mean", "max"), ("separate",), ("counted", "masked"),
    )  # fmt: skip
    assert grid.min_freq == 4
    assert (grid.calibration_documents, grid.calibration_labels, grid.embedding_dim) == (64, "all", 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--bits 9", "bits must be in 2..8 or fp32, got 9: use fp32 for the FP32 baseline"),
        ("--bits 1", "bits must be in 2..8 or fp32, got 1: use fp32 for the FP32 baseline"),
        ("--bits null", "bits must be in 2..8 or fp32, got null: use fp32 for the FP32 baseline"),
        ("--bits", "bits must have at least one value, got none"),
        (
            "--internal-bits 32",
            "internal-bits must be in 2..8 or same, got 32: use same for the width of the weights",
        ),
        ("--training-documents some", "training-documents must be a number, at least 2, or all, got some"),
        ("--models bert", "model must be one of discriminative, generative, unigram, got 'bert'"),
        ("--algorithms awq", "algorithm must be one of none, gpfq, gptq, qronos, got 'awq'"),
        ("--pooling max", "pooling must be one of mean, last, got 'max'"),
        ("--observer median", "observer must be one of mean, max, percentile, got 'median'"),
        ("--epochs 0 2", "checkpoint must be at least 1, got 0"),
        ("--device tpu", "device must be one of cpu, cuda, got 'tpu'"),
        ("--kernel fast", "kernel must be one of auto, eager, native, got 'fast'"),
        ("--seeds 0 0", "seeds must not repeat a value, got (0, 0)"),
        ("--seeds -1", "seed must be at least 0, got -1"),
        ("--workers 0", "workers must be at least 1, got 0"),
        ("--limit 0", "limit must be at least 1, got 0"),
        (
            "--out ftp://host/x",
            "ftp://host/x has an unknown scheme: use a directory, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
        ),
        (
            "--artifacts s3://bucket/x?region=eu-west-1",
            "s3://bucket/x?region=eu-west-1 is not a location in a bucket: use a directory, "
            "s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; region and endpoint come from the environment, as "
            "AWS_REGION and AWS_ENDPOINT_URL",
        ),
        (
            "--probe 60",
            "--probe was removed: run a few cells with --samples N, then --dry-run judges by those",
        ),
        (
            "--price-per-hour=0.05",
            "--price-per-hour was removed: multiply the hours that --dry-run prints by the price of its "
            "workers",
        ),
        ("--dataset missing.csv", "no file missing.csv: give the path of an existing file"),
    ],
)
def test_bad_values_are_explained_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert error(capsys, *arguments.split()) == f"error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        ("--dataset nope", "error: unknown corpus 'nope': use one of bbc_news, ag_news, dbpedia_14, emotion"),
        ("--embeddings elmo", "error: unknown embedding 'elmo': use "),
        ("--noise hum:0.1", "error: unknown kind of noise 'hum' in 'hum:0.1': use "),
        ("--noise typo:2", "error: the level of typo must be in (0, 1], got 2.0: use "),
        ("--class-ratios 0.5,0.2", "error: bad class ratio '0.5,0.2': the shares must add up to 1"),
        ("--class-ratios even", "error: unknown class ratio 'even': use "),
    ],
)
def test_bad_names_are_explained_by_who_knows_them(
    capsys: pytest.CaptureFixture[str], arguments: str, beginning: str
) -> None:
    shown = error(capsys, *arguments.split())
    assert shown.startswith(beginning)
    assert shown.count("\n") == 1


@pytest.mark.parametrize("arguments", ["--fan-out pair", "--colour red", "--epochs many"])
def test_a_line_that_cannot_be_read_ends_with_code_2(
    capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


def test_results_of_another_sweep_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with open_store(tmp_path, SweepConfig().grid(), ""):
        pass
    message = (
        f"error: {tmp_path} holds the results of another sweep: limit is null there and 10 here: "
        "choose another --out, or ask for the same\n"
    )
    assert error(capsys, "--out", str(tmp_path), "--limit", "10") == message
    assert main(["--out", str(tmp_path), "--limit", "10"]) == 2
    assert capsys.readouterr().err == message


def test_help_shows_each_flag_with_its_default() -> None:
    command = [sys.executable, str(ROOT / "sweeps" / "full_grid.py"), "--help"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}
    )
    for name in SweepConfig.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown.stdout
    assert "(default: fp32 8 7 6 5 4 3)" in shown.stdout
    assert "(default: clean typo:0.05 typo:0.10 typo:0.20)" in shown.stdout


def test_dry_run_needs_neither_torch_nor_ray_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeps.full_grid import main; main(['--dry-run', '--workers', '3']); "
        "assert not {'torch', 'ray'} & sys.modules.keys()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    assert lines[:3] == [
        "cells        600 in the grid: 0 done, 0 failed, 600 left",
        "trials       42, 3 at a time",
        "FP32 models  6: 0 trained already, 6 to train",
    ]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_what_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    grid = SweepConfig().grid()
    cells = list(grid.cells())
    with open_store(tmp_path, grid, "") as store:
        store.extend([FinishedCell(ok_row(cells[0]), [])])
        store.extend([FinishedCell(identity_columns(cells[1]) | {"status": "failed", "error": "boo"}, [])])
    find_trained(tmp_path / "artifacts", grid)
    assert main(["--dry-run", "--out", str(tmp_path), "--workers", "2"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "cells        600 in the grid: 1 done, 1 failed, 598 left",
        "trials       42, 2 at a time",
        "FP32 models  6: 6 trained already, 0 to train",
        "estimate     at least 14:57 (from the steps that finished cells measured)",
        "memory       unknown until a worker was measured",
        "1 cell failed:",
        f"  1 x boo (e.g. cell {cells[1].cell_id[:12]})",
        "--retry-failed runs them again",
    ]


@pytest.mark.slow
def test_a_sweep_is_interrupted_and_goes_on_with_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    find_trained(out / "artifacts")
    run = start(out, "{'seconds': 1.0}")
    deadline = time.monotonic() + 60
    while not read_index(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    shown, _ = run.communicate(timeout=30)
    assert run.returncode == 130, shown
    stored = len(pl.read_parquet(out / "cells" / "*.parquet"))
    assert 1 <= stored < 8
    assert f"stopped; {stored} finished cells are stored. To go on: " in shown
    assert "sweeps/full_grid.py --models generative" in shown
    assert "Traceback" not in shown
    assert main(["--status", str(out)]) == 0
    status = capsys.readouterr().out
    assert "stopped by Ctrl-C" in status
    assert f"8: {stored} done, 0 failed, {8 - stored} left" in status

    run = start(out, "{'failing_bits': 4}")
    shown, _ = run.communicate(timeout=60)
    assert run.returncode == 1, shown
    assert f"8 cells: {stored} done, 0 failed, {8 - stored} left; results in {out}" in shown
    assert "3 cells failed:\n  3 x ValueError: not enough documents (e.g. cell " in shown
    assert f", log {out}/logs/" in shown
    assert "the same command with --retry-failed runs them again" in shown
    assert f"Parquet: {out}/cells/*.parquet" in shown
    assert f"--workers 1 --out {out} --seeds 0 1 2" in shown
    assert "Traceback" not in shown

    query = next(line for line in shown.splitlines() if line.startswith("query it:"))
    found = subprocess.run(query.removeprefix("query it:"), shell=True, capture_output=True, text=True)
    assert "generative" in found.stdout, found.stderr

    run = start(out, "{}")  # nothing is left: Ray is not even started
    shown, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "8 cells: 5 done, 3 failed, 0 left" in shown
    assert "starting Ray" not in shown
    assert main(["--status", str(out)]) == 0
    status = capsys.readouterr().out
    assert "8: 5 done, 3 failed, 0 left" in status

    line = ["--dry-run", "--retry-failed", *SMALL.split()]
    assert main([*line, "--out", str(out)]) == 0
    plan = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert plan[0] == "cells        8 in the grid: 5 done, 0 failed, 3 left"
    assert "(from earlier runs here)" in plan[4]
    assert " GiB for 1 (the highest peak seen on " in plan[5]


def test_a_cluster_that_does_not_answer_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import ray

    def nobody(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", nobody)
    monkeypatch.setenv(
        "RAY_AUTH_MODE", "disabled"
    )  # or this process, where Ray is imported, would be changed
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    line = ["--cluster", "--out", str(tmp_path)]
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "no Ray here"))
    assert main([*line, "--cluster-config", "my.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: no Ray cluster answers on this machine, and there is no my.yaml to bring one up from: name "
        "a file with --cluster-config, set RAY_ADDRESS to the address of a running cluster, or leave out "
        "--cluster\n"
    )
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert main(line) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: no Ray cluster answers at 10.0.0.1:6379: start one")
    assert "running on the Ray cluster at 10.0.0.1:6379\n" in shown.out


def test_down_stands_alone_or_beside_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--down", "--seeds", "1"]) == 2
    assert capsys.readouterr().err == (
        "error: --down needs --cluster, or stands alone (but for --cluster-config)\n"
    )
    assert main(["--down", "--cluster-config", "my.yaml"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: no Ray cluster answers on this machine, and there is no my."
    )


def test_stop_is_for_clusters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stop"]) == 2
    assert capsys.readouterr().err == (
        "error: --stop ends a sweep on a cluster: use it with --cluster; press Ctrl-C for one here\n"
    )


@pytest.mark.slow
def test_a_bucket_that_does_not_answer_is_explained_before_a_cluster_comes_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "no Ray here"))
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:1", "REGION": "us-east-1", "EC2_METADATA_DISABLED": "true",
        "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    assert main(["--cluster", "--cluster-config", "my.yaml", "--out", "s3://results/x"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot read s3://results/x: the object store cannot be")


def test_nothing_left_to_run_needs_no_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = "--models generative --embeddings glove --bits fp32 --class-ratios balanced --noise clean".split()
    grid = parse(line).grid()
    with open_store(tmp_path / "out", grid, "") as store:
        for cell in grid.cells():
            store.extend([FinishedCell(ok_row(cell), [])])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "no Ray here"))
    assert main([*line, "--out", str(tmp_path / "out"), "--cluster", "--cluster-config", "my.yaml"]) == 0
    assert "1 cells: none left to run" in capsys.readouterr().out


def test_a_cluster_may_grow_to_what_its_launcher_may_bring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sweeps.running import session as cluster

    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"memory": 1.0})  # a head without trials
    monkeypatch.setattr(cluster, "LAUNCHED", tmp_path / "launched.yaml")
    monkeypatch.setattr(cluster.os, "cpu_count", lambda: 4)
    assert cluster._most_trials() == 1
    kinds = {"head": {"resources": {"CPU": 0}, "max_workers": 0}}
    kinds["worker"] = {"resources": {"CPU": 16}, "max_workers": 8}
    launched = {"provider": {"type": "aws"}, "max_workers": 5, "available_node_types": kinds}
    cluster.LAUNCHED.write_text(json.dumps(launched))
    assert cluster._most_trials() == 80
    launched["provider"] = {"type": "local", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    cluster.LAUNCHED.write_text(json.dumps(launched))
    assert cluster._most_trials() == 12
