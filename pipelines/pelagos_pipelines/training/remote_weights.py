"""Fetches the checkpoint that ``model.weights.uri`` names from a web server, object storage or MLflow. For the step train.

Wherever it comes from, it is accepted only for its sha256, and only up to the size ceiling of all checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pelagos_contract import disk, sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Weights
from pelagos_pipelines import storage
from pelagos_pipelines.fetching import Client, Policy, UnexpectedStatusError, Wanted, download
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.training import artifacts, tracking

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FIELD = "model.weights.uri"
ARTIFACT = "checkpoint/best.pt"
"""Where our own trainings store the best epoch's checkpoint among the artifacts of their MLflow run."""
_MODELS = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>[0-9]+)|@(?P<alias>[-A-Za-z0-9_]+))")
_RUNS = re.compile(r"runs:/(?P<run>[A-Za-z0-9]{1,64})/(?P<path>.+)")
_FORBIDDEN = 403
_ELSEWHERE = "name a file of its own instead: runs:/RUN/PATH, s3://…, https://…, or put it on the data volume (path)"


def own_roots(data_root: str, store: str) -> tuple[str, ...]:
    """Those of a step's places that are in object storage: its credentials may be used only there.

    ``store`` is where the packages of a namespace are. If neither place is in object storage, a step has no credentials except
    those of the user who runs the machine.
    """
    above, _, folder = store.rstrip("/").rpartition("/models/")
    objects = above if above and "/" not in folder else store
    return tuple(place.rstrip("/") for place in (data_root, objects) if storage.is_remote(place))


