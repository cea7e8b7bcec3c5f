"""What the head does, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.cluster import detached, remote
from sweeps.options import parse
from tests.sweeps.cluster.fake_head import (
    NAME,
    FakeSdk,
    ask,
)

pytestmark = pytest.mark.usefixtures("laptop")


@pytest.mark.parametrize(
    "out", ["../../etc", "/", ".", "results/ä ö", "a" * 500, "$(rm -rf ~)", "s3://b/x/../y", "x/"]
)
def test_a_name_on_the_head_is_one_directory_there(
    out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = detached.folder_of(remote.name_sweep(out))
    assert folder.parent == tmp_path / "sweeps"
    assert folder.resolve() == folder


def test_sweeps_do_not_collide() -> None:
    outs = ["results/x", "results_x", "results-x", "/results/x", "s3://results/x"]
    assert len({remote.name_sweep(out) for out in outs}) == len(outs)
    assert remote.name_sweep("results/x/") == remote.name_sweep("results/x")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "files", "artifacts", "A", "a\n", "-x"])
def test_the_head_refuses_other_names(name: str) -> None:
    with pytest.raises(detached.RefusedError):
        detached.folder_of(name)


def test_the_head_refuses_invalid_digests(sdk: FakeSdk) -> None:
    sdk.up = True
    answer = ask(sdk, "prepare", NAME, ["../../.ssh"])
    assert answer == {"refused": "'..' is not a digest"}


def test_the_heads_command_line_means_the_same() -> None:
    line = (
        "--models generative --embeddings glove spacy --hidden 50 100 --bits fp32 8 4 --internal-bits 8 same "
        "--class-ratios balanced head:0.7 0.5,0.5 --noise clean swap:0.1 --seeds 0 1 --limit 100 --isolate "
        "--freeze-embedding --fan-out cell --retry-failed --no-predictions --workers 3 --kernel eager"
    )
    config = parse(line.split())
    given = remote.to_arguments(
        replace(config, cluster=True, out=Path("x"), cluster_config="y", down=True), {}
    )
    assert parse(given) == config


def test_two_machines_that_ship_at_once_do_not_mix(sdk: FakeSdk) -> None:
    sdk.up = True
    one, two = (ask(sdk, "prepare", NAME, [])["token"] for _ in range(2))
    folder = sdk.home / "sweeps" / NAME
    for token in (one, two):
        assert list((folder / f"shipped-{token}").iterdir()) == []
        (folder / f"shipped-{token}" / "sweep.json").write_text(token)
    again = "run the same command again"
    assert ask(sdk, "adopt", NAME, one) == {"refused": f"the shipped results have no cells: {again}"}
    for token in (one, two):
        (folder / f"shipped-{token}" / "cells").mkdir()
    assert ask(sdk, "adopt", NAME, one) == {}
    assert ask(sdk, "adopt", NAME, two) == {
        "refused": f"the sweep {NAME} has meanwhile received results from elsewhere: {again}"
    }
    assert (folder / "out" / "sweep.json").read_text() == one
    assert ask(sdk, "adopt", NAME, "../x") == {"refused": "'../x' is not a token"}
