"""A step of a training: runs several stages, one after another, in one process. Called by the components of the flow training.

The stages share the workspace, the dataset version and the framework, which takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pelagos_pipelines.steps import evaluate, export, runs, train

STAGES: Mapping[str, Callable[[runs.Run], None]] = {
    "train": train.stage,
    "evaluate": evaluate.stage,
    "export": export.stage,
}
"""The stages by name. Each returns at once if an attempt of its run has finished it."""


def perform(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    stages: Sequence[str],
    request: str,
    data_root: str,
    store: str,
    report: str,
    workspace: str,
    tracking_uri: str,
    tracking_run: str,
) -> None:
    """Run the named stages, in this order.

    Raises:
        RefusedError: a person must change the input; ``failure.json`` says what.
        TrackingError: MLflow could not be reached; finished work will not be repeated.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        for stage in stages:
            STAGES[stage](run)
            runs.give_back_memory()
