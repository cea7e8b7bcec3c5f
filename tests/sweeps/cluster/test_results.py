"""Results between a laptop and the head: whole, and none lost."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lstmptq.results import FinishedCell
from sweeps.cluster import remote, results
from sweeps.errors import StoreError
from sweeps.full_grid import main
from sweeps.options import parse
from sweeps.storage.opening import open_storage
from sweeps.store.index import finished_cells, read_index
from sweeps.store.writer import open_store
from tests.sweeps.cluster.fake_head import (
    LINE,
    NAME,
    FakeSdk,
    ask,
    down,
    leave_results,
    refused,
    run,
)
from tests.sweeps.fake_study import ok_row
from tests.sweeps.s3 import Server

pytestmark = pytest.mark.usefixtures("laptop")


def test_results_that_are_only_here_are_shipped_before(sdk: FakeSdk) -> None:
    grid = parse(LINE.split()).grid()
    first, _ = grid.cells()
    with open_store(Path("results/x"), grid, "") as store:
        store.extend([FinishedCell(ok_row(first), [])])
    seen = sdk.home / "sweeps" / NAME / "out"
    (sdk.home / "go").write_text("0")
    run()
    assert finished_cells(read_index(seen)) == {first.cell_id}
    assert finished_cells(read_index("results/x")) == {first.cell_id}


def test_what_the_user_excludes_is_not_left_out_of_results(sdk: FakeSdk, laptop: Path) -> None:
    with (laptop / "cluster.yaml").open("a") as file:
        file.write("rsync_exclude: ['*.parquet', cells]\n")
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    run()
    assert len(read_index("results/x")) == 2
    shutil.rmtree(sdk.home / "sweeps")
    run()  # and on the way there
    assert len(read_index(sdk.home / "sweeps" / NAME / "out")) == 2


def test_results_in_a_bucket(
    sdk: FakeSdk, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = leave_results(sdk)
    (sdk.home / "go").write_text("0")
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_TMPDIR", str(sdk.home / "no Ray here"))
    out = "s3://results/x"
    assert server.environment["AWS_ENDPOINT_URL"]
    assert main([*LINE.split(), "--out", out]) == 0
    assert finished_cells(read_index(out)) == {cell.cell_id for cell in grid.cells()}
    request = json.loads((sdk.home / "sweeps" / remote.name_sweep(out) / "request.json").read_text())
    assert request["out"] == out
    assert "rsync" not in sdk.calls
    assert f"Parquet: {out}/cells/*.parquet" in capsys.readouterr().out
    assert down() == "tearing cluster lstmptq down\ncluster lstmptq is down\n"


def test_results_that_cannot_be_fetched(sdk: FakeSdk) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    sdk.failing = {"rsync": ConnectionError("SSH command failed.")}
    assert refused().startswith("fetching the results failed: SSH command failed.")
    assert not ask(sdk, "survey")["sweeps"][NAME]["fetched"]


def test_results_that_do_not_all_come_stay_unfetched(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    real = sdk.rsync

    def rsync(config: dict[str, Any], *, source: str, target: str, down: bool) -> None:
        real(config, source=source, target=target, down=down)
        if down:
            next(Path(target, "cells").iterdir()).unlink()

    monkeypatch.setattr(sdk, "rsync", rsync)
    said = refused()
    assert said.startswith("fetching the results failed: 1 of ")
    assert said.endswith(
        "files did not arrive complete, for example cells/segment-00001.parquet: run the same command again; "
        "until then they stay on the cluster"
    )
    assert not ask(sdk, "survey")["sweeps"][NAME]["fetched"]
    assert read_index("results/x") == {}
    monkeypatch.setattr(sdk, "rsync", real)
    run()
    assert len(read_index("results/x")) == 2


@pytest.mark.parametrize("entry", ["tensors", "predictions", "open", "cells", "sweep.json"])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.slow
def test_a_kill_while_results_are_put_in_place(
    sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch, entry: str, moved: bool
) -> None:
    leave_results(sdk, cells=1)
    (sdk.home / "go").write_text("0")
    run()
    there = sdk.home / "sweeps" / NAME / "out"
    for folder in (sdk.home / "results", there):
        shutil.rmtree(folder)
    leave_results(sdk, cells=2)
    shutil.copytree(sdk.home / "results", there)
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == entry:
            if moved:
                real(source, target)
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(results.os, "replace", replace)
    config = parse(LINE.split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=io.StringIO()))
    monkeypatch.setattr(results.os, "replace", real)
    out = Path("results/x")
    new_rows, new_tensors = (not (out / results.FETCHED / name).exists() for name in ("cells", "tensors"))
    assert new_tensors or not new_rows
    assert (out / "sweep.json").exists()  # without, the directory would be refused
    results.finish_fetch(out)
    assert len(read_index(out)) == 2
    assert not [path.name for path in out.iterdir() if path.name in (results.FETCHED, results.REPLACED)]


def test_results_that_another_process_writes_are_left_alone(sdk: FakeSdk) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    Path("results/x").mkdir(parents=True)
    with (
        open_storage("results/x").lock(),
        pytest.raises(StoreError, match=r"^results/x is being written by another sweep: wait until it has"),
    ):
        run()
    assert "start" not in sdk.calls
    run()
    assert len(read_index("results/x")) == 2


def test_cells_that_only_this_machine_has_are_kept(sdk: FakeSdk) -> None:
    leave_results(sdk, cells=1)
    grid = parse(LINE.split()).grid()
    _, second = grid.cells()
    (sdk.home / "go").write_text("0")
    run()
    with open_store(Path("results/x"), grid, "") as store:
        store.extend([FinishedCell(ok_row(second), [])])
    said = refused()
    assert said.startswith(
        "fetching the results failed: results/x holds 1 cells that the cluster's results lack"
    )
    assert len(read_index("results/x")) == 2


def test_artifacts_in_a_directory_here_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^--artifacts somewhere is a directory of this machine, but the sweep"
    ):
        run(f"{LINE} --artifacts somewhere")
