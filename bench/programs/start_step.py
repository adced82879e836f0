"""Does what a training does before it opens its dataset: imports the step, reads the request, imports the framework.

Started by starting.py with the interpreter of the environment ``pipelines``: start_step.py REQUEST.
"""

from __future__ import annotations

import sys

from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import fields, ground_truth
from pelagos_pipelines.steps import train
from pelagos_pipelines.training import families


def main() -> None:
    """Import the step and the framework of the request's family."""
    families.family_of(TrainingRequest.model_validate_json(sys.argv[1]))
    assert train.STEP == "train"
    assert fields.require.__module__ != ground_truth.read.__module__


if __name__ == "__main__":
    main()
