"""How many versions of a Dataset are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict

KEPT = 10
"""Default of spec.history.keep, which the operator applies: definitions have no default."""


class History(Strict):
    """Which versions are kept."""

    keep: Annotated[
        int | None,
        Field(
            ge=1,
            le=50,
            description="How many of the newest versions are kept; images that belong only to other versions are removed "
            "from the store. A version that a TrainingRun, a ModelService or another Dataset names is kept as "
            f"long as it is named. Default: {KEPT}.",
        ),
    ] = None
