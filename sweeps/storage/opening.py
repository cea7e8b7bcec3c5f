"""From a location that the user names to its storage."""

from __future__ import annotations

import os
from pathlib import Path

from lstmptq.runtime.locations import Location, is_uri, open_location
from sweeps.errors import UserError
from sweeps.storage.base import Storage
from sweeps.storage.buckets import Bucket
from sweeps.storage.directory import Directory


def open_storage(place: Location | Storage) -> Storage:
    """Return the storage that the user names; a storage is returned as it is.

    Args:
        place: a directory, or a URI such as ``s3://bucket/folder`` or ``gs://bucket/folder``.

    Raises:
        StoreError: if it is a URI of an unknown kind.
    """
    if isinstance(place, Storage):
        return place
    if not is_uri(place):
        return Directory(Path(os.fspath(place)))
    return Bucket(str(place))


def user_location(given: str) -> Location:
    """Check a directory or a URI that the user gave, and return it.

    Raises:
        UserError: if it is a URI that cannot be used.
    """
    try:
        open_location(given)
    except ValueError as problem:
        raise UserError(str(problem)) from problem
    return given.rstrip("/") if is_uri(given) else Path(given)
