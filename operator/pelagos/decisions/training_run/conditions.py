"""The conditions of a TrainingRun, in the order in which they come about; and how often it is looked at what they wait for."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions.verdicts import ConditionState, Verdict

DATASET_READY = "DatasetReady"
"""The dataset version is resolved and frozen, and spec still says what was frozen."""
TRACKED = "Tracked"
"""There is a tracked run under our seal."""
EVALUATED = "Evaluated"
"""The pipeline run has trained the model and measured it on the test split."""
GATES_PASSED = "GatesPassed"
"""No figure is below its gate."""
REGISTERED = "Registered"
"""The model is registered where spec.register says."""
SUCCEEDED = "Succeeded"
"""The summary of a kind that runs to completion: False when only a person can bring it on."""

DATASET_POLL = 15.0
"""Seconds between two looks at what another resource, or the platform, must bring before anything begins."""
REFUSED_POLL = 15.0
"""Seconds between two looks at what a person must correct outside of Kubernetes."""
OUTAGE_POLL = 5.0
"""Seconds between two looks at a tracking server or registry that does not answer."""


def succeeded(cause: Verdict) -> Verdict:
    """The bounded kind's own summary follows what stopped it; False only when a person must act."""
    state = ConditionState.PROGRESSING if cause.state is ConditionState.FAILING else cause.state
    return replace(cause, type=SUCCEEDED, state=state)
