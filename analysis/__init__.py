"""What a sweep found, read from its Parquet: needs neither torch nor Ray.

>>> import analysis
>>> cells, tensors = analysis.load("results")  # doctest: +SKIP
"""

from analysis.frames.failures import failures
from analysis.frames.reading import Results, ResultsError, load
from analysis.statistics.controls import null_controls
from analysis.statistics.families import judged_shifts
from analysis.statistics.scores import scores
from analysis.statistics.shifts import largest_shifts
from analysis.statistics.tables import accuracy_table, noise_table

__all__ = [
    "Results",
    "ResultsError",
    "accuracy_table",
    "failures",
    "judged_shifts",
    "largest_shifts",
    "load",
    "noise_table",
    "null_controls",
    "scores",
]
