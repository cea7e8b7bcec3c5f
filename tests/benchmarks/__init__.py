"""Ours against straightforward code, side by side in one run: ``python -m tests.benchmarks --help``."""
