"""Numbers and their uncertainty, as frames; nothing is printed here. Imports `frames`."""
