"""From what a user names, a directory or a URI, to the storage that it is."""

from __future__ import annotations

import os
from pathlib import Path

from lstmptq.runtime.locations import Location, is_uri, open_location
from sweeps.errors import UserError
from sweeps.storage.base import Storage
from sweeps.storage.buckets import Bucket
from sweeps.storage.directory import Directory


def open_storage(place: str | Path | Storage) -> Storage:
    """The storage that the user names.

    Args:
        place: a directory, or a URI such as ``s3://bucket/folder`` or ``gs://bucket/folder``.

    Raises:
        StoreError: if it is a URI of a kind that is not known.
    """
    if isinstance(place, Storage):
        return place
    if not is_uri(place):
        return Directory(Path(os.fspath(place)))
    return Bucket(str(place))


def user_location(given: str) -> Location:
    """A directory or a URI, as the user gave it.

    Raises:
        UserError: if it is a URI that cannot be used.
    """
    try:
        open_location(given)
    except ValueError as problem:
        raise UserError(str(problem)) from problem
    return given.rstrip("/") if is_uri(given) else Path(given)
