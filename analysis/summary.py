"""The answer of a sweep on one page, for a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType

from analysis.controls import null_controls
from analysis.pages import accuracy_page, failures_page, header_page, noise_page, shifts_page
from analysis.printing import new_console
from analysis.reading import load
from analysis.verdicts import failed_controls, rates_page
from lstmptq.places import Place


def print_accuracy(results_path: Place, console: Console | None = None) -> None:
    """Print the accuracy tables alone, as far as the sweep has come.

    Args:
        results_path: the sweep's ``--out``.
        console: where to print; None is the standard output.

    Raises:
        ResultsError: if there are no results at `results_path`.
    """
    console = console or new_console()
    results = load(results_path)
    _print(accuracy_page(results.cells, console.width), console)


def print_summary(path: Place, console: Console | None = None, shifts: int = 5) -> None:
    """Print everything: what was run, accuracy, noise, the largest shifts, failed cells.

    Args:
        path: the sweep's ``--out``.
        console: where to print; None is the standard output.
        shifts: tensors listed per contrast and kind, at least 1.

    Raises:
        ResultsError: if there are no results at `path`.
        ValueError: if `shifts` is below 1.
    """
    console = console or new_console()
    results = load(path)
    cells = results.cells
    _print(header_page(results, str(path)), console)
    controls = null_controls(results.tensors, results.cells)
    _print(failed_controls(controls), console)
    _print(accuracy_page(cells, console.width), console)
    _print(noise_page(cells, console.width), console)
    _print(shifts_page(results, shifts), console)
    if not controls.is_empty():
        _print(rates_page(controls), console)
    _print(failures_page(cells), console)


def _print(page: list[RenderableType], console: Console) -> None:
    for part in page:
        console.print(part)
