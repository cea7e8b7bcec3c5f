"""What a sweep found, read from its Parquet: needs neither torch nor Ray.

>>> import analysis
>>> cells, tensors = analysis.load("results")  # doctest: +SKIP
"""

from analysis.failures import failures
from analysis.reading import Results, ResultsError, load
from analysis.scores import scores
from analysis.shifts import largest_shifts
from analysis.tables import accuracy_table, noise_table

__all__ = [
    "Results",
    "ResultsError",
    "accuracy_table",
    "failures",
    "largest_shifts",
    "load",
    "noise_table",
    "scores",
]
