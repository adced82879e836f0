"""Tolerances for the predictions of two models, and the refusal of larger differences."""

from __future__ import annotations

from pelagos_contract.failures import Reason, RefusedError

BOX_TOLERANCE = 1.0
SCORE_TOLERANCE = 0.01
"""Tolerances of decoded predictions: in pixels of the original image, and of scores in [0, 1]."""


def failed(difference: str) -> RefusedError:
    """The refusal PARITY_FAILED, whose message names the difference."""
    return RefusedError(
        Reason.PARITY_FAILED,
        f"the exported model does not predict what the trained one predicts: {difference}. "
        "Train again; if it persists, report the architecture and image size",
    )
