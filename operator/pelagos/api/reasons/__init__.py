"""Every reason that a condition can carry, with what it means and what to do. docs/reasons.md is generated from here.

Code names a reason by its constant, never by its text. Reasons that steps refuse with pass through unchanged; the contract of both
planes describes them. Decisions also depend on the state of a reason. Something that does not exist yet, but can appear without a
change of the resource, is ``waiting``; something that exists but is unusable, or that was lost, is ``action required``.
"""

from __future__ import annotations

from pelagos.api.reasons.common import *
from pelagos.api.reasons.datasets import *
from pelagos.api.reasons.model_services import *
from pelagos.api.reasons.tables import *
from pelagos.api.reasons.training_runs import *
from pelagos.api.reasons.trials import *

_NAMED = {str(reason): reason for table in TABLES.values() for reason in table}


def documented() -> frozenset[str]:
    """Names of all reasons."""
    return frozenset(_NAMED)


def named(name: str) -> Reason:
    """The reason with a name from outside the operator's code: from a step, or a condition."""
    return _NAMED.get(name) or Reason(name)
