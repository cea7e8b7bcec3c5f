"""``--cluster`` from outside, step by step, on a head that is a directory of this machine."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeps.cluster import remote
from sweeps.cluster.config import StepError
from sweeps.options import parse
from sweeps.store.index import finished_cells, read_index
from tests.sweeps.cluster.fake_head import (
    LINE,
    NAME,
    FakeSdk,
    ask,
    down,
    leave_results,
    refused,
    run,
    start_in_background,
    stop,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("laptop")


def test_a_cluster_is_brought_up_and_its_results_are_brought_here(
    sdk: FakeSdk, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = leave_results(sdk)
    (sdk.home / "go").write_text("0")
    code, said = run()
    assert code == 0
    assert "bringing up cluster lstmptq (aws, at most 2 workers)" in said
    assert f"sweep {NAME} started; it goes on without this machine" in said
    assert "fetched the results to results/x" in said
    assert finished_cells(read_index("results/x")) == {cell.cell_id for cell in grid.cells()}
    streamed = capsys.readouterr().out
    assert "cells: 100 % ± nothing" in streamed
    arguments = json.loads(streamed.split("begun ")[1].splitlines()[0])
    out = str(sdk.home / "sweeps" / NAME / "out")
    shelf = str(sdk.home / "sweeps" / "artifacts")
    assert arguments == [*LINE.split()[:-1], "--cluster", "--out", out, "--artifacts", shelf]
    assert sdk.calls.count("up") == 1
    assert ask(sdk, "survey")["sweeps"][NAME]["fetched"]


def test_the_same_command_after_the_end_fetches(sdk: FakeSdk, capsys: pytest.CaptureFixture[str]) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    (sdk.home / "go").write_text("1")
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    before = len(sdk.calls)
    code, _ = run()
    assert code == 1
    assert "up" not in sdk.calls[before:]
    assert "cells: 100 %" in capsys.readouterr().out
    assert len(read_index("results/x")) == 2


def test_watching_a_running_sweep_shows_what_it_printed(
    sdk: FakeSdk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    looks = 0
    real = sdk.run_on_cluster

    def run_on_cluster(config: dict[str, Any], *, cmd: str) -> str:
        nonlocal looks
        if " look " in cmd:
            looks += 1
            if looks == 2:
                (sdk.home / "go").write_text("0")
        return real(config, cmd=cmd)

    monkeypatch.setattr(sdk, "run_on_cluster", run_on_cluster)
    code, said = run()
    assert code == 0
    assert (
        f"cluster lstmptq is up and is running {NAME}: your later changes to the code are shipped once it "
        "has ended\n"
    ) in said
    assert f"sweep {NAME} is already running: watching it" in said
    assert (sdk.home / "sweeps" / NAME / "log").read_text().count("begun") == 1
    shown = capsys.readouterr().out
    assert shown.index("begun") < shown.index("cells: 100 %")
    assert "rsync" in sdk.calls  # the results
    assert sdk.calls.index("start") < sdk.calls.index("rsync")  # nothing is shipped under a running sweep


def test_ctrl_c_stops_watching_and_not_the_sweep(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "_show", interrupt)
    shown = io.StringIO()
    config = parse(LINE.split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=shown, width=1000))
    said = shown.getvalue()
    assert "the sweep goes on; the same command shows it again. To end it: " in said
    end = said.split("To end it: ")[1].strip()
    assert end.endswith("sweeps/full_grid.py --cluster --stop --out results/x")
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]
    wait_for(lambda: (sdk.home / "sweeps" / NAME / "pid").exists())
    assert stop(end.split("full_grid.py ")[1]) == (
        f"told sweep {NAME} to stop; finished cells are kept, and the command that started it resumes it\n"
    )
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    assert stop("--cluster --stop --out results/x") == f"sweep {NAME} is not running\n"


def test_a_lost_connection_is_tried_again(sdk: FakeSdk, capsys: pytest.CaptureFixture[str]) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    sdk.failing, sdk.times = {"look": ConnectionError("SSH command failed.")}, 1
    code, said = run()
    assert code == 0
    assert "the head node does not answer; trying again in 0 s" in said
    assert "cells: 100 %" in capsys.readouterr().out


def test_ctrl_c_before_the_sweep_says_what_may_cost(sdk: FakeSdk) -> None:
    sdk.failing = {"up": KeyboardInterrupt()}
    shown = io.StringIO()
    config = parse(f"{LINE} --cluster-config {Path('cluster.yaml').absolute()}".split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=shown, width=1000))
    said = shown.getvalue().splitlines()[-1]
    assert said.startswith("cluster lstmptq may be up and cost money. To tear it down: ")
    assert said.endswith(f"sweeps/full_grid.py --down --cluster-config {Path('cluster.yaml').absolute()}")


def test_another_sweep_with_the_same_out_is_not_joined(sdk: FakeSdk) -> None:
    start_in_background(sdk, NAME)
    said = refused(LINE.replace("fp32 4", "fp32 3"))
    assert said.startswith(
        "starting the sweep failed: another sweep with the same --out is running: --models generative"
    )
    assert "wait for it, choose another --out, or end it with: " in said
    assert said.endswith("full_grid.py --cluster --stop --out results/x")


@pytest.mark.parametrize(
    ("code", "why"), [("2", "with code 2: see above"), ("130", "with code 130: see above")]
)
def test_a_sweep_that_fails_on_the_head(sdk: FakeSdk, code: str, why: str) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text(code)
    said = refused()
    assert said == f"running the sweep failed: it ended on the head node {why} The same command resumes it"
    assert len(read_index("results/x")) == 2  # what it has is here


def test_a_sweep_whose_machine_was_restarted(sdk: FakeSdk) -> None:
    start_in_background(sdk, NAME)
    sweep = int((sdk.home / "sweeps" / NAME / "pid").read_text())
    warden = int(Path(f"/proc/{sweep}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(warden, 9)
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]  # the sweep itself lives, and is not started twice
    os.kill(sweep, 9)
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    seen = ask(sdk, "look", NAME, 0, 0)
    assert (seen["running"], seen["exit"]) == (False, None)


def test_down_takes_a_cluster_down_that_is_not_used(sdk: FakeSdk) -> None:
    assert down() == "cluster lstmptq is not up\n"
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    run()
    assert down() == "tearing cluster lstmptq down\ncluster lstmptq is down\n"
    assert not sdk.up


def test_down_leaves_a_cluster_up_that_would_lose_something(sdk: FakeSdk) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    stays = f"^cluster lstmptq stays up: sweep {NAME} is running on it: --models gen"
    with pytest.raises(StepError, match=stays):
        down()
    assert down(alone=False).startswith(f"cluster lstmptq stays up: sweep {NAME} is running on it")
    (sdk.home / "go").write_text("0")
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    with pytest.raises(StepError, match="has results on it that nobody has fetched"):
        down()
    assert sdk.up


def test_down_takes_machines_down_whose_setup_failed(sdk: FakeSdk) -> None:
    sdk.unready = ["i-1", "i-2"]
    sdk.failing = {"locks": ConnectionError("SSH command failed.")}
    assert down() == (
        "cluster lstmptq has no working head node; running machines: 2\n"
        "tearing cluster lstmptq down\ncluster lstmptq is down\n"
    )
    assert sdk.calls[-1] == "down"


def test_down_of_a_head_that_does_not_answer_says_what_ends_it(sdk: FakeSdk) -> None:
    sdk.up = True
    sdk.failing = {"survey": ConnectionError("SSH command failed.")}
    with pytest.raises(
        StepError, match=r"`ray down cluster\.yaml` tears the cluster down without checking what"
    ):
        down()


def test_stop_says_when_there_is_nothing_to_stop(sdk: FakeSdk) -> None:
    assert stop("--cluster --stop --out results/x") == "cluster lstmptq is not up\n"
    start_in_background(sdk, NAME)
    with pytest.raises(StepError) as problem:
        stop("--cluster --stop --out results/y")
    assert str(problem.value) == (
        f"stopping the sweep failed: cluster lstmptq has no sweep with --out results/y; it has {NAME}: "
        "use the --out of the command that started the sweep"
    )
    (sdk.home / "sweeps" / NAME / "pid").unlink()
    with pytest.raises(
        StepError, match=f"^stopping the sweep failed: {NAME} is just starting or ending: run"
    ):
        stop("--cluster --stop --out results/x")
