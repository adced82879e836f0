"""What does the work: pipelines, serving, MLflow, storage. Asked directly, and through the engine that the operator uses."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.diagnosis import NOBODY, DoctorContext, Finding, failure, fetch, first_line, note, ok, warning
from pelagos.engines.mlflow.rest import Access
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

OLDEST_MLFLOW = (3, 16, 1)
"""Older servers have known holes: a default password, and files and jobs that need none."""


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


async def pipelines(context: DoctorContext) -> Iterable[Finding]:
    """What runs pipelines."""
    engine, _ = engine_registry.chosen(context.settings)
    return await engine.diagnose(context) if engine.diagnose else [await _answers(context, "pipelines", engine.name)]


async def serving(context: DoctorContext) -> Iterable[Finding]:
    """What serves models."""
    _, engine = engine_registry.chosen(context.settings)
    return await engine.diagnose(context) if engine.diagnose else [await _answers(context, "serving", engine.name)]


async def _answers(context: DoctorContext, port: str, name: str) -> Finding:
    """Whether an engine of which nothing else is known answers."""
    engines = engine_factory.choose(context.settings, context.api, lambda _uid: None)
    try:
        trouble = await engines.checks[port]() if port in engines.checks else None
    finally:
        for close in engines.closing:
            await close()
    return failure(port, trouble, f"See to {name}.") if trouble else ok(port, f"{name} answers")


async def tracking(context: DoctorContext) -> Iterable[Finding]:
    """MLflow: there, new enough, closed to strangers, and open to us."""
    url, ca = context.settings.tracking_uri.rstrip("/"), context.settings.tracking_ca_file
    if not url:
        return [
            failure("tracking", "PELAGOS_TRACKING_URI is empty", "Set it, for example to http://mlflow.mlflow:5000")
        ]
    version = await fetch(f"{url}/version", ca=ca, headers=_login(context.settings))
    if version.status == 403:
        hint = "Allow this name: mlflow server --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS)."
        return [failure("tracking", f"{url} answers 403: {first_line(version.text)}", hint)]
    if version.status != 200:
        return [
            failure("tracking", f"{url}/version answers {version.status}", "See whether PELAGOS_TRACKING_URI is right.")
        ]
    findings = [_mlflow_version(url, version.text.strip())]
    stranger = await fetch(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", ca=ca)
    if stranger.status == 200:
        hint = "Start it with --app-name basic-auth, and give PELAGOS_TRACKING_USERNAME_FILE and _PASSWORD_FILE."
        findings.append(warning("tracking", "everybody who reaches it may read and write", hint))
    else:
        findings.append(ok("tracking", f"closed to strangers ({stranger.status})"))
    return [*findings, await _tracking_as_operator(context)]


def _login(given: Settings) -> dict[str, str]:
    """As the operator logs in: some servers tell strangers nothing at all."""
    authorization = Access.from_settings(given).authorization()
    return {"Authorization": authorization} if authorization else {}


def _mlflow_version(url: str, told: str) -> Finding:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", told)
    if found is None:
        return failure("tracking", f"{url} says that it is {first_line(told)!r}", "Is this MLflow?")
    if tuple(map(int, found.groups())) < OLDEST_MLFLOW:
        oldest = ".".join(map(str, OLDEST_MLFLOW))
        return warning(
            "tracking", f"MLflow {told} at {url}; versions before {oldest} have known holes", f"Update to {oldest}."
        )
    return ok("tracking", f"MLflow {told} at {url}")


async def _tracking_as_operator(context: DoctorContext) -> Finding:
    problem = await _through_engine(context, lambda engines: engines.registry.find_by_version(NOBODY, "1"))
    if problem:
        return failure(
            "tracking", f"the operator is refused: {problem}", "Correct its credentials (PELAGOS_TRACKING_..._FILE)."
        )
    return ok("tracking", "the operator may use it")


async def objects(context: DoctorContext) -> Iterable[Finding]:
    """Where versions, packages and reports live."""
    given = context.settings
    if given.objects_uri:
        problem = await _through_engine(context, lambda engines: engines.objects.exists(NOBODY))
        where = f"{given.objects_uri} at {given.s3_endpoint or 'AWS'}"
        hint = "Correct PELAGOS_OBJECTS_URI, PELAGOS_S3_ENDPOINT or the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        return [failure("objects", problem, hint) if problem else ok("objects", where)]
    return [await asyncio.to_thread(_folder, "objects", given.objects, True)]


async def data(context: DoctorContext) -> Iterable[Finding]:
    """Where users put images."""
    given = context.settings
    if given.data_uri:
        problem = await _through_engine(context, lambda engines: engines.volumes.fingerprint(NOBODY))
        where = f"{given.data_uri} at {given.s3_endpoint or 'AWS'}"
        hint = "Correct PELAGOS_DATA_URI, PELAGOS_S3_ENDPOINT or the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        return [failure("data", problem, hint) if problem else ok("data", where)]
    return [await asyncio.to_thread(_folder, "data", given.data, False)]


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


def _folder(subject: str, path: Path, written: bool) -> Finding:
    where = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if not os.access(where, os.W_OK if written else os.R_OK):
        return failure(
            subject, f"the folder {path} may not be {'written' if written else 'read'}", f"Give leave: chown {path}"
        )
    free = os.statvfs(where)
    gigabytes = free.f_bavail * free.f_frsize / 1e9
    if written and gigabytes < 1:
        return warning(subject, f"the folder {path} has {gigabytes:.1f} GB left", "Free space.")
    return ok(subject, f"the folder {path}, {gigabytes:.0f} GB free")


async def _through_engine(
    context: DoctorContext, ask: Callable[[engine_factory.Engines], Awaitable[object]]
) -> str | None:
    """What the operator's own engine is told."""
    engines = engine_factory.choose(context.settings, context.api, lambda _uid: None)
    try:
        await ask(engines)
    except (OutageError, RejectedError) as error:
        return str(error)
    finally:
        for close in engines.closing:
            await close()
    return None


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
