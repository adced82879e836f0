"""Classification in serving: the probabilities of all classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from pelagos.engines.triton.fields import Label, Share, Strict
from pelagos.engines.triton.tasks.strategy import Found, Output, Strategy
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

PROBABILITY = 0.01
"""How far an answer may deviate from the training framework's: as different arithmetic causes, but no other model."""


class _Class(Strict):
    label: Label
    class_id: int
    probability: Share


class _Classified(Strict):
    task: Literal["Classification"]
    width: int
    height: int
    classes: list[_Class]
    decided: bool | None = None
    threshold: Share | None = None


class Classification(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, answer = Task.CLASSIFICATION, _Classified

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """One probability per class."""
        yield "probabilities", "TYPE_FP32", [labels]

    @override
    def most(self, want: DesiredService, exported: int) -> int:
        """The package's number, because this task has no detections."""
        return exported

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare probabilities per class; and the most probable class, where it is clearly above the package's threshold."""
        got = {found["label"]: found["probability"] for found in answer["classes"]}
        for found in expected["classes"]:
            label, probability = found["label"], found["probability"]
            if abs(got.get(label, -1) - probability) > PROBABILITY:
                return f"{label}: expected probability {probability:.4f}, got {got.get(label)}"
        count = len(expected["classes"])
        if len(got) != count:
            return f"expected {count} classes, got {len(got)}"
        decided, threshold = expected.get("decided"), expected.get("threshold")
        if decided is None or threshold is None or not want.heeds_classes:
            return None
        is_clear = abs(expected["classes"][0]["probability"] - threshold) > PROBABILITY
        if not is_clear or answer.get("decided") == decided:
            return None
        return f"decided: expected {decided} at the threshold {threshold:.4f}, got {answer.get('decided')}"


STRATEGY = Classification()
