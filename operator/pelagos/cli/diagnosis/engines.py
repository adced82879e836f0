"""What does the work: engines, trackers and stores, of which each is looked at as its descriptor says; and what they share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.descriptors import Descriptor
from pelagos.engines.diagnosis import DoctorContext, Finding, failure, note, ok
from pelagos.ports.errors import RejectedError


async def settings(context: DoctorContext) -> Iterable[Finding]:
    """Settings that contradict each other, and which engines they choose."""
    given = context.settings
    try:
        engines = engine_factory.choose(given, context.api, lambda _uid: None)
    except (ValueError, FileNotFoundError) as error:
        return [failure("settings", str(error), "Change the setting, and start the operator anew.")]
    for close in engines.closing:
        await close()
    return [ok("settings", f"pipelines: {given.pipelines_engine}, serving: {given.serving_engine}")]


async def home(context: DoctorContext) -> Iterable[Finding]:
    """The state folder of the embedded mode: it holds keys and passwords."""
    path = context.settings.home
    if engine_registry.is_on_cluster(context.settings) or not path.exists():
        return []
    found = path.stat()
    if found.st_uid != os.geteuid():
        hint = "Set PELAGOS_HOME to a folder of your own."
        return [failure("home", f"the folder {path} belongs to somebody else", hint)]
    if found.st_mode & 0o077:
        return [failure("home", f"other users may look into the folder {path}", "Close it: pelagos down && pelagos up")]
    return [ok("home", f"the folder {path}, for its owner alone")]


async def authority(context: DoctorContext) -> Iterable[Finding]:
    """The key under whose seal the operator believes what lies outside of Kubernetes."""
    given = context.settings
    folder, on_cluster = given.authority, engine_registry.is_on_cluster(given)
    if on_cluster and given.authority_folder is None:
        hint = "Set PELAGOS_AUTHORITY_FOLDER, or run `pelagos doctor` in the operator's pod."
        return [note("authority", "the operator's keys cannot be seen from here", hint)]
    if not on_cluster and not folder.exists():
        return [note("authority", f"the operator has no key yet in {folder}", "pelagos up makes it.")]
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
    """What runs pipelines."""
    return await _look(context, engine_registry.chosen(context.settings).pipelines, "pipelines")


async def serving(context: DoctorContext) -> Iterable[Finding]:
    """What serves models."""
    return await _look(context, engine_registry.chosen(context.settings).serving, "serving")


async def tracking(context: DoctorContext) -> Iterable[Finding]:
    """What tracks trainings, and keeps models."""
    return await _look(context, engine_registry.chosen(context.settings).tracking, "tracking")


async def objects(context: DoctorContext) -> Iterable[Finding]:
    """Where versions, packages and reports live."""
    return await _look(context, engine_registry.chosen(context.settings).objects, "objects")


async def data(context: DoctorContext) -> Iterable[Finding]:
    """Where users put images."""
    return await _look(context, engine_registry.chosen(context.settings).volumes, "data", port="volumes")


async def _look(context: DoctorContext, chosen: Descriptor[Any], subject: str, *, port: str = "") -> Iterable[Finding]:
    """As the descriptor says; when it says nothing, whether what it describes answers."""
    if chosen.diagnose is not None:
        return await chosen.diagnose(context)
    engines = engine_factory.choose(context.settings, context.api, lambda _uid: None)
    try:
        trouble = await engine_factory.questions(engines)[port or subject]()
    finally:
        for close in engines.closing:
            await close()
    if trouble:
        return [failure(subject, trouble, f"See to {chosen.name}.")]
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
    ),
)
