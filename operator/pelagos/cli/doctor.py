"""``pelagos doctor``: checks everything that Pelagos needs, says what is missing and how to fix it, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from pelagos import engine_registry
from pelagos.cli import access, installed, outputs
from pelagos.cli.diagnosis import control_plane, engines, nodes, tenants
from pelagos.cli.diagnosis.sections import Section, examine
from pelagos.cli.outputs import Output
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.engines.diagnosis import DoctorContext, Finding, State, failure
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.errors import OutageError
from pelagos.settings import Settings
from pelagos.wiring import SERVICE_ACCOUNT, Credentials, own_namespace, rest_client

HOME = "pelagos-system"
SECTIONS = (control_plane.SECTION, engines.SECTION, tenants.SECTION, nodes.SECTION)
_MARKS = {
    State.OK: ("✔", "green"),
    State.NOTE: ("·", "dim"),
    State.WARNING: ("!", "yellow"),
    State.FAILURE: ("✘", "bold red"),
}


def doctor(
    output: outputs.Option = Output.TABLE,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Check only this tenant.")] = "",
    operator_namespace: Annotated[str, typer.Option(help="Namespace of the operator.")] = "",
    context: access.Context = "",
) -> None:
    """Check the installation: the one of KUBECONFIG or --context, as for kubectl, of the pod this runs in, or the embedded one.

    Nothing is changed.

    Settings are those of the environment (PELAGOS_...): on a cluster, run it in the operator's pod,
    kubectl -n pelagos-system exec deploy/pelagos-operator -- pelagos doctor.

    Exit codes: 0 when nothing fails (there may be warnings), 1 when something does.
    """
    try:
        settings = completed(installed.settings(), context)
        api = rest_client(credentials(settings, context))
    except StartError as error:
        if output is not Output.TABLE:
            absent = failure("server", str(error), "Run `pelagos up`, or name a kubeconfig: export KUBECONFIG=...")
            outputs.write(_document(None, [(control_plane.SECTION, [absent])]), output)
        raise
    found = asyncio.run(_examine(settings, api, namespace or settings.namespace, operator_namespace))
    if output is Output.TABLE:
        _show(installed.result_console(), api.server, found)
    else:
        outputs.write(_document(api.server, found), output)
    raise typer.Exit(1 if _count(found, State.FAILURE) else 0)


Diagnosis = list[tuple[Section, list[Finding]]]


async def _examine(settings: Settings, api: KubernetesRest, only: str | None, home: str) -> Diagnosis:
    own = home or settings.lease_namespace or (own_namespace() if SERVICE_ACCOUNT.exists() else HOME)
    try:
        try:
            await api.get("/version", timeout=5)
            seen = await tenants.namespaces(api, only)
        except OutageError as error:
            reached = failure(
                "server", str(error), "Check that the server is running and that the kubeconfig is the right one."
            )
            return [(control_plane.SECTION, [reached])]
        context = DoctorContext(settings, api, own, seen)
        return list(zip(SECTIONS, await asyncio.gather(*(examine(each, context) for each in SECTIONS)), strict=True))
    finally:
        await api.close()


def completed(settings: Settings, context: str) -> Settings:
    """The settings; if the embedded installation is meant, with those that its supervisor gives the operator."""
    state = settings.home / "state.json"
    at = access.chosen(settings, context)
    if settings.kubeconfig is None and not access.is_embedded(settings, at):
        return settings
    if (
        settings.tracking_uri
        or engine_registry.PIPELINES.get(settings.pipelines_engine).is_elsewhere
        or not state.exists()
    ):
        return settings
    parts = json.loads(state.read_text(encoding="utf-8")).get("parts", {})
    url, gateway = (parts.get(name, {}).get("url", "") for name in ("mlflow", "gateway"))
    kubeconfig = settings.kubeconfig or settings.home / "kubeconfig"
    folder = Layout.of(settings.home).tracking_credentials
    login = {"tracking_username_file": folder / "username", "tracking_password_file": folder / "password"}
    found = {"tracking_uri": url, "kubeconfig": kubeconfig, "gateway_http": settings.gateway_http or gateway}
    if "hub" in parts:
        found["hub_signing_key_file"] = Layout.of(settings.home).hub_credentials / "signing-key"
    return settings.model_copy(update=found | login)


def credentials(settings: Settings, context: str) -> Credentials:
    """Credentials from KUBECONFIG or a context, else the pod's, else another kubeconfig's (PELAGOS_KUBECONFIG first).

    Raises StartError.
    """
    host, token = os.environ.get("KUBERNETES_SERVICE_HOST"), SERVICE_ACCOUNT / "token"
    is_named = settings.kubeconfig is not None or context or os.environ.get("KUBECONFIG")
    if host and token.exists() and not is_named:
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        authority = str(SERVICE_ACCOUNT / "ca.crt")
        return Credentials(f"https://{host}:{port}", None, authority, None, token_file=token)
    return _from_kubeconfig(settings, context)


def _from_kubeconfig(settings: Settings, context: str) -> Credentials:
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    # The command line and KUBECONFIG take precedence over the operator's own settings, as with kubectl.
    is_asked = context or os.environ.get("KUBECONFIG")
    given = settings.kubeconfig if settings.kubeconfig and not is_asked else access.chosen(settings, context).file
    found: Any = client.Configuration()
    try:
        config.load_kube_config(config_file=str(given), context=context or None, client_configuration=found)
    except (ConfigException, OSError) as error:
        hint = "Start the embedded mode (pelagos up), or name a kubeconfig: export KUBECONFIG=..."
        raise StartError(f"no cluster is known: {error}. {hint}") from error
    bearer = str(found.auth_settings().get("BearerToken", {}).get("value") or "")
    return Credentials(
        server=found.host,
        token=bearer.removeprefix("Bearer ") or None,
        ca_path=found.ssl_ca_cert,
        ca_data=None,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        insecure=not found.verify_ssl,
    )


def _count(found: Diagnosis, state: State) -> int:
    return sum(finding.state is state for _, findings in found for finding in findings)


def _document(server: str | None, found: Diagnosis) -> dict[str, Any]:
    listed = [
        {
            "section": section.title,
            "subject": finding.subject,
            "state": finding.state.value,
            "message": finding.message,
            "hint": finding.hint,
        }
        for section, findings in found
        for finding in findings
    ]
    return {"server": server, "failures": _count(found, State.FAILURE), "findings": listed}


def _show(console: Console, server: str, found: Diagnosis) -> None:
    console.print(Text.assemble("Pelagos at ", (server, "bold")), soft_wrap=True)
    for section, findings in found:
        if findings:
            console.print(Text(f"\n{section.title}", "bold"))
            _list(console, findings)
    failures, warnings = _count(found, State.FAILURE), _count(found, State.WARNING)
    style = "bold red" if failures else "yellow" if warnings else "green"
    console.print(Text(f"\n{_number(failures, 'failure')}, {_number(warnings, 'warning')}", style))


def _list(console: Console, findings: list[Finding]) -> None:
    """Print one line per finding, and one for its hint; on a terminal they are wrapped below the message."""
    width = max(len(finding.subject) for finding in findings)
    room = console.width - width - 6 if console.is_terminal else None
    before = ""
    for finding in findings:
        mark, style = _MARKS[finding.state]
        subject = finding.subject if finding.subject != before else ""
        before = finding.subject
        told = _folded(Text(finding.message, "dim" if finding.state is State.NOTE else ""), console, room)
        hint = _folded(Text(f"→ {finding.hint}", "cyan"), console, room) if finding.hint else []
        for number, line in enumerate([*told, *hint]):
            first = ((f"  {mark} ", style), f"{subject:<{width}}  ")
            lead = first if number == 0 else (" " * (width + 6),)
            console.print(Text.assemble(*lead, line), soft_wrap=True)


def _folded(text: Text, console: Console, room: int | None) -> list[Text]:
    return list(text.wrap(console, max(room, 20))) if room is not None else [text]


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
