"""Gathers a lineage from the API server, the store and MLflow. Digests are never trusted: they are computed again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pelagos import engine_registry
from pelagos.api.kinds import DATASET, MODEL_SERVICE, TRAINING_RUN
from pelagos.cli import access, card, data_plane, tracking_server
from pelagos.cli.lineage.bundle import BundleError
from pelagos.cli.lineage.records import (
    ANNOTATIONS,
    CARD,
    LARGEST,
    MANIFEST,
    PACKAGE,
    DatasetRecord,
    Record,
    ServiceRecord,
    TrainingRecord,
)
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract import model_card

KINDS = {kind.kind: kind for kind in (MODEL_SERVICE, TRAINING_RUN, DATASET)}
"""Kinds by name, in the order in which a resource is looked for."""
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Gathered:
    """A record, and notes for the user on how it was gathered."""

    record: Record
    notes: tuple[str, ...]


def gather(settings: Settings, at: access.Chosen, namespace: str, name: str, kind: str, folder: Path) -> Gathered:
    """The lineage of a resource; the files that its digests are for are written to ``folder``.

    Raises:
        AskError, BundleError, DataPlaneError: something is missing; the message says what.
    """
    kinds = {known: access.listed(at, KINDS[known], namespace) for known in KINDS}
    chosen = _kind(kinds, name, kind, namespace)
    notes: list[str] = []
    service = kinds["ModelService"][name] if chosen == "ModelService" else None
    model = _status(service, "model") if service else None
    run = kinds["TrainingRun"].get(name) if chosen == "TrainingRun" else None
    if service is not None:
        run = _trained(kinds["TrainingRun"].values(), model or {})
        if run is None:
            notes.append("no TrainingRun of the namespace has this package: it was imported, or its run was deleted")
    trained = _status(run, "model") if run is not None else None
    frozen = _status(run, "dataset") if run is not None else None
    dataset = kinds["Dataset"].get(str((frozen or {}).get("name"))) if run is not None else None
    if chosen == "Dataset":
        dataset = kinds["Dataset"][name]
    try:
        record = Record(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            made_by=f"pelagos {metadata.version('pelagos')}",
            dataset=_dataset(settings, dataset, frozen, folder, notes),
            training=_training(settings, at, run, trained, notes),
            service=_service(service, model),
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"{chosen} {namespace}/{name} does not have a complete lineage yet: {field}: {first['msg']}"
        ) from error
    for found in (model, trained):
        if found and found.get("uri") and not (folder / PACKAGE).is_file():
            _fetch(settings, str(found["uri"]), "package.json", folder / PACKAGE, notes)
    _put_card(settings, run, folder, notes)
    return Gathered(record, tuple(notes))


def _put_card(settings: Settings, run: Body | None, folder: Path, notes: list[str]) -> None:
    """Write the model's card to the folder, if it has one whose digest is right."""
    status = (run or {}).get("status") or {}
    if not any(each.get("name") == model_card.CARD for each in status.get("documents") or ()):
        return
    try:
        content = card.read(settings, status, model_card.CARD)
    except card.DocumentError as error:
        notes.append(f"the card of the model is not in it: {error}")
        return
    target = folder / CARD
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _kind(kinds: Mapping[str, Mapping[str, Body]], name: str, asked: str, namespace: str) -> str:
    if asked and asked not in kinds:
        raise BundleError(f"--kind {asked}: allowed are {', '.join(kinds)}")
    for kind in [asked] if asked else kinds:
        if name in kinds[kind]:
            return kind
    there = [f"{kind} {each}" for kind, found in kinds.items() for each in sorted(found)]
    others = f"; there are {', '.join(there[:20])}" if there else ""
    raise BundleError(f"there is no {asked or 'resource'} {namespace}/{name}{others}")


def _status(body: Body | None, field: str) -> dict[str, Any] | None:
    found = ((body or {}).get("status") or {}).get(field)
    return found if isinstance(found, dict) else None


def _trained(runs: Any, model: Mapping[str, Any]) -> Body | None:
    wanted = model.get("manifestSha256")
    return next((run for run in runs if wanted and (_status(run, "model") or {}).get("manifestSha256") == wanted), None)


def _named(body: Body) -> dict[str, Any]:
    about = body["metadata"]
    return {"namespace": about["namespace"], "name": about["name"], "uid": about["uid"]}


def _dataset(
    settings: Settings, body: Body | None, frozen: Mapping[str, Any] | None, folder: Path, notes: list[str]
) -> DatasetRecord | None:
    """The version that the model was trained on, or the newest one."""
    if body is None:
        if frozen is not None:
            notes.append(f"Dataset {frozen.get('name')} was deleted: its version is taken from the TrainingRun only")
        return None
    status = body.get("status") or {}
    version = str((frozen or status).get("version"))
    uri = data_plane.version_uri(body["metadata"]["name"], status, version if frozen else "", f"version {version}")
    for name, target in (("manifest.json", MANIFEST), ("annotations.json", ANNOTATIONS)):
        _fetch(settings, uri, name, folder / target, notes)
    source = status.get("source") if version == status.get("version") else None
    return DatasetRecord.model_validate({**_named(body), "version": version, "source": source or {}})


def _training(
    settings: Settings, at: access.Chosen, body: Body | None, model: Mapping[str, Any] | None, notes: list[str]
) -> TrainingRecord | None:
    if body is None:
        return None
    status = body.get("status") or {}
    run = str((status.get("tracking") or {}).get("run") or "")
    return TrainingRecord.model_validate(
        {
            **_named(body),
            "inputsDigest": status.get("inputsDigest"),
            "inputs": status.get("inputs"),
            "dataset": status.get("dataset"),
            "model": _digests(model),
            "run": run,
            "startedAt": status.get("startedAt") or "",
            "finishedAt": status.get("finishedAt") or "",
            "metrics": status.get("metrics") or {},
            "environment": _environment(settings, at, run, notes),
        }
    )


def _service(body: Body | None, model: Mapping[str, Any] | None) -> ServiceRecord | None:
    if body is None:
        return None
    url = str((body.get("status") or {}).get("url") or "")
    return ServiceRecord.model_validate({**_named(body), "model": _digests(model), "url": url})


def _digests(model: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: (model or {}).get(name) for name in ("manifestSha256", "onnxSha256")}


def _fetch(settings: Settings, uri: str, name: str, target: Path, notes: list[str]) -> None:
    """Copy a file from the store to ``target``, if it exists; problems are added to ``notes``."""
    limit = LARGEST[f"{target.parent.name}/{target.name}"]
    try:
        content = asyncio.run(engine_registry.objects_at(uri, settings).read_bytes(name, limit=limit))
    except (OutageError, RejectedError, ValueError) as error:
        notes.append(f"{uri}/{name} cannot be read: {error}")
        return
    if content is None:
        notes.append(f"{uri}/{name} is not visible from this machine")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _environment(settings: Settings, at: access.Chosen, run: str, notes: list[str]) -> dict[str, str]:
    """The environment of a run as recorded in MLflow; empty, with a note, when MLflow cannot be reached."""
    try:
        return tracking_server.environments(settings, at, [run])[0] if run else {}
    except tracking_server.NotReachedError as error:
        notes.append(f"the environment of the run is not known: {error}")
        return {}
