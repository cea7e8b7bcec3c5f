"""Numbers and their uncertainty, as frames, printed by nobody here: imports `frames`."""
