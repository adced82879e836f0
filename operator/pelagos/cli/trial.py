"""``pelagos trial``: try a model for some minutes, with a token that is created here and printed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import string
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import pydantic
import typer
from rich.table import Table
from rich.text import Text

from pelagos.api import meta
from pelagos.api.kinds import TRIAL
from pelagos.api.trial import ENDED, TrialSpec
from pelagos.cli import access, following, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.decisions import rules
from pelagos_contract.text import shown

app = typer.Typer(no_args_is_help=True, help="Trials of models, for some minutes.")
_PERIOD = 0.3
_ALPHABET = string.ascii_lowercase + string.digits
Timeout = Annotated[
    float,
    typer.Option(help="Longest time in seconds to wait until it is open; the trial continues if it takes longer."),
]


class TrialError(Exception):
    """There is no trial; the message says why, in one line."""


@app.callback()
def trial() -> None:
    """Trials of models, for some minutes."""


@app.command("open")
def open_(  # noqa: PLR0913, PLR0917 - options of a command
    service: Annotated[
        str,
        typer.Argument(
            help="ModelService whose model is tried. Without it, --registry names the model.", show_default=False
        ),
    ] = "",
    registry: Annotated[
        str, typer.Option(help="Registered model, as MODEL@ALIAS or MODEL/VERSION, instead of a ModelService.")
    ] = "",
    duration: Annotated[str, typer.Option(help="From 1m to 60m. Default: 10m, or what the platform allows.")] = "",
    dedicated: Annotated[bool, typer.Option("--dedicated", help="On a server of its own.")] = False,
    name: Annotated[str, typer.Option(help="Name of the Trial. Default: one that is derived from the model's.")] = "",
    timeout: Timeout = 1200.0,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Open a trial, wait until it is open, and print its token, once: the cluster keeps only its SHA-256.

    Exit codes: 0 when it is open, 1 when it was refused or is not open yet; JSON and YAML then give the reason as "error".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    token = f"pt_{secrets.token_urlsafe(32)}"
    try:
        spec = _spec(service, registry, duration, dedicated=dedicated, token=token)
        stem = name or f"{(service or registry.partition('@')[0].partition('/')[0])[:40].lower()}-{_suffix()}"
        _create(at, namespace, stem, spec)
        body = _opened(at, namespace, stem, timeout)
    except (access.AskError, TrialError) as error:
        raise outputs.failed(error, output, {}) from error
    told = _told(body) | {"token": token}
    if output is not Output.TABLE:
        outputs.write(told, output)
        return
    sending = f"-H 'Authorization: Bearer {token}' -H 'Inference-Header-Content-Length: 0' --data-binary @image.jpg"
    call = f"curl {sending} {told['url']}/v2/models/{told['service']}/infer --output answer.bin"
    lines = (
        ("trial", f"{told['name']}: {told['model']}"),
        ("open", f"for {told['left']}, until {told['expiresAt']}"),
        ("token", f"{token}  (shown this once)"),
        ("HTTP", told["url"]),
        ("gRPC", f"{told['grpc'] or 'none'}, with the metadata authorization: Bearer TOKEN"),
        ("try it", call),
        ("stop it", f"pelagos trial stop {told['name']} --namespace {namespace}"),
    )
    console = installed.result_console()
    console.print(
        "\n".join(f"{head:<8}  {words}" for head, words in lines), soft_wrap=True, markup=False, highlight=False
    )


@app.command("list")
def list_(
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """List the trials of a namespace, with the time left.

    Exit codes: 0, or 1 when they cannot be read; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        found = [_told(body) for _, body in sorted(access.listed(at, TRIAL, namespace).items())]
    except access.AskError as error:
        raise outputs.failed(error, output, {}) from error
    if output is not Output.TABLE:
        outputs.write({"trials": found}, output)
        return
    if not found:
        installed.result_console().print(f"there are no trials in namespace {namespace}", markup=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("Name", "State", "Model", "User", "Left", "Why"):
        table.add_column(heading, overflow="fold")
    for each in found:
        why = each["message"] if each["phase"] not in {"Open", "Expired"} else ""
        cells = (each["name"], each["phase"], each["model"], each["user"], each["left"], why)
        table.add_row(*(Text(shown(str(cell or ""))) for cell in cells))
    installed.result_console().print(table)


@app.command()
def stop(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Trials to stop.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Stop trials early: their tokens no longer open anything, and their places become free.

    Exit codes: 0 when all are stopped, 1 when one could not be; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    stopped: list[str] = []
    try:
        for name in names:
            access.find(at, TRIAL, name, namespace)
            with _refusing(f"Trial {namespace}/{name} cannot be stopped"):
                access.custom_objects(at).delete_namespaced_custom_object(
                    meta.GROUP, meta.VERSION, namespace, TRIAL.plural, name, _request_timeout=10
                )
            stopped.append(name)
    except (access.AskError, TrialError) as error:
        raise outputs.failed(error, output, {"stopped": stopped}) from error
    if output is not Output.TABLE:
        outputs.write({"stopped": stopped}, output)
        return
    installed.result_console().print(f"stopped: {', '.join(stopped)}", markup=False, highlight=False)


def _spec(service: str, registry: str, duration: str, *, dedicated: bool, token: str) -> dict[str, Any]:
    """The spec of a Trial. Raises TrialError before anything is created."""
    spec: dict[str, Any] = {"tokenSha256": hashlib.sha256(token.encode()).hexdigest()}
    spec |= {"modelServiceRef": {"name": service}} if service else {}
    spec |= {"registry": _registered(registry)} if registry else {}
    spec |= {"duration": duration} if duration else {}
    spec |= {"isolation": "Dedicated"} if dedicated else {}
    if not service and not registry:
        raise TrialError("name what to try: a ModelService, or --registry MODEL@ALIAS")
    try:
        problem = rules.violation(TrialSpec.model_validate(spec))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']} (it is {first['input']!r})"
    if problem:
        raise TrialError(problem)
    return spec


def _registered(named: str) -> dict[str, str]:
    for sign, field in (("@", "alias"), ("/", "version")):
        model, found, which = named.rpartition(sign)
        if found and model and which:
            return {"model": model, field: which}
    raise TrialError(f"--registry {named}: name one of its versions, as MODEL@ALIAS or MODEL/VERSION")


def _create(at: access.Chosen, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
    body = {"apiVersion": meta.API_VERSION, "kind": TRIAL.kind, "metadata": {"name": name}, "spec": dict(spec)}
    with _refusing(f"Trial {namespace}/{name} cannot be made"):
        access.custom_objects(at).create_namespaced_custom_object(
            meta.GROUP, meta.VERSION, namespace, TRIAL.plural, body, _request_timeout=10
        )


def _opened(at: access.Chosen, namespace: str, name: str, timeout: float) -> Mapping[str, Any]:
    """Wait until the Trial is open, and return it. Raises TrialError when it is refused, or takes too long."""
    console, said, until = installed.progress_console(), "", time.monotonic() + timeout
    while True:
        body = access.find(at, TRIAL, name, namespace)
        phase, message = (body.get("status") or {}).get("phase"), _message(body)
        if phase == "Open":
            return body
        if phase in ENDED:
            reason = following.condition(body, "Ready").get("reason")
            raise TrialError(f"Trial {namespace}/{name} is {phase} ({reason}): {message}")
        if message != said:
            said = message
            console.print(Text(shown(f"{name}: {message}")), soft_wrap=True)
        if time.monotonic() > until:
            raise TrialError(
                f"Trial {namespace}/{name} is not open after {timeout:.0f} s: {message}. It continues, but this command cannot "
                f"show its token again: pelagos trial stop {name} --namespace {namespace}"
            )
        time.sleep(_PERIOD)


def _told(body: Mapping[str, Any]) -> dict[str, Any]:
    status, spec = body.get("status") or {}, body.get("spec") or {}
    endpoints = status.get("endpoints") or {}
    return {
        "name": body["metadata"]["name"],
        "namespace": body["metadata"]["namespace"],
        "phase": status.get("phase") or "Pending",
        "model": status.get("model"),
        "service": (status.get("service") or {}).get("name"),
        "user": spec.get("displayName") or spec.get("user"),
        "url": endpoints.get("http"),
        "grpc": endpoints.get("grpc"),
        "expiresAt": status.get("expiresAt"),
        "left": _left(status),
        "message": _message(body),
    }


def _left(status: Mapping[str, Any]) -> str | None:
    """The remaining time as minutes and seconds, by this machine's clock; None unless the Trial is open."""
    if status.get("phase") != "Open" or not status.get("expiresAt"):
        return None
    seconds = max(round((datetime.fromisoformat(status["expiresAt"]) - datetime.now(UTC)).total_seconds()), 0)
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


def _message(body: Mapping[str, Any]) -> str:
    return str(following.condition(body, "Ready").get("message") or "waiting to be seen")


def _suffix() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


@contextlib.contextmanager
def _refusing(lead: str) -> Iterator[None]:
    """Translate the API server's errors to TrialError; ``lead`` starts the message."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise TrialError(
                f"{lead}: the API server does not know it (404). Does `pelagos status` say that it is running?"
            ) from error
        raise TrialError(f"{lead}: {error.status} {_words(error)}") from error
    except (HTTPError, OSError) as error:
        raise TrialError(f"{lead}: the API server does not answer: {error}") from error


def _words(error: Any) -> str:
    """The server's own error message."""
    try:
        return str(json.loads(error.body)["message"])[:500]
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
