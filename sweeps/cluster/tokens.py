"""Ray's token, for a cluster that asks for one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def token_file() -> Path:
    """Where Ray looks for this user's token."""
    return Path.home() / ".ray" / "auth_token"


def make_token() -> bool:
    """Make this user's token, readable by nobody else, as ``ray get-auth-token --generate`` makes one.

    One that is there is kept and closed to others: ``ray.init`` leaves it readable by everybody.

    Returns:
        Whether there was none.

    Raises:
        OSError: if it cannot be made or closed.
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
    """Show this user's token to the cluster; call this before Ray is imported.

    ``ray start --head`` asks for a token as soon as there is one in ``~/.ray/auth_token``. A client shows it
    by itself only to a cluster that it finds itself: with an address (``RAY_ADDRESS`` too) Ray 2.60 shows
    none and is refused with InvalidAuthToken. It reads the mode when it is imported, so that setting it later
    does nothing. A cluster that asks for no token accepts one that shows it.
    """
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or token_file().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
