"""What continuous integration runs: everything once, in a clone apart from the checkout, with one total at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import orphans

ROOT = Path(__file__).parents[2]
NEIGHBOUR = "shared"
MAKEFILE = """
test:
	@[ "$$PELAGOS_TEST_STRICT" = 1 ] && [ ! -e ../{neighbour} ] && [ -z "$$PELAGOS_HOME$$KUBECONFIG" ] || exit 2
	@pwd > {told}
	@{test}

test-cluster:
	@{cluster}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that has only the script, beside a folder that no test may read."""
    folder = tmp_path / "checkout"
    for name in (".ci/run", "tests/orphans.py", "tests/control_groups.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / NEIGHBOUR).mkdir()
    return folder


def run(checkout: Path, test: str, cluster: str) -> tuple[str, int]:
    """The last line, and the exit code."""
    lines, code = whole(checkout, test, cluster)
    return lines[-1], code


def whole(checkout: Path, test: str, cluster: str) -> tuple[list[str], int]:
    """All lines, and the exit code."""
    told = checkout.parent / "told"
    (checkout / "Makefile").write_text(MAKEFILE.format(neighbour=NEIGHBOUR, told=told, test=test, cluster=cluster))
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    for command in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message=all")):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    environment = os.environ | {
        "PELAGOS_HOME": "/elsewhere",
        "KUBECONFIG": "/elsewhere",
        "TMPDIR": str(checkout.parent),
        orphans.PATIENCE: "1",
    }
    done = subprocess.run([checkout / ".ci/run"], env=environment, capture_output=True, text=True, check=False)
    assert not Path(told.read_text().strip()).exists(), "the clone is gone"
    return done.stdout.splitlines(), done.returncode


def counted(numbers: str) -> str:
    return f'echo "{numbers}" >> "$$PELAGOS_TEST_COUNTS"'


def test_what_failed_is_named_at_the_end(checkout: Path) -> None:
    named = 'echo "failed: tests.a::test_b" >> "$$PELAGOS_TEST_COUNTS.failed"'
    lines, code = whole(checkout, f"{counted('1 1 0')}; {named}", counted("1 0 0"))

    assert (lines[-2:], code) == (["failed: tests.a::test_b", "2 passed, 1 failed, 0 skipped"], 1)


def test_the_sum_of_both_parts_is_the_last_line(checkout: Path) -> None:
    assert run(checkout, counted("10 0 1"), counted("5 0 0")) == ("15 passed, 0 failed, 1 skipped", 0)


def test_a_failure_in_either_part_fails_and_the_other_runs(checkout: Path) -> None:
    assert run(checkout, counted("9 1 0"), counted("5 0 0")) == ("14 passed, 1 failed, 0 skipped", 1)


def test_a_part_that_breaks_off_is_a_failure(checkout: Path) -> None:
    assert run(checkout, counted("10 0 0"), "exit 3") == ("10 passed, 1 failed, 0 skipped", 1)


def test_what_a_part_leaves_running_is_ended(checkout: Path) -> None:
    number = checkout.parent / "number"
    leave = f"setsid sleep 300 > /dev/null 2>&1 & echo $$! > {number}; {counted('1 0 0')}"

    assert run(checkout, leave, counted("1 0 0")) == ("2 passed, 0 failed, 0 skipped", 0)

    state = Path(f"/proc/{number.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
