"""How the command line reaches the API server: by the same rules as kubectl, else the embedded one.

The Kubernetes client is imported only when it is needed.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from pelagos.api import meta
from pelagos.api.kinds import Kind
from pelagos.cli.following import Followed
from pelagos.settings import Settings

_API_TIMEOUT = 10
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig, as for kubectl.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Namespace of the resource. Default: that of the context, or default.")
]
"""Options of commands that read a resource from an API server."""


@dataclass(frozen=True)
class Chosen:
    """A chosen API server: ``file`` as in KUBECONFIG (several are separated by colons), ``context`` "" for the current one."""

    file: str
    context: str = ""

    @property
    def arguments(self) -> list[str]:
        """Arguments for kubectl, with KUBECONFIG set to the file."""
        return ["--context", self.context] if self.context else []


def chosen(settings: Settings, context: str = "") -> Chosen:
    """KUBECONFIG, else the embedded installation if it has such a context, else the user's default kubeconfig."""
    if named := os.environ.get("KUBECONFIG"):
        return Chosen(named, context)
    own = kubeconfig(settings)
    if own.exists() and (not context or context in _contexts(str(own))):
        return Chosen(str(own), context)
    users = Path.home() / ".kube" / "config"
    return Chosen(str(users if users.exists() else own), context)


def embedded(settings: Settings) -> Chosen:
    """The API server of the embedded installation, even if KUBECONFIG names another one."""
    return Chosen(str(kubeconfig(settings)))


def is_embedded(settings: Settings, at: Chosen) -> bool:
    """Whether ``at`` is the API server of the embedded installation."""
    own = kubeconfig(settings)
    return own.exists() and Path(at.file).exists() and own.samefile(at.file)


def namespace_of(at: Chosen, given: str) -> str:
    """The namespace to use: the given one, else that of the context, else ``default``. Never raises."""
    return given or _contexts(at.file).get(at.context) or "default"


def _contexts(file: str) -> dict[str, str]:
    """Namespaces by context, where "" stands for the current one. Empty when the file cannot be used."""
    from kubernetes import config as configuration

    try:
        contexts, current = configuration.list_kube_config_contexts(config_file=file)
    except (configuration.ConfigException, OSError, ValueError, TypeError, KeyError):
        return {}
    found = {str(one["name"]): str(one.get("context", {}).get("namespace") or "") for one in contexts or ()}
    return {"": found.get(str((current or {}).get("name")), ""), **found}


def kubeconfig(settings: Settings) -> Path:
    """The kubeconfig of the embedded installation."""
    return settings.home / "kubeconfig"


def custom_objects(at: Chosen) -> Any:
    """A CustomObjectsApi of the official client."""
    from kubernetes import client

    return client.CustomObjectsApi(_client(at))


def core_objects(at: Chosen) -> Any:
    """A CoreV1Api of the official client."""
    from kubernetes import client

    return client.CoreV1Api(_client(at))


def _client(at: Chosen) -> Any:
    from kubernetes import config as configuration

    return configuration.new_client_from_config(config_file=at.file, context=at.context or None)


class AskError(Exception):
    """The resource cannot be read from the API server; the message says why, in one line."""


def find(at: Chosen, kind: Kind, name: str, namespace: str) -> Mapping[str, Any]:
    """Read a resource. Raises AskError, which names the existing ones if there is none of this name."""
    found = listed(at, kind, namespace)
    if name not in found:
        others = f"there are {', '.join(sorted(found))}" if found else "there is none in this namespace"
        raise AskError(f"{kind.kind} {namespace}/{name} not found; {others}")
    return found[name]


def secret(at: Chosen, name: str, namespace: str) -> dict[str, str]:
    """The content of a Secret, for keys whose values are text. Raises AskError."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        found = core_objects(at).read_namespaced_secret(name, namespace, _request_timeout=_API_TIMEOUT)
    except (ConfigException, OSError, HTTPError) as error:
        raise AskError(f"no API server answers: {error}") from error
    except ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise AskError(
                f"Secret {namespace}/{name} not found: create it (kubectl create secret generic {name} ...)"
            ) from error
        raise AskError(f"the API server refuses Secret {namespace}/{name}: {error.status} {error.reason}") from error
    texts: dict[str, str] = {}
    for key, value in (found.data or {}).items():
        with contextlib.suppress(ValueError):
            texts[key] = base64.b64decode(value).decode().strip()
    return texts


def listed(at: Chosen, kind: Kind, namespace: str) -> dict[str, Mapping[str, Any]]:
    """The resources of a kind by name. Raises AskError."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        api = custom_objects(at)
        found = api.list_namespaced_custom_object(
            meta.GROUP, meta.VERSION, namespace, kind.plural, _request_timeout=_API_TIMEOUT
        )
    except (ConfigException, OSError) as error:
        raise AskError(
            f"there is no API server to ask: {error}. Run `pelagos up`, or set KUBECONFIG, and --context to one of its contexts"
        ) from error
    except HTTPError as error:
        raise AskError(
            f"the API server does not answer: {error}. Does `pelagos status` say that it is running?"
        ) from error
    except ApiException as error:
        raise AskError(f"the API server refuses to list {kind.kind}s: {error.status} {error.reason}") from error
    return {body["metadata"]["name"]: body for body in found["items"]}


def fetcher(settings: Settings) -> Callable[[Followed], Mapping[str, Any] | None]:
    """A function that reads resources from the embedded API server; it returns None if one is missing or cannot be read now."""
    api = custom_objects(embedded(settings))

    def fetch(resource: Followed) -> Mapping[str, Any] | None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            body: Mapping[str, Any] = api.get_namespaced_custom_object(
                meta.GROUP, meta.VERSION, resource.namespace, resource.kind.plural, resource.name, _request_timeout=5
            )
        except (ApiException, HTTPError):
            return None  # The server may be restarting; the caller asks again.
        return body

    return fetch
