"""For anything that a parser does in its child, the caller gets an answer or a named error, and the next task is answered."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sandbox_tasks
from pelagos_pipelines.sandbox import (
    MEBIBYTE,
    CrashError,
    LimitError,
    Limits,
    Pool,
    TaskError,
    TaskRefusedError,
    UnavailableError,
    children_for,
)

LIMITS = Limits(memory=64 * MEBIBYTE, cpu=1, deadline=30, result=8 * MEBIBYTE)
HASTY = replace(LIMITS, deadline=1)
TASKS = "sandbox_tasks"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(TASKS, LIMITS, children=2) as shared:
        yield shared


@pytest.fixture(autouse=True)
def still_answers(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the abused pool still works."""
    yield
    if "pool" in request.fixturenames:
        assert request.getfixturevalue("pool").run("echo", {"n": 1}, b"next").raw == b"next"


def zygote_of(pool: Pool) -> int:
    assert pool._zygote is not None
    return pool._zygote._process.pid


def test_arguments_and_content_come_back(pool: Pool) -> None:
    answer = pool.run("echo", {"name": "å", "n": 3}, b"\x00\xff" * 1000)

    assert (answer.document, answer.raw) == ({"name": "å", "n": 3}, b"\x00\xff" * 1000)
    assert pool.run("echo", {}, b"short").raw == b"short"


