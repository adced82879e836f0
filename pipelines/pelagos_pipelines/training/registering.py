"""Registers packages that were not trained here in MLflow, with tags that say whether they were evaluated.

Called by the steps that commands run. The entries are for people: a ModelService that names such a version states the digest of
its package itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_contract.imports import NOT_EVALUATED, Tracked
from pelagos_contract.tags import (
    EVALUATED_TAG,
    IMPORTED_TAG,
    MANIFEST_SHA256_TAG,
    ONNX_SHA256_TAG,
    PACKAGE_TAG,
    PACKAGE_URI_TAG,
)
from pelagos_contract.text import shown
from pelagos_pipelines.serving import packages
from pelagos_pipelines.training import artifacts, tracking
from pelagos_pipelines.training.tracking import TrackingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

IMPORTS, EVALUATIONS = "imported", "evaluations"
"""Names of experiments, below the name of the namespace."""


@dataclass(frozen=True)
class Made:
    """A package, its folder on this machine, its digests, and parameters that say how it was created."""

    uri: str
    folder: Path
    manifest_sha256: str
    onnx_sha256: str
    source_sha256: str
    described: Mapping[str, Any]


def register(tracked: Tracked, model: str, made: Made) -> tuple[str, str]:
    """Register the package as a version of ``model``. Returns run and version; a repeated call returns the same ones.

    Raises:
        TrackingError: MLflow is unavailable, or refuses us. The call can be repeated.
    """
    with asking(tracked.uri) as client:
        for version in client.search_model_versions(f"name = '{model}'"):
            if version.tags.get(MANIFEST_SHA256_TAG) == made.manifest_sha256 and version.name == model:
                return str(version.run_id), str(version.version)
        tags = {
            IMPORTED_TAG: made.source_sha256,
            EVALUATED_TAG: NOT_EVALUATED,
            ONNX_SHA256_TAG: made.onnx_sha256,
            MANIFEST_SHA256_TAG: made.manifest_sha256,
        }
        run = begin(client, tracked, IMPORTS, f"import of {model}", tags | {PACKAGE_TAG: made.uri})
        for name, value in made.described.items():
            client.log_param(run, name, shown(str(value))[:500])
        files = artifacts.store(client, run, tracked.uri)
        for name in (packages.DESCRIPTION, packages.GRAPH):
            files.log_artifact(str(made.folder / name), "model")
        client.set_terminated(run)
        if not any(found.name == model for found in client.search_registered_models(f"name = '{model}'")):
            client.create_registered_model(model)
        source = f"{client.get_run(run).info.artifact_uri}/model"
        version = client.create_model_version(
            model, source, run, tags=tags | {PACKAGE_URI_TAG: made.uri}, await_creation_for=0
        )
        return run, str(version.version)


def begin(client: MlflowClient, tracked: Tracked, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Create a run in an experiment of the namespace, and return its id."""
    full = f"{tracked.namespace}/{experiment}"
    found = client.get_experiment_by_name(full)
    identity = found.experiment_id if found is not None else client.create_experiment(full)
    return str(client.create_run(identity, run_name=shown(name), tags=dict(tags)).info.run_id)


@contextmanager
def asking(uri: str) -> Iterator[MlflowClient]:
    """A client for the server at ``uri``; MLflow's errors in the block become TrackingError."""
    for name, value in tracking.CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise TrackingError(f"MLflow at {uri} does not do it: {tracking.worded(error)}") from error
    except artifacts.ElsewhereError as error:
        raise TrackingError(str(error)) from None
