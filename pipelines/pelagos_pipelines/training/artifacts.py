"""Where the files of tracked runs lie: on the tracking server of this installation, and nowhere that an experiment names instead.

Whoever makes an experiment says where the artifacts of its runs are, and MLflow's client goes there: with the login of the
tracking server to another one, with the keys of object storage to any bucket, or to a folder of this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pelagos_contract.text import shown

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class ElsewhereError(Exception):
    """The run's artifacts are said to be somewhere else; nobody was asked there."""


def is_elsewhere(root: str, tracking_uri: str) -> bool:
    """Whether what a run says of its artifacts is not on the tracking server."""
    try:
        place = urlsplit(root)
    except ValueError:
        return True
    known = {"", urlsplit(tracking_uri).netloc.rpartition("@")[2]}
    return place.scheme != "mlflow-artifacts" or place.netloc not in known


def store(client: MlflowClient, run: str, tracking_uri: str) -> Any:
    """MLflow's repository of the run's artifacts: what was judged, however often the server is asked again.

    Raises:
        ElsewhereError: with what to do.
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
    """Without the path, which has the run's id in it."""
    try:
        place = urlsplit(root)
    except ValueError:
        return repr(root[:80])
    return f"{place.scheme}://{place.netloc.rpartition('@')[2][:80]}" if place.netloc else f"{place.scheme or 'file'}:"
