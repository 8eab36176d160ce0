"""The command line as a user types it: in a process of its own, or through Typer's own runner."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner

from model.training.record import load_episode
from server.auth import AuthConfig, Grant, grant
from server.cli import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_names_the_commands_and_imports_no_tensors() -> None:
    show = "import sys, server.cli as c; c.app(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert "record" in shown.stdout


def test_version() -> None:
    assert run("--version").strip() == version("rewander")


def test_record_writes_what_is_missing(tmp_path: Path) -> None:
    there = tmp_path / "00000007.safetensors"
    there.write_bytes(b"an episode")
    run("record", str(tmp_path), "--first-seed=7", "--episodes=2", "--length=3", "--size=32", "--workers=1")
    assert there.read_bytes() == b"an episode"
    assert load_episode(tmp_path / "00000008.safetensors").frames.shape == (3, 32, 32, 3)


def test_token_prints_one_that_the_server_accepts_for_what_it_says() -> None:
    secret = "s" * 32
    printed = run("token", "--jwt-secret", secret, "--role=player", "--session=abc", "--minutes=5").strip()
    assert grant(printed, AuthConfig(jwt_secret=secret)) == Grant("player", "abc")
    claims = jwt.decode(printed, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 300
    watching = CliRunner().invoke(app, ["token"], env={"REWANDER_JWT_SECRET": secret})
    assert grant(watching.output.strip(), AuthConfig(jwt_secret=secret)) == Grant("viewer", "")


@pytest.mark.parametrize("wrong", [["--role=owner"], ["--minutes=0"], ["--minutes=1441"], ["--jwt-secret=short"]])
def test_token_refuses_what_no_server_would_take(wrong: list[str]) -> None:
    result = CliRunner().invoke(app, ["token", *wrong], env={"REWANDER_JWT_SECRET": "s" * 32})
    assert result.exit_code == 2 and "expected" in result.output
