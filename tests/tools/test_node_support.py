"""Where no Kubernetes node can run, its installation says why and does not fail."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

NODE = Path(__file__).parents[2] / "tools" / "node"
_AS_NOBODY = ("unshare", "--user")
"""In a user namespace without any mapping nobody is root."""


@pytest.fixture(autouse=True)
def _user_namespaces() -> None:
    done = subprocess.run([*_AS_NOBODY, "true"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("user namespaces are not allowed here")


def test_the_reason_is_one_line() -> None:
    done = subprocess.run([*_AS_NOBODY, NODE / "supported.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "making namespaces and running a container engine need root\n"


def test_nothing_is_installed_and_nothing_fails(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [*_AS_NOBODY, NODE / "install.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("No Kubernetes node for tests on this machine: ")
    assert not list(tmp_path.iterdir())
