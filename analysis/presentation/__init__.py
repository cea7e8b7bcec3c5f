"""How anything is shown, on a terminal, on paper, in a chart: imports `frames` and `statistics`."""
