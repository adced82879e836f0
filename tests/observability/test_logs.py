"""One JSON object per line, with the resource that it is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pelagos.observability import logs

LOGGER = logging.getLogger("pelagos.test")
Logged = Callable[[Callable[[], None]], list[dict[str, Any]]]


@contextmanager
def configured() -> Iterator[None]:
    """Logs go to standard error as JSON during the test."""
    loggers = [logging.getLogger(name) for name in (None, "aiohttp.access", "kopf")]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    logs.configure()
    try:
        yield
    finally:
        loggers[0].handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    """The content of standard error after something was logged."""

    def run(log: Callable[[], None]) -> list[dict[str, Any]]:
        with configured():
            log()
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return run


def test_a_record_is_one_line_of_json(logged: Logged) -> None:
    (entry,) = logged(lambda: LOGGER.warning("a %s\nwith two lines", "message"))

    assert entry.pop("time").endswith("+00:00")
    assert entry == {"level": "warning", "logger": "pelagos.test", "message": "a message\nwith two lines"}


def test_the_resource_is_named_in_fields(logged: Logged) -> None:
    where = {"kind": "Dataset", "namespace": "default", "resource": "frames"}

    (entry,) = logged(lambda: LOGGER.info("Ready", extra=where))

    assert {name: entry[name] for name in where} == where


def test_fields_that_are_no_text_are_left_out(logged: Logged) -> None:
    (entry,) = logged(lambda: LOGGER.info("Ready", extra={"kind": object()}))

    assert "kind" not in entry


def test_a_traceback_stays_in_its_record(logged: Logged) -> None:
    def fail() -> None:
        try:
            raise ValueError("wrong")
        except ValueError:
            LOGGER.exception("it failed")

    (entry,) = logged(fail)

    assert entry["message"] == "it failed"
    assert "ValueError: wrong" in entry["exception"]


def test_letters_of_all_languages_are_kept(logged: Logged) -> None:
    (entry,) = logged(lambda: LOGGER.info("Küste, 海"))

    assert entry["message"] == "Küste, 海"


def test_details_are_not_logged(logged: Logged) -> None:
    def chatter() -> None:
        LOGGER.debug("a detail")
        logging.getLogger("aiohttp.access").info("GET /metrics")
        logging.getLogger("kopf").info("a detail of the framework")

    assert logged(chatter) == []
