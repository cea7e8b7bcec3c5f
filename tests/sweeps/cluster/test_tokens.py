"""When Ray's token is shown to a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.cluster.tokens import make_token, token_file, use_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # so that it is put back after the test
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_token_none_is_shown(home: Path) -> None:
    use_token()
    assert home.is_dir()
    assert "RAY_AUTH_MODE" not in os.environ


def test_a_token_of_the_user_is_shown(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("token")
    use_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.usefixtures("home")
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    use_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_token_is_made_once_and_for_this_user_alone(home: Path) -> None:
    assert make_token()
    token = token_file().read_text()
    assert token_file() == home / ".ray" / "auth_token"
    assert len(token) == 64
    assert token_file().stat().st_mode & 0o777 == 0o600
    assert not make_token()
    assert token_file().read_text() == token


def test_a_token_that_everybody_could_read_is_closed(home: Path) -> None:
    folder = home / ".ray"
    folder.mkdir(mode=0o755)
    token_file().write_text("token")
    token_file().chmod(0o644)
    assert not make_token()
    assert token_file().read_text() == "token"
    assert token_file().stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
