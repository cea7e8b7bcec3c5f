"""The token of a Ray cluster that demands one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def token_file() -> Path:
    """Return the path at which Ray looks for this user's token."""
    return Path.home() / ".ray" / "auth_token"


def make_token() -> bool:
    """Create this user's token if there is none, and make it readable by this user alone.

    ``ray get-auth-token --generate`` and ``ray.init`` would create a file that everybody can read (Ray 2.60).

    Returns:
        Whether a token was created.

    Raises:
        OSError: if the token cannot be created, or its permissions cannot be changed.
    """
    path = token_file()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        path.chmod(0o600)
        return False
    return True


def use_token() -> None:
    """Make Ray present this user's token to the cluster; call this before Ray is imported.

    ``ray start --head`` demands a token as soon as ``~/.ray/auth_token`` exists. A client presents it on its
    own only to a cluster that it discovers: with an address (also in ``RAY_ADDRESS``), Ray 2.60 presents none
    and is refused with InvalidAuthToken. Ray reads the mode at import, so setting it later has no effect. A
    cluster that demands no token accepts a client that presents one.
    """
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or token_file().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
