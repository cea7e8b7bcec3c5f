"""Workers, nodes and drivers are killed at seeded moments; the table is that of an undisturbed sweep."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lstmptq.artifacts import Artifacts
from sweeps.options import parse
from sweeps.store.writer import open_store
from tests.sweeps.command import start
from tests.sweeps.fake_study import FakeStudy, logged
from tests.sweeps.ray_cluster import Cluster, ray_cluster

LINE = "--embeddings glove"  # 200 cells in 14 trials
CELLS = 200
SEED = 10
KILLS = ["worker"] * 5 + ["driver"] * 3 + ["node"] * 3
OF_THE_PROCESS = ["started_at", "host", "documents"]  # not the same in another process


class Sweep:
    """A sweep on a cluster that is hit again and again."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.study = f"{{'seconds': 0.5, 'journal': {str(folder / 'journal')!r}}}"
        self.said = ""
        self.start()

    def start(self) -> None:
        """The same command every time."""
        self.cluster.wait_for_nodes()
        self.driver = start(
            self.folder / "out", self.study, "--cluster", line=LINE, environment=self.cluster.environment
        )

    def wait(self, cells: int, node: int | None = None) -> None:
        """Wait until `cells` different cells were begun, and one more (on `node`, if given) after that."""
        journal = self.folder / "journal"
        deadline, seen = time.monotonic() + 300, None
        while time.monotonic() < deadline:
            assert self.driver.poll() is None, self.driver.communicate()[0]
            lines = logged(journal, "cell")
            if len(set(lines)) >= cells:
                seen = len(lines) if seen is None else seen
                places = logged(journal, "cell", 3)[seen:]
                if places if node is None else str(self.cluster.folder_of(node)) in places:
                    return
            time.sleep(0.02)
        raise AssertionError(f"no cell after the first {cells}: {self.cluster.said()}")

    def kill_worker(self) -> None:
        """The one that began a cell last."""
        os.kill(int(logged(self.folder / "journal", "cell", 2)[-1]), signal.SIGKILL)

    def kill_driver(self) -> None:
        """And give the same command once more."""
        self.driver.kill()
        self.said += self.driver.communicate()[0]
        self.start()

    def kill_node(self) -> None:
        """And add another one."""
        self.cluster.kill_node()
        self.cluster.add_node(1)


def tables(out: Path) -> dict[str, pl.DataFrame]:
    found = {name: pl.read_parquet(out / name / "*.parquet") for name in ("cells", "tensors", "predictions")}
    found["cells"] = found["cells"].drop(OF_THE_PROCESS)
    keys = {"cells": ["cell_id"], "tensors": ["cell_id", "tensor"], "predictions": ["cell_id"]}
    return {name: table.sort(keys[name]) for name, table in found.items()}


@pytest.mark.slow
def test_a_sweep_that_is_hit_eleven_times_gives_the_undisturbed_table(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    moments = sorted(rng.sample(range(10, CELLS - 40, 5), len(KILLS)))
    kills = rng.sample(KILLS, len(KILLS))
    with ray_cluster() as cluster:
        cluster.start_head(1)
        cluster.add_node(1)
        sweep = Sweep(cluster, tmp_path)
        for cells, what in zip(moments, kills, strict=True):
            sweep.wait(cells, node=len(cluster.nodes) - 1 if what == "node" else None)
            getattr(sweep, f"kill_{what}")()
        shown, _ = sweep.driver.communicate(timeout=300)
        sweep.said += shown
        assert sweep.driver.returncode == 0, sweep.said
    assert "a trial is run once more: its worker died" in sweep.said
    assert "a trial is run once more: its node was lost" in sweep.said

    grid = parse(LINE.split()).grid()
    with open_store(tmp_path / "undisturbed", grid, "") as store:
        store.extend(FakeStudy(grid).run(list(grid.cells()), Artifacts(tmp_path / "own"), device="cpu"))
    hit, expected = tables(tmp_path / "out"), tables(tmp_path / "undisturbed")
    assert hit["cells"].height == hit["cells"]["cell_id"].n_unique() == CELLS
    for name, table in expected.items():
        assert_frame_equal(hit[name], table)
