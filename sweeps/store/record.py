"""``OUT/sweep.json``: the sweep that a directory of results belongs to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

from lstmptq.results import SCHEMA_VERSION
from lstmptq.runtime.provenance import describe_versions, git_sha
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.planning.samples import Sample, count_cells
from sweeps.planning.study import PlannedGrid
from sweeps.storage.base import Storage

RECORD_FILE = "sweep.json"
_WHO_AND_WHEN = ("command", "started_at", "earlier")


def grid_as_json(grid: PlannedGrid) -> dict[str, Any]:
    """Return the axes and settings of a grid, JSON-ready: ``{"axes": {...}, "settings": {...}}``."""
    return {
        "axes": {axis: [_plain(value) for value in getattr(grid, axis)] for axis in grid.AXES},
        "settings": {name: _plain(getattr(grid, name)) for name in grid.SETTINGS},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Source):
        return value.identity()
    if is_dataclass(value) and not isinstance(value, type):
        return json.loads(json.dumps(asdict(value)))  # with tuples as lists, as they are read back
    return value


def read_record(out: Storage) -> dict[str, Any] | None:
    """Read the record in `out`; None where no sweep has started yet.

    Raises:
        StoreError: if `out` holds anything but the results of a sweep.
    """
    if out.is_file():
        raise StoreError(f"{out} is a file, not a directory of results: choose another --out")
    if not out.exists(RECORD_FILE):
        if out.exists("cells"):
            raise StoreError(
                f"{out} has a directory cells but no {RECORD_FILE}, so it is not known which sweep made it: "
                f"put its {RECORD_FILE} back, or choose another --out"
            )
        return None
    try:
        record = json.loads(out.read(RECORD_FILE))
        if not isinstance(record["grid"]["settings"], dict) or not isinstance(record["grid"]["axes"], dict):
            raise TypeError("grid")
    except (ValueError, KeyError, TypeError) as problem:
        raise StoreError(
            f"{out.path(RECORD_FILE)} is not the record of a sweep ({type(problem).__name__}: {problem}): "
            "put the original back, or choose another --out"
        ) from problem
    found: dict[str, Any] = record
    return found


def check_record(out: Storage, record: dict[str, Any], grid: PlannedGrid) -> None:
    """Check that rows of `grid` may stand beside the rows in `out`.

    More or fewer values on an axis are fine, because a row does not depend on other cells.

    Raises:
        StoreError: if `out` was made by another schema version, on other datasets or with other settings.
    """
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{out} holds results of schema version {version}, this program writes version {SCHEMA_VERSION}: "
            "choose another --out"
        )
    wanted = grid_as_json(grid)
    differences = []
    there, here = (_name_datasets(found["axes"].get("datasets", [])) for found in (record["grid"], wanted))
    if there != here:
        differences.append(f"dataset is {', '.join(there)} there and {', '.join(here)} here")
    settings = record["grid"]["settings"]
    differences += [
        f"{name} is {json.dumps(settings.get(name))} there and {json.dumps(value)} here"
        for name, value in wanted["settings"].items()
        if settings.get(name) != value
    ]
    if differences:
        raise StoreError(
            f"{out} holds the results of another sweep: {'; '.join(differences)}: "
            "choose another --out, or ask for the same"
        )


def _name_datasets(datasets: Sequence[dict[str, str]]) -> list[str]:
    return sorted(
        source["name"] + (f" ({source['digest']})" if source["digest"] else "") for source in datasets
    )


def update_record(
    out: Storage,
    record: dict[str, Any] | None,
    grid: PlannedGrid,
    command: str,
    sample: Sample | None = None,
) -> None:
    """Create or update ``sweep.json``.

    The record describes the latest grid, and the sample of it if there is one. A record that is replaced,
    because the grid or the code has changed, is kept under ``earlier``. Running the same command again leaves
    the file as it is.
    """
    current: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "grid": grid_as_json(grid),
        "cells": count_cells(grid, sample),
        **({"sample": {"of": count_cells(grid, None), "seed": sample.seed}} if sample else {}),
        "versions": json.loads(describe_versions()),
        "git_sha": git_sha(),
    }
    if record is not None and current == {k: v for k, v in record.items() if k not in _WHO_AND_WHEN}:
        return
    earlier: list[dict[str, Any]] = []
    if record is not None:
        earlier = [*record.get("earlier", []), {k: v for k, v in record.items() if k != "earlier"}]
    current |= {
        "command": command,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "earlier": earlier,
    }
    out.write(RECORD_FILE, json.dumps(current, indent=2).encode())