def bring(weights: Weights, target: Path, tracking_uri: str, roots: Sequence[str] = ()) -> Path:
    """Fetch the checkpoint to ``target``. With ``roots``, object storage is read only below one of these.

    Raises:
        RefusedError: CHECKPOINT_INVALID for a uri that leads nowhere, to too large a file, or to content with another sha256.
        FetchError, StorageError, StorageRefusedError, TrackingError: the server is unavailable, or refuses us.
    """
    uri = weights.uri or ""
    if weights.sha256 is None:
        raise _invalid(
            f"{uri} has no model.weights.sha256, and what is there may change; add it", "model.weights.sha256"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    allowed = Ceilings.read().checkpoint_mebibytes * MEBIBYTE
    match uri.partition(":")[0]:
        case "https":
            _over_https(uri, target, weights.sha256, allowed)
        case "s3":
            _require_own(uri, uri, roots)
            _from_storage(uri, target, allowed)
        case "models" | "runs":
            _from_mlflow(uri, target, _Mlflow(tracking_uri, roots), allowed)
        case _:
            raise _invalid(f"{uri!r} must begin with https://, s3://, models:/, runs:/ or file:")
    digest = sealing.digest_of(target)
    if digest != weights.sha256:
        raise _invalid(
            # Without the digest that was found: the author of the request may not be allowed to read the file.
            f"what is at {uri} has another sha256 than model.weights.sha256, {weights.sha256}; correct the sum or the file",
            "model.weights.sha256",
        )
    return target


def _over_https(uri: str, target: Path, sha256: str, allowed: int) -> None:
    try:
        with Client(Policy.read(), FIELD) as client:
            found = download(client, Wanted(uri, target, sha256=sha256, limit=allowed))
    except UnexpectedStatusError as error:
        hint = (
            "; weights are fetched without a login: put the file on the data volume, and name it as model.weights.path"
        )
        raise _invalid(f"{uri} answers with HTTP {error.status}{hint if error.status in {401, 403} else ''}") from None
    except RefusedError as error:
        raise _invalid(error.failure.message) from None
    if found.path != target:
        found.path.replace(target)


def _from_storage(uri: str, target: Path, allowed: int) -> None:
    folder, _, name = uri.rpartition("/")
    if not name or folder in {"s3:", "s3:/"}:
        raise _invalid(f"{uri!r} must be s3://bucket/key, and name one object")
    bucket = storage.Bucket(folder)
    found = bucket.find(name)
    if found is None:
        raise _invalid(f"{uri} is not there; correct the bucket or the key, or upload it")
    _require_size(uri, found.size, allowed)
    try:
        bucket.download(name, target, etag=found.etag)
    except FileNotFoundError:
        raise _invalid(f"{uri} has gone while it was read; upload it again") from None


@dataclass(frozen=True)
class _Mlflow:
    """The tracking server, and the places in object storage where artifacts may be."""

    uri: str
    roots: Sequence[str]


def _require_own(uri: str, place: str, roots: Sequence[str]) -> None:
    if roots and not any(place.startswith(f"{root}/") for root in roots):
        raise _invalid(
            f"{uri} is not below {' or '.join(roots)}, and no other part of object storage is read for this namespace; put the"
            " file there, or name it in another way (https://…, models:/…, runs:/…, path)"
        )


def _from_mlflow(uri: str, target: Path, server: _Mlflow, allowed: int) -> None:
    tracking_uri = server.uri
    if not tracking_uri:
        raise _invalid(f"{uri}: this training is not tracked by an MLflow server; {_ELSEWHERE}")
    for name, value in tracking.CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import artifacts as client_artifacts
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    run, path = _artifact(client, uri)
    with _asking(uri, f"there is no run {run}"):
        root = str(client.get_run(run).info.artifact_uri).rstrip("/")
    if _leads_elsewhere(root, tracking_uri):
        raise _invalid(
            f"{uri}: the artifacts of run {run} are said to be neither on that server nor in object storage: {root[:200]!r}"
            f" is not asked; {_ELSEWHERE}"
        )
    if not root.startswith("mlflow-artifacts:"):
        _require_own(uri, f"{root}/", server.roots)
    with _asking(uri, "there is no such artifact"):
        # MlflowClient.list_artifacts also asks for logged models, which steps may not read on every server.
        above = f"{root}/{path}".rpartition("/")[0]
        listed = client_artifacts.list_artifacts(artifact_uri=above, tracking_uri=tracking_uri) or []
    name = path.rpartition("/")[2]
    found = next((item for item in listed if item.path.rpartition("/")[2] == name), None)
    if found is None or found.is_dir:
        if uri.startswith("models:"):
            raise _invalid(
                f"{uri}: its run {run} has no {ARTIFACT} among its artifacts: it was trained by an earlier release, imported, or"
                f" registered by something else; {_ELSEWHERE}"
            )
        raise _invalid(f"{uri}: run {run} has no such file among its artifacts; correct the path")
    _require_size(uri, found.file_size or 0, allowed)
    folder = target.with_name(f"{target.name}.artifacts")
    with disk.written(folder), _asking(uri, "it has gone"):
        folder.mkdir(exist_ok=True)
        # For the path of one file, the client writes that file below the folder.
        got = Path(
            client_artifacts.download_artifacts(
                artifact_uri=f"{root}/{path}", dst_path=str(folder), tracking_uri=tracking_uri
            )
        )
        _require_size(uri, got.stat().st_size, allowed)
        got.replace(target)
    shutil.rmtree(folder, ignore_errors=True)


def _leads_elsewhere(root: str, tracking_uri: str) -> bool:
    """Whether the client would send our login to another server, or read local files: an experiment's creator chooses."""
    return artifacts.is_elsewhere(root, tracking_uri) and not root.startswith("s3://")


def _artifact(client: MlflowClient, uri: str) -> tuple[str, str]:
    """The run that a uri names, and the checkpoint's path among that run's artifacts."""
    if named := _RUNS.fullmatch(uri):
        path = unquote(named["path"])
        if any(part in {"", ".", ".."} for part in path.split("/")) or "\\" in path or not path.isprintable():
            raise _invalid(f"{uri!r}: the path of an artifact has no empty parts, and none that is '.' or '..'")
        return named["run"], path
    named = _MODELS.fullmatch(uri)
    if named is None:
        raise _invalid(f"{uri!r} must be models:/name/version, models:/name@alias or runs:/id/path")
    name = unquote(named["name"])
    with _asking(uri, "there is no such version of a registered model"):
        found = (
            client.get_model_version(name, named["version"])
            if named["version"]
            else client.get_model_version_by_alias(name, named["alias"])
        )
    if not found.run_id:
        raise _invalid(
            f"{uri}: version {found.version} was registered without a run, so that nothing says where its "
            f"checkpoint is; {_ELSEWHERE}"
        )
    return str(found.run_id), ARTIFACT


@contextlib.contextmanager
def _asking(uri: str, absent: str) -> Iterator[None]:
    """Translate MLflow's failures: absent or forbidden things become a RefusedError, anything else a TrackingError."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException  # MLflow's client does not wrap those of downloads

    try:
        yield
    except (MlflowException, RequestException) as error:
        code = getattr(error, "error_code", "")
        if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise _invalid(f"{uri}: {absent}; correct it, or {_ELSEWHERE.removeprefix('name ')}") from None
        if code == "PERMISSION_DENIED" or getattr(getattr(error, "response", None), "status_code", 0) == _FORBIDDEN:
            raise _invalid(
                f"{uri}: MLflow does not let steps of pipelines read it: {tracking.worded(error)[:500]}; {_ELSEWHERE}"
            ) from None
        raise tracking.TrackingError(f"MLflow could not be asked for {uri}: {tracking.worded(error)}") from error


def _require_size(uri: str, size: int, allowed: int) -> None:
    if size > allowed:
        raise _invalid(f"{uri} has {size} bytes; at most {allowed} are read ({raise_it('checkpoint_mebibytes')})")


def _invalid(message: str, field: str = FIELD) -> RefusedError:
    return RefusedError(Reason.CHECKPOINT_INVALID, message, field)
