"""Run ``--cluster`` from a laptop: a sweep on a cluster that this machine does not belong to."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from dataclasses import MISSING, fields
from pathlib import Path

from rich.console import Console

from lstmptq.runtime.locations import Location, is_uri
from lstmptq.spec.grid import Grid
from lstmptq.text.sources import Source
from sweeps.cluster.config import StepError
from sweeps.cluster.launcher import AGAIN, Launcher
from sweeps.cluster.results import SWEEPS, fetch_results, ship_results
from sweeps.commands import program
from sweeps.errors import UserError
from sweeps.options import SweepConfig

# fields that the head node's command line does not take over, or that detached.start sets
OMITTED = ("out", "artifacts", "cluster", "cluster_config", "down", "stop", "dry_run")
ENDED = {0, 1}  # exit codes of a sweep that ran to its end: 1 if cells failed


def run_from_outside(config: SweepConfig, grid: Grid, out: Location, console: Console) -> int:
    """Run a sweep on the cluster of ``--cluster-config``, or resume watching it, and fetch its results.

    Args:
        config: the user's command line.
        grid: its grid.
        out: the directory on this machine, or the URI, for the results.
        console: shows the progress.

    Returns:
        The sweep's exit code.

    Raises:
        StepError: if a step fails; the text says which one and what to do.
    """
    local = None if is_uri(out) else Path(out)
    name = name_sweep(str(out))
    if config.artifacts is not None and not is_uri(config.artifacts):
        raise UserError(
            f"--artifacts {config.artifacts} is a directory of this machine, but the sweep runs on a "
            "cluster: leave it out, or name a URI"
        )
    launcher = open_launcher(config, local or Path("results", name), console)
    stop = _format_command(config, "--cluster", "--stop", "--out", str(out))
    down = _format_command(config, "--down")
    hint = f"cluster {launcher.name} may be up and cost money. To tear it down: {down}"
    try:
        offset = _start(launcher, config, grid, out, stop)
        hint = f"the sweep goes on; the same command shows it again. To end it: {stop}"
        code = launcher.follow(name, offset, _show)
    except KeyboardInterrupt:
        console.print(f"\n{hint}", highlight=False, markup=False)
        raise
    if local is None:
        launcher.ask("fetched", name)
    elif fetch_results(launcher, name, local):
        launcher.say(f"fetched the results to {local}")
        launcher.ask("fetched", name)
    if code not in ENDED:
        why = f"with code {code}: see above" if code else "without an exit code: was the machine restarted?"
        raise StepError(
            f"running the sweep failed: it ended on the head node {why} The same command resumes it"
        )
    return code


def _start(launcher: Launcher, config: SweepConfig, grid: Grid, out: Location, stop: str) -> int:
    """Bring the cluster up and start the sweep unless it is running; return where in its log to begin."""
    name = name_sweep(str(out))
    survey = launcher.bring_up()
    shipped = map_shipped_files(config, grid)
    arguments = to_arguments(config, {word: there for word, (_, there) in shipped.items()})
    if not survey["sweeps"].get(name, {}).get("running"):
        sources = [source for source, _ in shipped.values()]
        files = {f"{source.digest}/{Path(source.location).name}": source for source in sources}
        state = launcher.ask("prepare", name, list(files))
        for file in state["missing"]:
            launcher.send(Path(files[file].location), f"{SWEEPS}/files/{files[file].digest}/")
        if not is_uri(out):
            ship_results(launcher, name, Path(out), state["results"], state["token"])
    request = {
        "name": name,
        "arguments": arguments,
        "out": str(out) if is_uri(out) else None,
        "artifacts": str(config.artifacts) if config.artifacts else None,
    }
    answer = launcher.ask("start", request)
    if not answer["started"] and answer["arguments"] != arguments:
        raise StepError(
            "starting the sweep failed: another sweep with the same --out is running: "
            f"{shlex.join(answer['arguments'])}: wait for it, choose another --out, or end it with: {stop}"
        )
    verb = "started" if answer["started"] else "is already running: watching it"
    launcher.say(f"sweep {name} {verb}; it goes on without this machine (Ctrl-C stops watching)")
    offset: int = answer["offset"]
    return offset


def stop_sweep(config: SweepConfig, out: Location, console: Console) -> None:
    """End the sweep on the cluster whose results go to `out`, as Ctrl-C would: finished cells are kept.

    Raises:
        StepError: if that fails, or if there is no such sweep.
    """
    name = name_sweep(str(out))
    launcher = open_launcher(config, out, console)
    survey = launcher.find()
    sweeps = survey["sweeps"] if survey else {}
    if survey is None:
        launcher.say(f"cluster {launcher.name} is not up")
    elif name not in sweeps:
        raise StepError(
            f"stopping the sweep failed: cluster {launcher.name} has no sweep with --out {out}; it has "
            f"{', '.join(sweeps) or 'none'}: use the --out of the command that started the sweep"
        )
    elif not sweeps[name]["running"]:
        launcher.say(f"sweep {name} is not running")
    elif not launcher.ask("stop", name)["stopped"]:
        raise StepError(f"stopping the sweep failed: {name} is just starting or ending: {AGAIN}")
    else:
        launcher.say(
            f"told sweep {name} to stop; finished cells are kept, and the command that started it resumes it"
        )


def take_down(config: SweepConfig, folder: Location, console: Console, alone: bool = False) -> None:
    """Tear the cluster of ``--cluster-config`` down, unless that would lose something.

    Args:
        config: the user's command line.
        folder: the directory for Ray's log.
        console: shows what is done.
        alone: whether ``--down`` was given without ``--cluster``; only then is a cluster in use an error.

    Raises:
        StepError: if that fails, or with `alone` if the cluster is in use.
    """
    launcher = open_launcher(config, folder, console)
    try:
        survey = launcher.find()
    except StepError as problem:
        raise StepError(
            f"{problem}\n`ray down {launcher.path}` tears the cluster down without checking what is on it"
        ) from problem
    if survey is None:
        machines = launcher.list_machines()
        if not machines:
            launcher.say(f"cluster {launcher.name} is not up")
            return
        launcher.say(f"cluster {launcher.name} has no working head node; running machines: {len(machines)}")
    for name, sweep in (survey["sweeps"] if survey else {}).items():
        if sweep["running"] or (sweep["kept"] and not sweep["fetched"]):
            why = "is running on it" if sweep["running"] else "has results on it that nobody has fetched"
            text = f"cluster {launcher.name} stays up: sweep {name} {why}: {shlex.join(sweep['arguments'])}"
            if alone:
                raise StepError(
                    f"{text}: its own command with --cluster fetches the results; "
                    f"`ray down {launcher.path}` tears the cluster down anyway"
                )
            launcher.say(text)
            return
    launcher.take_down()
    launcher.say(f"cluster {launcher.name} is down")


def open_launcher(config: SweepConfig, folder: Location, console: Console) -> Launcher:
    """Open the cluster's launcher, with its log in `folder`, or in ``results`` if that is a URI."""
    folder = Path("results") if is_uri(folder) else Path(folder)
    return Launcher(
        Path(config.cluster_config), folder / "cluster.log", lambda text: console.print(text, highlight=False)
    )


