"""Results between this machine and the head: each way a whole copy comes first, then it takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmptq.results import TABLES
from sweeps.cluster.config import StepError
from sweeps.cluster.launcher import Launcher
from sweeps.storage.opening import open_storage
from sweeps.store.index import finished_cells, read_index
from sweeps.store.logs import LOGS_FOLDER as LOGS
from sweeps.store.record import RECORD_FILE as RECORD
from sweeps.store.status_file import STATUS_FILE as STATUS

SWEEPS = "~/sweeps"  # on the head; see sweeps.cluster.detached
FETCHED, REPLACED = ".fetched", ".replaced"  # in OUT: results on their way, and those they replace
WHOLE = ".whole"  # in FETCHED: everything has come, and is being put in place
CELLS, OPEN = "cells", "open"
RESULTS = (*TABLES, OPEN, LOGS, STATUS, RECORD)  # what is shipped; with the last it is a sweep's results
# Rows after their tensors, and the record last: who reads after a kill misses some, which settle() brings.
ORDER = (*(name for name in TABLES if name != CELLS), OPEN, LOGS, STATUS, CELLS, RECORD)


def ship_results(launcher: Launcher, name: str, local: Path, there: bool, token: str) -> None:
    """Bring results that are only here to the head; those that it has of an earlier run are fetched instead.

    Args:
        launcher: of the cluster.
        name: the sweep.
        local: the directory of its results here.
        there: whether the head has some.
        token: what the head's ``prepare`` gave to ship with.

    Raises:
        StepError: if that fails.
    """
    with _held(local):
        if there:
            _fetch(launcher, name, local)
        elif (local / RECORD).is_file() and (local / CELLS).is_dir():
            for entry in RESULTS:
                if (local / entry).exists():
                    folder = f"{entry}/" if (local / entry).is_dir() else ""
                    launcher.send(local / entry, f"{SWEEPS}/{name}/shipped-{token}/{folder}")
            launcher.ask("adopt", name, token)


def fetch_results(launcher: Launcher, name: str, local: Path) -> bool:
    """Bring the results here; those that were here stay if the head does not have them all.

    Returns:
        Whether it had any.

    Raises:
        StepError: if not all of them come, or cells that are here would be lost.
    """
    with _held(local):
        return _fetch(launcher, name, local)


def settle(local: Path) -> None:
    """Put results in place that had come when the process ended; call this before they are read."""
    if (local / FETCHED / WHOLE).is_file():
        with _held(local):
            pass


@contextmanager
def _held(local: Path) -> Iterator[None]:
    """Be the only one that changes the results here, and end what an earlier one had begun."""
    local.mkdir(parents=True, exist_ok=True)
    with open_storage(local).lock():
        if (local / FETCHED / WHOLE).is_file():
            _put_in_place(local)
        yield


def _fetch(launcher: Launcher, name: str, local: Path) -> bool:
    files = launcher.ask("results", name)["files"]
    if RECORD not in files:  # it ended before it had any
        return False
    coming = local / FETCHED
    coming.mkdir(exist_ok=True)  # what came before the connection was lost does not come again
    launcher.fetch(f"{SWEEPS}/{name}/out/", coming)
    absent = [
        path
        for path, size in files.items()
        if not (coming / path).is_file() or (coming / path).stat().st_size != size
    ]
    if absent:
        raise StepError(
            f"fetching the results failed: {len(absent)} of {len(files)} files did not come whole, "
            f"{absent[0]} for one: give the same command again; until then they stay on the cluster"
        )
    for path in sorted(coming.rglob("*")):
        if path.is_file() and str(path.relative_to(coming)) not in files:
            path.unlink()  # of an earlier attempt, and gone from the head since
    only_here = finished_cells(read_index(local)) - finished_cells(read_index(coming))
    if only_here:
        raise StepError(
            f"fetching the results failed: {local} holds {len(only_here)} cells that the cluster's results "
            f"do not: they stay, and the cluster's are in {coming}: move one of them to another directory"
        )
    shutil.rmtree(local / REPLACED, ignore_errors=True)  # of a copy that is in place
    (coming / OPEN).mkdir(exist_ok=True)  # so that it replaces that of here
    (coming / WHOLE).touch()
    _put_in_place(local)
    return True


def _put_in_place(local: Path) -> None:
    """Move a whole copy to where its readers look; what was done of it before a kill is not done again."""
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
