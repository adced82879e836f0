"""What does the work: pipelines, serving, MLflow, storage. Asked directly, and through the engine that the operator uses."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis.findings import DoctorContext, Finding, Section, failure, hidden, note, ok, warning
from pelagos.engines.kubernetes import served_kinds
from pelagos.engines.mlflow.rest import Access
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

OLDEST_MLFLOW = (3, 16, 1)
"""Older servers have known holes: a default password, and files and jobs that need none."""
MOST = 20
"""Namespaces in which runs are asked for."""
RUNTIME = "pelagos-triton"
NOBODY = "pelagos-doctor"
"""A name that nothing has."""
_TIMEOUT = aiohttp.ClientTimeout(total=8)


@dataclass(frozen=True)
class Reply:
    """What a server said over HTTP."""

    status: int
    text: str


async def fetch(url: str, *, ca: Path | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    """GET. Raises OutageError when nothing answers."""
    tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else True
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(url, ssl=tls, headers=headers, allow_redirects=False) as answer,
        ):
            return Reply(answer.status, (await answer.text(errors="replace"))[:2000])
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise OutageError(url, f"no answer: {error or type(error).__name__}") from error


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
    chosen, _ = engine_registry.chosen(context.settings)
    return await _PIPELINES.get(chosen.name, _answering("pipelines"))(context)


async def _local_pipelines(context: DoctorContext) -> Iterable[Finding]:
    return [_environment("pipelines", context.settings, Path("pipelines/bin/python"))]


async def _kubeflow(context: DoctorContext) -> Iterable[Finding]:
    given = context.settings
    subject, url = "pipelines", given.kubeflow_url.rstrip("/")
    if not url:
        return [
            failure(subject, "PELAGOS_KUBEFLOW_URL is empty", "Set it, for example to http://ml-pipeline.kubeflow:8888")
        ]
    reply = await fetch(
        f"{url}/apis/v2beta1/healthz", ca=given.kubeflow_ca_file, headers=_token(given.kubeflow_token_file)
    )
    if reply.status != 200:
        hint = (
            "Correct PELAGOS_KUBEFLOW_URL, or the token (PELAGOS_KUBEFLOW_TOKEN_FILE; audience pipelines.kubeflow.org)."
        )
        return [failure(subject, f"{url} answers {reply.status}: {_first(reply.text)}", hint)]
    findings = [ok(subject, f"Kubeflow Pipelines (v2beta1) at {url}")]
    many = '"multi_user":true' in reply.text.replace(" ", "")
    if many and given.kubeflow_namespace:
        message = f"the server is multi-user, and all runs go to namespace {given.kubeflow_namespace}"
        findings.append(
            warning(subject, message, "Leave PELAGOS_KUBEFLOW_NAMESPACE empty: then runs go to their tenants.")
        )
    if not many and not given.kubeflow_namespace:
        message = "the server is single-user, and PELAGOS_KUBEFLOW_NAMESPACE is empty"
        findings.append(warning(subject, message, "Set it to the namespace in which that server runs pipelines."))
    return [*findings, *await _runs(given, context.tenants if many else ())]


async def _runs(given: Settings, tenants: tuple[str, ...]) -> list[Finding]:
    """Whether the operator may look at runs: a healthy server can refuse it, and each namespace of a multi-user one by itself."""
    places = (given.kubeflow_namespace,) if given.kubeflow_namespace and tenants else tenants[:MOST] or ("",)
    found = await asyncio.gather(*(_runs_in(given, place) for place in places))
    return [finding for finding in found if finding is not None] or [ok("pipelines", "the operator may list runs")]


async def _runs_in(given: Settings, namespace: str) -> Finding | None:
    query = f"page_size=1&namespace={namespace}" if namespace else "page_size=1"
    url = f"{given.kubeflow_url.rstrip('/')}/apis/v2beta1/runs?{query}"
    reply = await fetch(url, ca=given.kubeflow_ca_file, headers=_token(given.kubeflow_token_file))
    if reply.status == 200:
        return None
    where = f" in namespace {namespace}" if namespace else ""
    message = f"the operator may not list runs{where}: {reply.status} {_first(reply.text)}"
    hint = (
        f"Bind its account to the ClusterRole kubeflow-edit{where}, and see whether it sends a token (kubeflow.token)."
    )
    return failure("pipelines", message, hint)


def _token(file: Path | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {file.read_text(encoding='utf-8').strip()}"} if file and file.exists() else {}


def _environment(subject: str, given: Settings, program: Path) -> Finding:
    path = given.environments / program
    if os.access(path, os.X_OK):
        return ok(subject, f"on this machine, with {path}")
    return failure(subject, f"on this machine, and {path} is missing", "make install")


async def serving(context: DoctorContext) -> Iterable[Finding]:
    """What serves models."""
    _, chosen = engine_registry.chosen(context.settings)
    return await _SERVING.get(chosen.name, _answering("serving"))(context)


async def _local_serving(context: DoctorContext) -> Iterable[Finding]:
    return [_environment("serving", context.settings, Path("triton/bin/python")), await _gateway(context.settings)]


def _answering(port: str) -> Diagnosis:
    """Whether an engine of which nothing else is known answers."""

    async def ask(context: DoctorContext) -> Iterable[Finding]:
        engines = engine_factory.choose(context.settings, context.api, lambda _uid: None)
        try:
            trouble = await engines.checks[port]() if port in engines.checks else None
        finally:
            for close in engines.closing:
                await close()
        name = {"pipelines": context.settings.pipelines_engine, "serving": context.settings.serving_engine}[port]
        return [failure(port, trouble, f"See to {name}.") if trouble else ok(port, f"{name} answers")]

    return ask


async def _gateway(given: Settings) -> Finding:
    """Envoy, which stands before local model servers."""
    from pelagos.engines.triton_local.gateway import Gateway

    gateway = Gateway(given.home.absolute(), given.environments.absolute() / "triton")
    if not gateway.is_installed:
        return failure("gateway", "Envoy is missing in the environment triton", "make install")
    trouble = await gateway.trouble()
    if trouble:
        return failure("gateway", trouble, "The operator starts it within seconds; if this stays, see its log.")
    return ok("gateway", "Envoy runs before the model servers" if gateway.process else "Envoy; no model is served")


async def _kserve(context: DoctorContext) -> list[Finding]:
    group = await context.api.get("/apis/serving.kserve.io/v1beta1")
    if group.status != 200 or not any(
        kind.get("name") == "inferenceservices" for kind in group.body.get("resources", ())
    ):
        hint = "Install KServe, or set PELAGOS_SERVING_ENGINE=deployment, which needs nothing."
        return [failure("serving", "KServe is not installed: InferenceService (v1beta1) is not served", hint)]
    findings = [ok("serving", f"KServe {await _kserve_version(context)}")]
    wide = await context.api.get(f"/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/{RUNTIME}")
    if wide.status == 200:
        return [*findings, ok("runtime", f"ClusterServingRuntime {RUNTIME}")]
    for namespace in context.tenants:
        own = await context.api.get(
            f"/apis/serving.kserve.io/v1alpha1/namespaces/{namespace}/servingruntimes/{RUNTIME}"
        )
        if own.status == 404:
            hint = f"{served_kinds.APPLY} manifests/overlays/kserve"
            findings.append(failure("runtime", f"neither the cluster nor {namespace} has the runtime {RUNTIME}", hint))
        elif own.status == 200:
            findings.append(ok("runtime", f"ServingRuntime {namespace}/{RUNTIME}"))
        else:
            findings.append(hidden("runtime", own))
    if not context.tenants:
        findings.append(
            note("runtime", f"no ClusterServingRuntime {RUNTIME}", f"{served_kinds.APPLY} manifests/overlays/kserve")
        )
    return findings


async def _kserve_version(context: DoctorContext) -> str:
    found = await context.api.get("/apis/apps/v1/namespaces/kserve/deployments/kserve-controller-manager")
    containers = found.body.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    images = [str(container.get("image")) for container in containers]
    return next(
        (image.rsplit(":", 1)[1] for image in images if "kserve-controller" in image and ":" in image), "(v1beta1)"
    )


async def _deployments(context: DoctorContext) -> list[Finding]:
    groups = {str(group.get("name")) for group in (await context.api.get("/apis")).body.get("groups", ())}
    lacking = {"apps", "autoscaling", "policy", "networking.k8s.io"} - groups
    if lacking:
        return [
            failure("serving", f"the API server does not serve {', '.join(sorted(lacking))}", "Use a whole Kubernetes.")
        ]
    findings = [ok("serving", "plain Deployments")]
    if "metrics.k8s.io" not in groups:
        message = "metrics.k8s.io is not served: model servers keep spec.scaling.min replicas"
        findings.append(warning("scaling", message, "Install the metrics server of the cluster."))
    else:
        findings.append(ok("scaling", "metrics.k8s.io is served"))
    return findings


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
        return [failure("tracking", f"{url} answers 403: {_first(version.text)}", hint)]
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
        return failure("tracking", f"{url} says that it is {_first(told)!r}", "Is this MLflow?")
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
    if context.on_cluster or not path.exists():
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
    folder = given.authority
    if context.on_cluster and given.authority_folder is None:
        hint = "Set PELAGOS_AUTHORITY_FOLDER, or run `pelagos doctor` in the operator's pod."
        return [note("authority", "the operator's keys cannot be seen from here", hint)]
    if not context.on_cluster and not folder.exists():
        return [note("authority", f"the operator has no key yet in {folder}", "pelagos up makes it.")]
    try:
        engine_factory.keeper(given).require()
    except RejectedError as error:
        return [failure("authority", str(error), "Follow the message.")]
    opened = [file.name for file in folder.iterdir() if not context.on_cluster and file.stat().st_mode & 0o077]
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


def _first(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:120] if lines else "nothing"


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


Diagnosis = Callable[[DoctorContext], Awaitable[Iterable[Finding]]]
_PIPELINES: dict[str, Diagnosis] = {"local": _local_pipelines, "kubeflow": _kubeflow}
_SERVING: dict[str, Diagnosis] = {"local": _local_serving, "kserve": _kserve, "deployment": _deployments}
"""What is looked at for an engine; of one that is not here, whether it answers."""
