"""Objects that are deleted and do not disappear: first the operator waits, then a person must act, and the finalizer is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pelagos.engines.model_server import ending
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.ports.clock import SystemClock
from pelagos.ports.errors import UnfinishedError


def deleted(ago: float, *finalizers: str) -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    names: dict[str, Any] = {"finalizers": list(finalizers)} if finalizers else {}
    return {"metadata": {"name": "a", "namespace": "lab", "uid": "1", "deletionTimestamp": since} | names}


@pytest.mark.parametrize(("ago", "is_unfinished"), [(0, True), (30, True), (60, False), (9000, False)])
def test_a_finalizer_that_stays_is_in_the_way_after_a_while(ago: float, is_unfinished: bool) -> None:
    found = ending.unfinished(INFERENCE_SERVICES, deleted(ago, "inferenceservice.finalizers"), SystemClock())

    assert isinstance(found, UnfinishedError) == is_unfinished
    assert "InferenceService a in namespace lab is being deleted since 2" in str(found)
    assert "waits for inferenceservice.finalizers" in str(found)


def test_without_a_finalizer_nobody_is_blamed() -> None:
    assert "waits for" not in ending.words(INFERENCE_SERVICES, deleted(1))
