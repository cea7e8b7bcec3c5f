"""Ray's token, for a cluster that asks for one."""

from __future__ import annotations

import os
from pathlib import Path


def use_token() -> None:
    """Show this user's token to the cluster; call this before Ray is imported.

    ``ray start --head`` asks for a token as soon as there is one in ``~/.ray/auth_token``. A client shows it
    by itself only to a cluster that it finds itself: with an address (``RAY_ADDRESS`` too) Ray 2.60 shows
    none and is refused with InvalidAuthToken. It reads the mode when it is imported, so that setting it later
    does nothing. A cluster that asks for no token accepts one that shows it.
    """
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
