"""Locations of results and artifacts: a directory, or the URI of an object store."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

SCHEMES = ("s3", "gs", "gcs")
LOCATION_FORMS = "a directory, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
ANSWER_SECONDS, CONNECT_SECONDS = 30.0, 10.0  # a slower object store counts as unreachable

Location = str | Path  # as the user gives it


def is_uri(location: Location) -> bool:
    """Return whether `location` names an object store, such as ``s3://bucket/folder``, not a directory."""
    return "://" in str(location)


def join_location(location: Location, name: str) -> Location:
    """Append `name` to `location`."""
    return f"{str(location).rstrip('/')}/{name}" if is_uri(location) else Path(location) / name


def open_location(location: Location) -> tuple[fs.FileSystem, str]:
    """Return the file system of `location` and the path on it.

    The credentials, region and endpoint of an object store come from the usual environment: for S3
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION`` and ``AWS_ENDPOINT_URL``, or the role.

    Raises:
        ValueError: if the URI has an unknown scheme or cannot be used.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), str(Path(location).absolute())
    uri = str(location)
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{uri} has an unknown scheme: use {LOCATION_FORMS}")
    if parts.query or parts.fragment or not parts.netloc:
        raise ValueError(
            f"{uri} is not a location in a bucket: use {LOCATION_FORMS}; region and endpoint come from "
            "the environment, as AWS_REGION and AWS_ENDPOINT_URL"
        )
    path = f"{parts.netloc}{parts.path}".rstrip("/")
    try:
        if parts.scheme == "s3":
            return _s3(parts.netloc), path
        files, path = fs.FileSystem.from_uri(uri)
        return files, path.rstrip("/")
    except (pa.ArrowInvalid, OSError) as problem:
        raise ValueError(
            f"{uri} cannot be used ({' '.join(str(problem).split())}): use {LOCATION_FORMS}"
        ) from problem


def _s3(bucket: str) -> fs.FileSystem:
    """Create the file system of Amazon S3 or of a compatible object store.

    Unlike Amazon's tools and Polars, pyarrow ignores the endpoint in the environment, reads the region from
    only one variable, and waits only 3 seconds for an answer.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options = {"request_timeout": ANSWER_SECONDS, "connect_timeout": CONNECT_SECONDS}
    if not endpoint:
        return fs.S3FileSystem(region=region or fs.resolve_s3_region(bucket), **options)
    there = urlsplit(endpoint)
    return fs.S3FileSystem(
        region=region,
        scheme=there.scheme,
        endpoint_override=f"{there.netloc}{there.path}".rstrip("/"),
        **options,
    )