def name_sweep(out: str) -> str:
    """Name a sweep after the location of its results, as a directory name that is valid for any `out`.

    The same ``--out``, as written, names the same sweep on every machine.
    """
    location = out if is_uri(out) else str(Path(out))
    words = re.sub(r"[^a-z0-9]+", "-", location.lower()).strip("-")[-40:].strip("-")
    return f"{words or 'sweep'}-{hashlib.sha256(location.encode()).hexdigest()[:8]}"


def map_shipped_files(config: SweepConfig, grid: Grid) -> dict[str, tuple[Source, str]]:
    """Find the files among the values of the command line: by value, the source and the head node's value."""
    values = [(word, word, source) for word, source in zip(config.dataset, grid.datasets, strict=True)]
    for word, source in zip(config.embeddings, grid.embeddings, strict=True):
        values.append((word, word.partition(":")[2], source))
    found = {}
    for word, path, source in values:
        # a named corpus has no location, and the location of a pipeline is its package name
        if source.location and source.location != source.digest:
            there = f"{SWEEPS}/files/{source.digest}/{Path(path).name}"
            found[word] = source, word.removesuffix(path) + there
    return found


def to_arguments(config: SweepConfig, shipped: dict[str, str]) -> list[str]:
    """Write the head node's command line for `config`; `shipped` replaces values that name files here."""
    words = []
    for field in fields(config):
        value = getattr(config, field.name)
        default = field.default if field.default is not MISSING else None
        if field.name in OMITTED or value == default:
            continue
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        flag = f"--{field.name.replace('_', '-')}"
        words += [flag, *(shipped.get(str(one), str(one)) for one in values)]
    return words


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _format_command(config: SweepConfig, *flags: str) -> str:
    """Write the command that is to be run here for the same cluster."""
    file = config.cluster_config
    named = () if file == SweepConfig().cluster_config else ("--cluster-config", file)
    return shlex.join([*program("full_grid.py"), *flags, *named])
