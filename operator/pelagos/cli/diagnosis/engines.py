"""Checks of engines, trackers and stores, each as its descriptor defines; and of their common parts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.descriptors import Descriptor
from pelagos.engines.diagnosis import NOBODY, DoctorContext, Finding, failure, fetch, note, ok
from pelagos.ports.errors import RejectedError
from pelagos.ports.gateway import Gateway
from pelagos_contract import trial_signature


async def settings(context: DoctorContext) -> Iterable[Finding]:
    """Check that the settings do not contradict each other, and report the chosen engines."""
    given = context.settings
    try:
        engines = engine_factory.choose(given, context.api, lambda _uid: None)
    except (ValueError, FileNotFoundError) as error:
        return [failure("settings", str(error), "Change the setting, and restart the operator.")]
    for close in engines.closing:
        await close()
    return [ok("settings", f"pipelines: {given.pipelines_engine}, serving: {given.serving_engine}")]


async def home(context: DoctorContext) -> Iterable[Finding]:
    """Check the state folder of the embedded mode, which contains keys and passwords."""
    path = context.settings.home
    if engine_registry.is_on_cluster(context.settings) or not path.exists():
        return []
    found = path.stat()
    if found.st_uid != os.geteuid():
        hint = "Set PELAGOS_HOME to a folder of your own."
        return [failure("home", f"the folder {path} belongs to another user", hint)]
    if found.st_mode & 0o077:
        return [failure("home", f"other users may read the folder {path}", "Close it: pelagos down && pelagos up")]
    return [ok("home", f"the folder {path}, readable by its owner only")]


async def authority(context: DoctorContext) -> Iterable[Finding]:
    """Check the key for the seals on data that the operator keeps outside Kubernetes."""
    given = context.settings
    folder, on_cluster = given.authority, engine_registry.is_on_cluster(given)
    if on_cluster and given.authority_folder is None:
        hint = "Set PELAGOS_AUTHORITY_FOLDER, or run `pelagos doctor` in the operator's pod."
        return [note("authority", "the operator's keys cannot be seen from here", hint)]
    if not on_cluster and not folder.exists():
        return [note("authority", f"the operator has no key yet in {folder}", "pelagos up creates it.")]
    try:
        engine_factory.keeper(given).require()
    except RejectedError as error:
        return [failure("authority", str(error), "Follow the message.")]
    opened = [file.name for file in folder.iterdir() if not on_cluster and file.stat().st_mode & 0o077]
    if opened:
        return [failure("authority", f"others may read {folder}/{opened[0]}", f"chmod 600 {folder}/*")]
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    return [ok("authority", f"{len(names)} keys in {folder}: {', '.join(names)}; `current` seals")]


async def pipelines(context: DoctorContext) -> Iterable[Finding]:
    """Check the engine that runs pipelines."""
    return await _look(context, engine_registry.chosen(context.settings).pipelines, "pipelines")


async def serving(context: DoctorContext) -> Iterable[Finding]:
    """Check the engine that serves models."""
    return await _look(context, engine_registry.chosen(context.settings).serving, "serving")


async def tracking(context: DoctorContext) -> Iterable[Finding]:
    """Check the tracker, which also keeps the model registry."""
    return await _look(context, engine_registry.chosen(context.settings).tracking, "tracking")


async def objects(context: DoctorContext) -> Iterable[Finding]:
    """Check the store of versions, packages and reports."""
    return await _look(context, engine_registry.chosen(context.settings).objects, "objects")


async def data(context: DoctorContext) -> Iterable[Finding]:
    """Check the store of users' images."""
    return await _look(context, engine_registry.chosen(context.settings).volumes, "data", port="volumes")


async def models(context: DoctorContext) -> Iterable[Finding]:
    """Check the gateway for models: ask it for a service that does not exist, without a token."""
    given = Gateway(context.settings.gateway_http, context.settings.gateway_grpc)
    base = given.http_of(context.tenants[0] if context.tenants else context.home, NOBODY)
    if base is None:
        return []
    reply = await fetch(f"{base}/v2")
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND} and '"error"' in reply.text:
        return [ok("models", f"the gateway checks who calls, at {given.http}")]
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
        hint = "See the log of the gateway, and whether it reaches the API server: docs/runbooks/PelagosGatewayDown.md."
        return [failure("models", f"nobody can call models at {given.http}: {reply.text[:200]}", hint)]
    hint = (
        "PELAGOS_GATEWAY_HTTP must be the address at which the gateway answers; a proxy before it must pass requests on "
        "unchanged."
    )
    return [failure("models", f"{base} answered {reply.status}, which the gateway would not do", hint)]


async def trials(context: DoctorContext) -> Iterable[Finding]:
    """Check the key by which the operator distinguishes the hub's Trials from handwritten ones."""
    file = context.settings.hub_signing_key_file
    if file is None:
        return []
    hint = "Give the operator and the hub the same key, of 32 random bytes: docs/hub.md."
    try:
        key = trial_signature.read_key(file)
    except (OSError, ValueError) as error:
        return [failure("trials", f"Trials of the hub are treated like any others: {error}", hint)]
    if key is None:
        return [failure("trials", f"Trials of the hub are treated like any others: there is no key {file}", hint)]
    return [ok("trials", "the operator recognises the Trials that the hub created")]


async def _look(context: DoctorContext, chosen: Descriptor[Any], subject: str, *, port: str = "") -> Iterable[Finding]:
    """Run the descriptor's check; without one, check whether the engine answers."""
    if chosen.diagnose is not None:
        return await chosen.diagnose(context)
    engines = engine_factory.choose(context.settings, context.api, lambda _uid: None)
    try:
        trouble = await engine_factory.questions(engines)[port or subject]()
    finally:
        for close in engines.closing:
            await close()
    if trouble:
        return [failure(subject, trouble, f"Check {chosen.name}.")]
    return [ok(subject, f"{chosen.name} answers")]


SECTION = Section(
    "Engines",
    (
        ("settings", settings),
        ("home", home),
        ("authority", authority),
        ("pipelines", pipelines),
        ("serving", serving),
        ("tracking", tracking),
        ("objects", objects),
        ("data", data),
        ("models", models),
        ("trials", trials),
    ),
)
