"""Finds runs that their server reports as running but that can never end by themselves. Pure; called by `sight`.

A server keeps reporting the last state of a run whose Workflow was deleted, and of all runs while its persistence agent is down.
Argo may not notice that a pod was deleted, and without rights on workflowtaskresults it does not notice that one has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pelagos.engines.kubeflow import causes, facts
from pelagos.engines.kubeflow.facts import Facts
from pelagos.ports.pipelines import RunState

_ENDED = frozenset({"Succeeded", "Failed", "Error"})
"""Final phases of a Workflow."""
_UNTOLD = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Loss:
    """The state that a lost run counts as, and why; ``since`` is when it was lost by the cluster's clocks, None if unknown."""

    state: RunState
    message: str
    since: datetime | None = None


def of_run(seen: Facts, steps: Sequence[str]) -> Loss | None:
    """The first loss that is found; None while the run may still continue."""
    alive = [pod for pod in seen.pods if not facts.has_ended(pod)]
    if not seen.is_known or alive:
        return None
    if seen.workflow is None:
        return Loss(
            RunState.INTERRUPTED,
            "the run's Argo Workflow no longer exists (somebody deleted it), and the server has not noticed",
        )
    if seen.phase in _ENDED:
        cause = causes.of_failure(seen, steps)
        why = f" ({cause.sentence})" if cause is not None else ""
        return Loss(
            cause.state if cause is not None else RunState.FAILED,
            f"the run's Argo Workflow has ended ({seen.phase}), and the server has not noticed{why}. Check whether its "
            "persistence agent runs",
            seen.ended_at,
        )
    for node in seen.nodes:
        step = facts.step_in(node.path, steps)
        if step and node.phase == "Running" and seen.pod_of(node) is None:
            return Loss(
                RunState.INTERRUPTED,
                f"the pod of step {step} ended without an outcome, and its Workflow still runs",
            )
    ended = {facts.step_of(pod, steps) for pod in seen.of_steps() if facts.phase(pod) == "Succeeded"}
    if steps and ended >= set(steps):
        rights = "the service account of steps needs create and patch on workflowtaskresults.argoproj.io"
        message = f"all steps have ended, but the run continues: Argo was not notified. Usually {rights}"
        latest = max(map(facts.ended_at, seen.of_steps()))
        return Loss(RunState.FAILED, message, latest if latest < _UNTOLD else None)
    return None
