"""Prints ``--status RESULTS``: how far a sweep has come, on any machine that can read its results."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sweeps.errors import UserError
from sweeps.planning.plan import format_duration, print_failed
from sweeps.processes import is_alive
from sweeps.storage.base import Storage
from sweeps.storage.opening import open_storage
from sweeps.store.index import failed_cells, read_columns, read_index
from sweeps.store.logs import paths_of_logs
from sweeps.store.record import RECORD_FILE, read_record
from sweeps.store.status_file import read_status

SILENT_SECONDS = 120.0  # after this time without a beat a sweep is probably dead
MOST_HOSTS = 20


def print_status(place: str, console: Console, now: datetime | None = None) -> None:
    """Print the state of a sweep that runs, has ended or was killed; write nothing.

    Args:
        place: the directory or URI that was its ``--out``.
        console: where to print.
        now: the time; None: the time of this machine.

    Raises:
        UserError: if `place` holds no results of a sweep, or cannot be read.
    """
    out = open_storage(place)
    try:
        record = read_record(out)
        if record is None:
            raise UserError(
                f"{out} holds no {RECORD_FILE}, so no sweep has written there: give the directory or URI "
                "that was its --out"
            )
        status = read_status(out)
        index = read_index(out)
        hosts = _cells_by_host(out)
        logs = paths_of_logs(out)
    except OSError as problem:
        reason = out.reason(problem) or os.strerror(problem.errno or 0)
        raise UserError(f"{out} cannot be read: {reason}") from problem
    now = now or datetime.now(UTC)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    state = _describe_state(status, now)
    table.add_row("state", escape(state))
    failed = failed_cells(index)
    others = (status or {}).get("others", {"ok": 0, "failed": 0})
    counts = {
        "done": len(index) - len(failed) - others["ok"],
        "failed": len(failed) - others["failed"],
    }
    running = status is not None and state.startswith("running")
    for phase in (status or {}).get("stages", []):
        if phase["title"] != "cells":
            table.add_row(phase["title"], f"{phase['total']}: {_format_counts(phase, running)}")
    planned = (status or {}).get("planned", record.get("cells", 0))
    cells = next((s for s in (status or {}).get("stages", []) if s["title"] == "cells"), {"running": 0})
    counts |= {"running": cells["running"], "left": max(0, planned - counts["done"] - counts["failed"])}
    table.add_row("cells", f"{planned}: {_format_counts(counts, running)}")
    if status is not None:
        if status["cells_an_hour"]:
            table.add_row("rate", f"{status['cells_an_hour']:,.0f} cells an hour")
        if running:
            table.add_row("to go", _format_time_to_go(status))
        table.add_row("ran for", f"{format_duration(status['ran_seconds'])}, all runs together")
    for number, (host, count) in enumerate(hosts.most_common(MOST_HOSTS)):
        heard = (status or {}).get("hosts", {}).get(host, {}).get("seen_at") if running else None
        since = f", heard from {_format_age(heard, now)}" if heard else ""
        table.add_row("hosts" if number == 0 else "", escape(f"{host}: {count} cells{since}"))
    if len(hosts) > MOST_HOSTS:
        table.add_row("", f"and {len(hosts) - MOST_HOSTS} more")
    console.print(table)
    print_failed(failed, console, logs)
    if not running and (counts["left"] or counts["failed"]):
        sure = status is not None and not state.startswith("silent")
        how = "to go on" if sure else "if it does not run any more, to go on"
        again = "" if counts["left"] else " --retry-failed"
        command = (status or record).get("command", "")
        console.print(f"{how}: {command}{again}", highlight=False, markup=False)


def _format_counts(phase: dict[str, Any], running: bool) -> str:
    at_work = f"{phase['running']} running, " if running else ""
    return f"{phase['done']} done, {at_work}{phase['failed']} failed, {phase['left']} left"


def _describe_state(status: dict[str, Any] | None, now: datetime) -> str:
    """Say whether the sweep runs or how it ended; the text begins with the state."""
    if status is None:
        return "unknown: these results have no status.json"
    who = f"process {status['process']} on {status['host']}"
    heard = _format_age(status["updated_at"], now)
    if status["state"] == "finished":
        return f"ended {heard}"
    if status["state"] == "stopped":
        return f"stopped by Ctrl-C {heard}"
    if status["state"] == "failed":
        return f"stopped by an error {heard}: {status['reason']}"
    living = is_alive(status)
    if living is False:
        return f"killed: {who} is gone, heard from {heard}"
    if living is None and _seconds_since(status["updated_at"], now) > SILENT_SECONDS:
        return f"silent: {who} was heard from {heard}, so it is probably dead"
    return f"running: {who}, heard from {heard}"


def _format_time_to_go(status: dict[str, Any]) -> str:
    """Say how long the current phase still takes, and what comes after it."""
    if not status["stages"]:
        return "unknown: it is starting"
    phase = status["stages"][-1]
    seconds = phase["seconds_to_go"]
    text = "unknown" if seconds is None else format_duration(seconds)
    return text if phase["title"] == "cells" else f"{text} of training, then the cells"


def _cells_by_host(out: Storage) -> Counter[str]:
    """Count the finished cells of each machine."""
    rows = read_columns(out, ("cell_id", "status", "host"))
    hosts = {cell_id: host for cell_id, status, host in rows if status == "ok" and host}
    return Counter(hosts.values())


def _seconds_since(time: str, now: datetime) -> float:
    return max(0.0, (now - datetime.fromisoformat(time)).total_seconds())


def _format_age(time: str, now: datetime) -> str:
    seconds = _seconds_since(time, now)
    return f"{seconds:.0f} s ago" if seconds < 60 else f"{format_duration(seconds)} ago"
