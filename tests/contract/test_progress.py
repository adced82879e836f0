"""Of the content of a step's progress file, only what a step of ours would write is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pelagos_contract import progress
from pelagos_contract.progress import MOST_STAGES, Progress, Stage

DOCUMENT: dict[str, Any] = {
    "stage": "Evaluation",
    "since": 1.5,
    "done": 1,
    "total": 4,
    "ended": [{"stage": "Training", "seconds": 2.5}],
}


def test_a_document_is_read_as_it_was_written() -> None:
    told = progress.understood(progress.parsed(json.dumps(DOCUMENT).encode()))

    assert told is not None
    assert told.stage is Stage.EVALUATION
    assert told.written() == DOCUMENT
    assert progress.understood({}) == Progress()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[]", b'"a"', b"1" * 10_000, b"{"])
def test_what_is_no_object_is_nothing(content: bytes) -> None:
    assert progress.parsed(content) is None


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "Mining"},
        {"stage": "Training\x1b[2J"},
        {"since": float("nan")},
        {"since": 1e300},
        {"done": -1},
        {"done": 10**30},
        {"total": 0},
        {"ended": [{"stage": "Training", "seconds": 1}] * (MOST_STAGES + 1)},
        {"ended": [{"stage": "Training", "seconds": float("inf")}]},
        {"ended": {"stage": "Training"}},
        {"more": 1},
    ],
)
def test_what_no_step_of_ours_writes_is_not_understood(change: dict[str, Any]) -> None:
    assert progress.understood(DOCUMENT | change) is None
