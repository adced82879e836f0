"""The search for secrets in command lines finds one that exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import command_lines


def test_a_secret_in_a_command_line_is_found(tmp_path: Path) -> None:
    secret = "c2f7a1e09b4d5f6688aa"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/tokens.csv").write_text(f"{secret},pelagos-admin,pelagos-admin,system:masters\n")
    (tmp_path / "state.json").write_text('{"digest": "0123456789abcdef0123"}')
    secrets = command_lines.secrets_of(tmp_path)
    assert secrets == {secret.encode()}
    assert command_lines.told(secrets) == []
    program = "import sys; print('here', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, f"--restricted={secret}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # A process that has just started has no command line for a moment.
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        ((line, found),) = command_lines.told(secrets)
        assert b"--restricted" in line
        assert found == secret.encode()
    finally:
        process.communicate(timeout=60)
