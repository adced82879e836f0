"""How the command line reaches the API server: the user's KUBECONFIG, else the embedded one. The client is imported late."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pelagos.api import meta
from pelagos.api.kinds import Kind
from pelagos.cli.following import Followed
from pelagos.settings import Settings

_API_TIMEOUT = 10


def kubeconfig(settings: Settings) -> Path:
    """The kubeconfig of the embedded installation."""
    return settings.home / "kubeconfig"


def custom_objects(config: Path | None) -> Any:
    """A CustomObjectsApi of the official client; ``config`` None: KUBECONFIG, or the user's default."""
    from kubernetes import client
    from kubernetes import config as configuration

    api = configuration.new_client_from_config(
        config_file=str(config or os.environ.get("KUBECONFIG") or "~/.kube/config")
    )
    return client.CustomObjectsApi(api)


class AskError(Exception):
    """The API server does not tell of the resource; the message says why, in one line."""


def find(settings: Settings, kind: Kind, name: str, namespace: str) -> Mapping[str, Any]:
    """A resource, from the API server of KUBECONFIG or the embedded one. Raises AskError."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        api = custom_objects(None if os.environ.get("KUBECONFIG") else kubeconfig(settings))
        listed = api.list_namespaced_custom_object(
            meta.GROUP, meta.VERSION, namespace, kind.plural, _request_timeout=_API_TIMEOUT
        )
    except (ConfigException, OSError) as error:
        raise AskError(f"there is no API server to ask: {error}. Run `pelagos up`, or set KUBECONFIG") from error
    except HTTPError as error:
        raise AskError(f"the API server does not answer: {error}. Does `pelagos status` say that it runs?") from error
    except ApiException as error:
        raise AskError(f"the API server refuses to list {kind.kind}s: {error.status} {error.reason}") from error
    found: dict[str, Mapping[str, Any]] = {body["metadata"]["name"]: body for body in listed["items"]}
    if name not in found:
        others = f"there are {', '.join(sorted(found))}" if found else "there is none in this namespace"
        raise AskError(f"{kind.kind} {namespace}/{name} not found; {others}")
    return found[name]


def fetcher(settings: Settings) -> Callable[[Followed], Mapping[str, Any] | None]:
    """Reads resources from the embedded API server; None for one that is not there or cannot be read now."""
    api = custom_objects(kubeconfig(settings))

    def fetch(resource: Followed) -> Mapping[str, Any] | None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            body: Mapping[str, Any] = api.get_namespaced_custom_object(
                meta.GROUP, meta.VERSION, resource.namespace, resource.kind.plural, resource.name, _request_timeout=5
            )
        except (ApiException, HTTPError):
            return None  # A server that is being restarted; the next look tells.
        return body

    return fetch
