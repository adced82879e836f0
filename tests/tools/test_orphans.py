"""Processes that outlive the tests which started them are found, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import orphans

MARK = f"{os.environ.get(orphans.VARIABLE, '')}.of-orphans"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {orphans.VARIABLE: f"{MARK}.7"}
    # Only the variable connects it: it has another session, and finally another parent.
    with subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True) as running:
        yield running
        running.kill()


def test_a_process_of_the_run_is_found_and_ended(process: subprocess.Popen[bytes]) -> None:
    (found,) = orphans.of(MARK)
    assert (found.pid, found.command) == (process.pid, "sleep 60")

    orphans.end([found])

    assert process.wait(60) == -9
    assert orphans.settled(MARK) == []


def test_a_process_of_another_run_is_not_found(process: subprocess.Popen[bytes]) -> None:
    assert orphans.of(f"{MARK}.70") == []
    assert orphans.of(MARK[:-1]) == []


def test_what_asks_is_none() -> None:
    environment = os.environ | {orphans.VARIABLE: f"{MARK}.8"}
    done = subprocess.run(
        [sys.executable, orphans.__file__, f"{MARK}.8"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
