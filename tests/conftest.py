"""What the whole suite shares: one thread, so that sums do not depend on the load, and a tiny corpus."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("untimed")

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


TOPICS = ("apple", "brick", "cloud")


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> tuple[Path, Path]:
    """A corpus in CSV (unbalanced, 150 documents) and a GloVe file of 8 columns."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    shared = [f"word{i}" for i in range(30)]
    rows = []
    for label, (topic, count) in enumerate(zip(TOPICS, (70, 50, 30), strict=True)):
        own = [f"{topic}{i}" for i in range(6)]
        for document in range(count):
            words = list(rng.choice(shared, size=rng.integers(2, 10))) + list(rng.choice(own, size=6))
            rng.shuffle(words)
            rows.append({"text": " ".join([*words, f"mark{label}x{document}"]), "label": topic})
    pl.DataFrame(rows).write_csv(folder / "tiny.csv")
    words = shared + [f"{topic}{i}" for topic in TOPICS for i in range(6)]
    lines = [" ".join([word, *(f"{x:.4f}" for x in rng.normal(size=8))]) for word in words]
    (folder / "tiny.txt").write_text("\n".join(lines) + "\n")
    return folder / "tiny.csv", folder / "tiny.txt"