def test_an_open_file_is_read_by_its_descriptor(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        file.read()
        path.unlink()

        assert pool.run("echo", {}, file=file.fileno()).raw == b"content"


def test_a_refusal_keeps_its_words_without_control_characters(pool: Pool) -> None:
    with pytest.raises(TaskRefusedError, match=r"^line  3: no") as caught:
        pool.run("refuse", {"message": "line\x1b 3: no"})

    assert caught.value.detail == {"line": 3}


def test_an_unforeseen_failure_is_named_by_type_and_place_and_quotes_nothing(pool: Pool) -> None:
    with pytest.raises(TaskError, match=r"^ValueError at sandbox_tasks\.py:\d+$"):
        pool.run("fail", {}, b"root:x:0:0")


@pytest.mark.parametrize(
    ("task", "arguments", "kind"),
    [
        ("allocate", {"bytes": 100 * MEBIBYTE}, "memory"),
        ("allocate", {"bytes": 2**60}, "memory"),
        ("spin", {"seconds": 30}, "cpu"),
        ("answer_much", {"bytes": 9 * MEBIBYTE}, "result"),
        ("answer_much", {"bytes": MEBIBYTE, "document": True}, "result"),
        ("end", {"signal": signal.SIGKILL}, "memory"),
    ],
)
def test_the_ceiling_that_was_reached_is_named(pool: Pool, task: str, arguments: dict[str, Any], kind: str) -> None:
    with pytest.raises(LimitError) as caught:
        pool.run(task, arguments)

    assert caught.value.kind == kind


def test_a_task_that_waits_for_ever_is_ended() -> None:
    with Pool(TASKS, HASTY) as pool:
        pool.run("echo", {})
        started = time.monotonic()
        with pytest.raises(LimitError, match="not done after 1 s"):
            pool.run("sleep", {"seconds": 60})
        assert time.monotonic() - started < 10
        assert pool.run("echo", {}, b"x").raw == b"x"


def test_what_fits_is_not_refused_however_often(pool: Pool) -> None:
    for _ in range(10):
        assert pool.run("allocate", {"bytes": 48 * MEBIBYTE}).document == {"taken": 48 * MEBIBYTE}
        assert len(pool.run("answer_much", {"bytes": 8 * MEBIBYTE}).raw) == 8 * MEBIBYTE
    for _ in range(3):
        pool.run("spin", {"seconds": 0.6})


@pytest.mark.parametrize(
    ("task", "arguments", "how"),
    [
        ("crash", {}, "SIGSEGV"),
        ("end", {"signal": signal.SIGABRT}, "SIGABRT"),
        ("end", {"signal": signal.SIGBUS}, "SIGBUS"),
    ],
)
def test_a_decoder_that_crashes_is_an_error_of_its_task(
    pool: Pool, task: str, arguments: dict[str, Any], how: str
) -> None:
    with pytest.raises(CrashError, match=how):
        pool.run(task, arguments)


@pytest.mark.parametrize(
    "said",
    [
        *("x", "[]", '"x"', "{}", "[" * 50_000, "é" * 9_000),
        '{"document": {}, "size": 99999999999}',
        '{"document": {}, "size": -1}',
        '{"document": {}, "size": 1000}',
        '{"document": [], "size": 0}',
        '{"refused": 3}',
        '{"limit": "all"}',
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(pool: Pool, said: str) -> None:
    with pytest.raises(CrashError):
        pool.run("lie", {"said": said})


def test_a_child_has_no_secret_and_no_more_than_it_needs(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with Pool(TASKS, LIMITS, environment={"CEILING": "7"}) as fresh:
        found = fresh.run("describe", {}).document

    assert "secret" not in str(found)
    assert found["environment"]["CEILING"] == "7"
    assert len(found["descriptors"]) <= 7
    assert (found["noNewPrivileges"], found["core"], found["oom"]) == (True, [0, 0], "1000")


def test_a_child_writes_no_large_file(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="OSError"):
        pool.run("write_a_file", {"path": str(tmp_path / "file"), "bytes": 9 * MEBIBYTE})


def test_complaints_of_libraries_are_those_of_one_task(pool: Pool) -> None:
    assert pool.run("complain", {"text": "one"}).document == {"said": "one"}
    assert pool.run("complain", {"text": "2"}).document == {"said": "2"}


def test_threads_share_the_children_and_one_stuck_task_holds_up_nobody_else() -> None:
    with Pool(TASKS, replace(LIMITS, deadline=5), children=3) as pool, ThreadPoolExecutor(9) as threads:
        stuck = threads.submit(pool.run, "sleep", {"seconds": 30})
        pids = [threads.submit(pool.run, "describe", {}) for _ in range(60)]
        assert len({one.result().document["pid"] for one in pids}) <= 3
        assert not stuck.done()
        with pytest.raises(LimitError, match="not done after 5 s"):
            stuck.result()


def test_the_pool_outlives_the_thread_that_started_it() -> None:
    with Pool(TASKS, LIMITS) as pool:
        thread = threading.Thread(target=pool.run, args=("echo", {}))
        thread.start()
        thread.join()
        before = zygote_of(pool)
        assert pool.run("echo", {}, b"x").raw == b"x"
        assert zygote_of(pool) == before


def test_a_zygote_that_was_killed_is_replaced() -> None:
    with Pool(TASKS, LIMITS) as pool:
        pool.run("echo", {})
        os.kill(zygote_of(pool), signal.SIGKILL)
        assert pool.run("echo", {}, b"x").raw == b"x"


def test_a_forked_process_starts_its_own_children(pool: Pool) -> None:
    ours = pool.run("describe", {}).document["pid"]
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.write(writable, str(pool.run("describe", {}).document["pid"]).encode())
            pool.close()
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as answer:
        assert int(answer.read()) not in (0, ours)
    os.waitpid(pid, 0)


def test_nothing_is_left_when_the_pool_is_closed() -> None:
    pool = Pool(TASKS, LIMITS)
    child, zygote = pool.run("describe", {}).document["pid"], zygote_of(pool)
    pool.close()

    assert not any(Path(f"/proc/{pid}").exists() for pid in (child, zygote))


_PROGRAM = """
import sys
sys.path[:0] = {path!r}
from pelagos_pipelines.sandbox import Limits, Pool
pool = Pool("sandbox_tasks", Limits(1 << 26, 60, 60))
print(pool.run("describe", {{}}).document["pid"], pool._zygote._process.pid, flush=True)
pool.run("spin", {{"seconds": 50}})
"""


def test_nothing_is_left_when_the_process_that_asked_is_killed_in_the_middle() -> None:
    path = [str(Path(sandbox_tasks.__file__).parent)]
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(path=path)], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        pids = program.stdout.readline().split()
        time.sleep(0.2)
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        program.kill()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(_lives(pid) for pid in pids):
        time.sleep(0.02)
    assert not any(_lives(pid) for pid in pids)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_module_that_cannot_be_loaded_is_an_error_of_ours_and_not_a_wait() -> None:
    with Pool("no_such_module", LIMITS) as pool, pytest.raises(UnavailableError, match="did not start"):
        pool.run("echo", {})


def test_as_many_children_run_as_there_are_processors_and_half_of_the_memory_allows() -> None:
    assert children_for(LIMITS, 1) == 1
    assert 1 <= children_for(LIMITS, 64) <= (os.cpu_count() or 1)
    assert children_for(replace(LIMITS, memory=2**60), 64) == 1
