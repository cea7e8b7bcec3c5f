"""The studies that a sweep can run, and the part of a grid that is left to run. Imports `storage`."""
