"""A sweep on a cluster that this machine is not part of: ``--cluster`` from a laptop."""

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
from sweeps.cluster.launcher import Launcher
from sweeps.cluster.results import SWEEPS, fetch_results, ship_results
from sweeps.commands import program
from sweeps.errors import UserError
from sweeps.options import SweepConfig

OURS = ("out", "artifacts", "cluster", "cluster_config", "down", "stop", "dry_run")  # said otherwise
ENDED = {0, 1}  # exit codes of a sweep that is over: 1 if cells failed


def run_from_outside(config: SweepConfig, grid: Grid, out: Location, console: Console) -> int:
    """Run a sweep on the cluster of ``--cluster-config``, or go on watching it, and bring its results here.

    Args:
        config: what the user asked for.
        grid: its grid.
        out: the directory, here, or the URI that the results are to be in.
        console: where to say what is done.

    Returns:
        The sweep's exit code.

    Raises:
        StepError: if a step fails; the text says which, and what to do.
    """
    local = None if is_uri(out) else Path(out)
    name = sweep_name(str(out))
    if config.artifacts is not None and not is_uri(config.artifacts):
        raise UserError(
            f"--artifacts {config.artifacts} is a directory of this machine, and the sweep runs on a "
            "cluster: leave it out, or name a URI"
        )
    launcher = open_launcher(config, local or Path("results", name), console)
    try:
        offset = _start(launcher, config, grid, out, console)
    except KeyboardInterrupt:
        console.print(
            f"\ncluster {launcher.name} may be up, and cost. To take it down: {_command(config, '--down')}",
            highlight=False, markup=False,
        )  # fmt: skip
        raise
    try:
        code = launcher.follow(name, offset, _show)
    except KeyboardInterrupt:
        end = _command(config, "--cluster", "--stop", "--out", str(out))
        console.print(
            f"\nthe sweep goes on; the same command shows it again. To end it: {end}",
            highlight=False, markup=False,
        )  # fmt: skip
        raise
    if local is None:
        launcher.ask("fetched", name)
    elif fetch_results(launcher, name, local):
        console.print(f"fetched the results to {local}", highlight=False)
        launcher.ask("fetched", name)
    if code not in ENDED:
        why = (
            "without an exit code: was the machine restarted?"
            if code is None
            else f"with code {code}: see above"
        )
        raise StepError(
            f"running the sweep failed: it ended on the head {why} The same command goes on with it"
        )
    return code


def _start(launcher: Launcher, config: SweepConfig, grid: Grid, out: Location, console: Console) -> int:
    """Bring the cluster up and start the sweep, or find it there; where in its log to begin."""
    local = None if is_uri(out) else Path(out)
    name = sweep_name(str(out))
    survey = launcher.up()
    arguments = to_arguments(config, shipped_paths(config, grid))
    if not survey["sweeps"].get(name, {}).get("running"):
        _ship(launcher, name, grid, local)
    request = {
        "name": name,
        "arguments": arguments,
        "out": None if local else str(out),
        "artifacts": str(config.artifacts) if config.artifacts else None,
    }
    begun = launcher.ask("start", request)
    if not begun["started"] and begun["arguments"] != arguments:
        raise StepError(
            "starting the sweep failed: another one with the same --out runs: "
            f"{shlex.join(begun['arguments'])}: wait for it, choose another --out, or end it with: "
            f"{_command(config, '--cluster', '--stop', '--out', str(out))}"
        )
    verb = "started" if begun["started"] else "runs already: watching"
    console.print(
        f"sweep {name} {verb}; it goes on without this machine (Ctrl-C stops watching)", highlight=False
    )
    offset: int = begun["offset"]
    return offset


def stop_sweep(config: SweepConfig, out: Location, console: Console) -> int:
    """End the sweep on the cluster whose results go to `out`, as Ctrl-C would: what is finished stays.

    Args:
        config: what the user asked for.
        out: the directory or URI, as it was given to the sweep.
        console: where to say what is done.

    Returns:
        The exit code: 0.

    Raises:
        StepError: if that fails, or if there is no such sweep.
    """
    name = sweep_name(str(out))
    launcher = open_launcher(config, out, console)
    survey = launcher.find()
    if survey is None:
        console.print(f"no cluster {launcher.name} is up", highlight=False)
        return 0
    sweeps = survey["sweeps"]
    if name not in sweeps:
        raise StepError(
            f"stopping the sweep failed: cluster {launcher.name} has none with --out {out}, but "
            f"{', '.join(sweeps) or 'none'}: give the --out of the command that started it"
        )
    if not sweeps[name]["running"]:
        console.print(f"sweep {name} does not run", highlight=False)
        return 0
    if not launcher.ask("stop", name)["stopped"]:
        raise StepError(
            f"stopping the sweep failed: {name} is just beginning or ending: give the same command again"
        )
    console.print(
        f"sweep {name} is told to stop; what is finished stays, and its command goes on with it",
        highlight=False,
    )
    return 0


