"""Keeps the files of tracked runs on this installation's tracking server, and refuses any other place that an experiment names.

The creator of an experiment chooses where its runs' artifacts are stored, and MLflow's client goes there: to another server with
the tracking server's login, to any bucket with our object storage credentials, or to a folder of this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pelagos_contract.text import shown

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class ElsewhereError(Exception):
    """The run names another place for its artifacts; that place was not contacted."""


def is_elsewhere(root: str, tracking_uri: str) -> bool:
    """Whether ``root``, the artifact place that a run names, is not on the tracking server."""
    try:
        place = urlsplit(root)
    except ValueError:
        return True
    known = {"", urlsplit(tracking_uri).netloc.rpartition("@")[2]}
    return place.scheme != "mlflow-artifacts" or place.netloc not in known


def store(client: MlflowClient, run: str, tracking_uri: str) -> Any:
    """MLflow's repository of the run's artifacts, for the place that was checked here: the server is not asked for it again.

    Raises:
        ElsewhereError: the place is not on the tracking server. The message says what to do.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    info = client.get_run(run).info
    root = str(info.artifact_uri)
    if is_elsewhere(root, tracking_uri):
        raise ElsewhereError(
            f"files were not kept in MLflow: its experiment {info.experiment_id} says that they belong to"
            f" {shown(_place(root))}, and they go to the tracking server alone; name another experiment, or have MLflow serve"
            " artifacts (mlflow server --serve-artifacts, without --default-artifact-root)"
        )
    return get_artifact_repository(root, tracking_uri=tracking_uri)


def _place(root: str) -> str:
    """The scheme and host of ``root``, without the path, which contains the run's id."""
    try:
        place = urlsplit(root)
    except ValueError:
        return repr(root[:80])
    return f"{place.scheme}://{place.netloc.rpartition('@')[2][:80]}" if place.netloc else f"{place.scheme or 'file'}:"
