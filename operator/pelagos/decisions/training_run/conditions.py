"""The conditions of a TrainingRun, in the order in which they become True, and the intervals of their checks."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions.verdicts import ConditionState, Verdict

DATASET_READY = "DatasetReady"
"""The dataset version is resolved and frozen, and spec still agrees with the frozen inputs."""
TRACKED = "Tracked"
"""There is a tracked run under our seal."""
EVALUATED = "Evaluated"
"""The pipeline run has trained the model and measured it on the test split."""
GATES_PASSED = "GatesPassed"
"""No figure is below its gate."""
REGISTERED = "Registered"
"""The model is registered where spec.register says."""
SUCCEEDED = "Succeeded"
"""The summary of a kind that runs to completion: False when it cannot continue without a person."""

DATASET_POLL = 15.0
"""Seconds between two checks for something that another resource, or the platform, has to bring before anything begins."""
REFUSED_POLL = 15.0
"""Seconds between two checks for something that a person has to correct outside Kubernetes."""
OUTAGE_POLL = 5.0
"""Seconds between two requests to a tracking server or registry that does not answer."""


def succeeded(cause: Verdict) -> Verdict:
    """The verdict on Succeeded that follows from the obstacle that stopped the run; False only when a person has to act."""
    state = ConditionState.PROGRESSING if cause.state is ConditionState.FAILING else cause.state
    return replace(cause, type=SUCCEEDED, state=state)
