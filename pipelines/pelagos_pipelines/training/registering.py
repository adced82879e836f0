"""Puts packages that no training of ours made into MLflow, and says there who judged them: called by what commands run.

What stands there is for people: a ModelService that names such a version states the digest of its package itself.
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
"""Experiments, below the name of the namespace."""


@dataclass(frozen=True)
class Made:
    """A package, the folder that it is in on this machine, and parameters that say how it was made."""

    uri: str
    folder: Path
    manifest_sha256: str
    onnx_sha256: str
    source_sha256: str
    described: Mapping[str, Any]


def register(tracked: Tracked, model: str, made: Made) -> tuple[str, str]:
    """The run and the version of the registered ``model`` that the package is; the same ones for a second call.

    Raises:
        TrackingError: MLflow is away, or refuses us. The next call goes on.
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
    """A new run in an experiment of the namespace."""
    full = f"{tracked.namespace}/{experiment}"
    found = client.get_experiment_by_name(full)
    identity = found.experiment_id if found is not None else client.create_experiment(full)
    return str(client.create_run(identity, run_name=shown(name), tags=dict(tags)).info.run_id)


@contextmanager
def asking(uri: str) -> Iterator[MlflowClient]:
    """A client; what MLflow refuses, or that it is away, is a TrackingError."""
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
