"""How the command line reaches the API server: the user's KUBECONFIG, else the embedded one. The client is imported late."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pelagos.api import meta
from pelagos.cli.following import Followed
from pelagos.settings import Settings


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
