"""The command in a process of its own, running the fake study."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--models generative --embeddings glove --bits fp32 4 --class-ratios balanced --workers 1"

FAKE = """
import sys
from ray import cloudpickle
from tests.sweeps import fake_study
from sweeps.full_grid import main

cloudpickle.register_pickle_by_value(fake_study)
sys.exit(main(sys.argv[2:], lambda grid: fake_study.FakeStudy(grid, **eval(sys.argv[1]))))
"""


def start(
    out: str | Path,
    study: str,
    *more: str,
    line: str = SMALL,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start the command, of what goes wrong in `study`; what it prints is one stream."""
    command = [sys.executable, "-c", FAKE, study, *line.split(), "--out", str(out), *more]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
