"""Move results between this machine and the head node: a complete copy arrives, then it takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmptq.results import TABLES
from sweeps.cluster.config import StepError
from sweeps.cluster.launcher import AGAIN, Launcher
from sweeps.storage.opening import open_storage
from sweeps.store.index import finished_cells, read_index
from sweeps.store.logs import LOGS_FOLDER as LOGS
from sweeps.store.record import RECORD_FILE as RECORD
from sweeps.store.status_file import STATUS_FILE as STATUS

SWEEPS = "~/sweeps"  # on the head node; see sweeps.cluster.detached
FETCHED, REPLACED = ".fetched", ".replaced"  # in OUT: arriving results, and those that they replace
WHOLE = ".whole"  # in FETCHED: everything has arrived and is being put in place
CELLS, OPEN = "cells", "open"
# What is moved, in the order in which it takes its place. Rows come after their tensors and the record comes
# last: if the process is killed, a reader misses some rows until finish_fetch() moves the rest.
ORDER = (*(name for name in TABLES if name != CELLS), OPEN, LOGS, STATUS, CELLS, RECORD)


def ship_results(launcher: Launcher, name: str, local: Path, has_results: bool, token: str) -> None:
    """Ship results that only this machine has, or fetch those that the head node has of an earlier run.

    Args:
        launcher: the cluster's launcher.
        name: the sweep.
        local: the directory of its results here.
        has_results: whether the head node has results of it.
        token: the token to ship with, from :func:`sweeps.cluster.detached.prepare`.

    Raises:
        StepError: if that fails.
    """
    with _lock_results(local):
        if has_results:
            _fetch(launcher, name, local)
        elif (local / RECORD).is_file() and (local / CELLS).is_dir():
            for path in (local / entry for entry in ORDER):
                if path.exists():
                    folder = f"{path.name}/" if path.is_dir() else ""
                    launcher.send(path, f"{SWEEPS}/{name}/shipped-{token}/{folder}")
            launcher.ask("adopt", name, token)


def fetch_results(launcher: Launcher, name: str, local: Path) -> bool:
    """Fetch the results of a sweep; results here are kept if the head node does not have all of their cells.

    Returns:
        Whether the head node had any.

    Raises:
        StepError: if they do not arrive complete, or if cells that are here would be lost.
    """
    with _lock_results(local):
        return _fetch(launcher, name, local)


def finish_fetch(local: Path) -> None:
    """Put results in place that arrived before a process was killed; call this before reading them."""
    if (local / FETCHED / WHOLE).is_file():
        with _lock_results(local):
            pass


@contextmanager
def _lock_results(local: Path) -> Iterator[None]:
    """Exclude other processes that change the results here, and finish what a killed one had begun."""
    local.mkdir(parents=True, exist_ok=True)
    with open_storage(local).lock():
        if (local / FETCHED / WHOLE).is_file():
            _put_in_place(local)
        yield


def _fetch(launcher: Launcher, name: str, local: Path) -> bool:
    files = launcher.ask("results", name)["files"]
    if RECORD not in files:  # the sweep ended before it had any results
        return False
    coming = local / FETCHED
    coming.mkdir(exist_ok=True)  # files that arrived before the connection was lost are not sent again
    launcher.fetch(f"{SWEEPS}/{name}/out/", coming)
    here = {str(path.relative_to(coming)): path for path in sorted(coming.rglob("*")) if path.is_file()}
    absent = [at for at, size in files.items() if at not in here or here[at].stat().st_size != size]
    if absent:
        raise StepError(
            f"fetching the results failed: {len(absent)} of {len(files)} files did not arrive complete, "
            f"for example {absent[0]}: {AGAIN}; until then they stay on the cluster"
        )
    for at in here.keys() - files.keys():
        here[at].unlink()  # from an earlier attempt, and removed from the head node since
    only_here = finished_cells(read_index(local)) - finished_cells(read_index(coming))
    if only_here:
        raise StepError(
            f"fetching the results failed: {local} holds {len(only_here)} cells that the cluster's results "
            f"lack: both are kept, the cluster's in {coming}: move one of them to another directory"
        )
    shutil.rmtree(local / REPLACED, ignore_errors=True)  # left by a copy that is already in place
    (coming / OPEN).mkdir(exist_ok=True)  # so that the local one is replaced even if the cluster has none
    (coming / WHOLE).touch()
    _put_in_place(local)
    return True


def _put_in_place(local: Path) -> None:
    """Move a complete copy to where its readers look; entries that were moved before a kill are skipped."""
    coming, old = local / FETCHED, local / REPLACED
    old.mkdir(exist_ok=True)
    for entry in ORDER:
        new, place = coming / entry, local / entry
        if not new.exists():
            continue
        if place.is_dir():
            place.rename(old / entry)
        os.replace(new, place)
    (coming / WHOLE).unlink()
    shutil.rmtree(coming)
    shutil.rmtree(old)