def take_down(config: SweepConfig, folder: Location, console: Console, alone: bool = False) -> int:
    """Take the cluster of ``--cluster-config`` down, unless that would lose something.

    Args:
        config: what the user asked for.
        folder: where Ray's log goes.
        console: where to say what is done.
        alone: whether ``--down`` is all that was asked for; if not, a cluster in use is left up.

    Returns:
        The exit code: 0.

    Raises:
        StepError: if that fails, or if the cluster is in use.
    """
    launcher = open_launcher(config, folder, console)
    try:
        survey = launcher.find()
    except StepError as problem:
        raise StepError(
            f"{problem}\n`ray down {launcher.path}` takes the cluster down without asking what is on it"
        ) from problem
    if survey is None:
        machines = launcher.machines()
        if not machines:
            console.print(f"no cluster {launcher.name} is up", highlight=False)
            return 0
        console.print(
            f"cluster {launcher.name} has no head that works; machines that run: {len(machines)}",
            highlight=False,
        )
    for name, sweep in (survey["sweeps"] if survey else {}).items():
        lost = sweep["running"] or (sweep["kept"] and not sweep["fetched"])
        if lost:
            why = "runs on it" if sweep["running"] else "left results on it that were not fetched"
            text = f"cluster {launcher.name} stays up: sweep {name} {why}: {shlex.join(sweep['arguments'])}"
            if alone:
                raise StepError(
                    f"{text}: its own command with --cluster brings the results; "
                    f"`ray down {launcher.path}` takes the cluster down all the same"
                )
            console.print(text, highlight=False)
            return 0
    launcher.down()
    console.print(f"cluster {launcher.name} is down", highlight=False)
    return 0


def open_launcher(config: SweepConfig, folder: Location, console: Console) -> Launcher:
    """The cluster's launcher, with its log in `folder`; in ``results`` if that is a URI."""
    folder = Path("results") if is_uri(folder) else Path(folder)
    return Launcher(
        Path(config.cluster_config), folder / "cluster.log", lambda text: console.print(text, highlight=False)
    )


def sweep_name(out: str) -> str:
    """The name of a sweep on the head, by where its results go: one directory's name, whatever `out` is.

    The same ``--out``, as it is written, is the same sweep, also from another machine.
    """
    place = out if is_uri(out) else str(Path(out))
    words = re.sub(r"[^a-z0-9]+", "-", place.lower()).strip("-")[-40:].strip("-")
    return f"{words or 'sweep'}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def shipped_paths(config: SweepConfig, grid: Grid) -> dict[str, tuple[Source, str]]:
    """The files that the command line names: by the word for one, the source and the word for the head."""
    words = [(word, word, source) for word, source in zip(config.dataset, grid.datasets, strict=True)]
    for word, source in zip(config.embeddings, grid.embeddings, strict=True):
        words.append((word, word.partition(":")[2], source))
    found = {}
    for word, path, source in words:
        # a named corpus has no location, and a pipeline is installed by its name
        if source.location and source.location != source.digest:
            there = f"{SWEEPS}/files/{source.digest}/{Path(path).name}"
            found[word] = source, word.removesuffix(path) + there
    return found


def to_arguments(config: SweepConfig, shipped: dict[str, tuple[Source, str]]) -> list[str]:
    """The command line of `config` for the head, with the paths of files there."""
    words = []
    for field in fields(config):
        value = getattr(config, field.name)
        default = field.default if field.default is not MISSING else None
        if field.name in OURS or value == default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += [flag, *(shipped[one][1] if one in shipped else str(one) for one in map(str, values))]
    return words


def _ship(launcher: Launcher, name: str, grid: Grid, local: Path | None) -> None:
    """Bring to the head what the sweep needs: the user's files, and results that are only here."""
    there = launcher.ask("prepare", name, [source.digest for source in _files(grid)])
    for source in _files(grid):
        if source.digest in there["missing"]:
            launcher.send(Path(source.location), f"{SWEEPS}/files/{source.digest}/")
    if local is not None:
        ship_results(launcher, name, local, there["results"], there["token"])


def _files(grid: Grid) -> list[Source]:
    return [s for s in (*grid.datasets, *grid.embeddings) if s.location and s.location != s.digest]


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _command(config: SweepConfig, *flags: str) -> str:
    """How to call the command here for the same cluster."""
    file = config.cluster_config
    named = () if file == SweepConfig().cluster_config else ("--cluster-config", file)
    return shlex.join([*program("full_grid.py"), *flags, *named])
