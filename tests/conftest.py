"""What the whole suite shares: one thread, so that sums do not depend on the machine's load."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_corpus():
    """The path of an extra corpus by name; skips where the corpora are absent."""

    def find(name: str) -> Path:
        path = SHARED / f"{name}.parquet"
        if not path.is_file():
            pytest.skip(f"the extra corpus {name}.parquet is not beside the project")
        return path

    return find
