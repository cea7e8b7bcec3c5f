"""What a sweep found, read from its Parquet: needs neither torch nor Ray.

>>> import analysis
>>> cells, tensors = analysis.load("results")  # doctest: +SKIP
"""

from analysis.controls import null_controls
from analysis.failures import failures
from analysis.families import judged_shifts
from analysis.reading import Results, ResultsError, load
from analysis.scores import scores
from analysis.shifts import largest_shifts
from analysis.tables import accuracy_table, noise_table

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
