"""A client of the API server from a kubeconfig, or from the pod's service account.

Used by the processes next to the operator, which do without the libraries that read every form of a kubeconfig. Supported logins
are a token, a token file and a client certificate; users who log in through an exec plugin need a service account instead.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pelagos.engines.kubernetes.rest import KubernetesRest

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoClusterError(ValueError):
    """No API server is configured, or there is no usable login; the message says what to do."""


def connect(kubeconfig: Path | None) -> KubernetesRest:
    """A client from ``kubeconfig``, else from the pod's service account. Raises NoClusterError."""
    if kubeconfig is not None:
        return _by_kubeconfig(kubeconfig)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise NoClusterError("this is not a pod, and no kubeconfig is named. Set PELAGOS_KUBECONFIG to one")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return KubernetesRest(f"https://{host}:{port}", tls=tls, token_file=SERVICE_ACCOUNT / "token")


def _by_kubeconfig(file: Path) -> KubernetesRest:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        context = _entry(content, "contexts", content["current-context"], "context")
        cluster = _entry(content, "clusters", context["cluster"], "cluster")
        user = _entry(content, "users", context["user"], "user")
        server = str(cluster["server"])
        tls = _trusting(cluster, user, file.parent) if server.startswith("https") else None
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, binascii.Error, ssl.SSLError) as error:
        raise NoClusterError(f"the kubeconfig {file} cannot be used: {type(error).__name__}: {error}") from error
    token_file = user.get("tokenFile")
    if not (user.get("token") or token_file or (tls and _has_certificate(user))):
        raise NoClusterError(
            f"the kubeconfig {file} names neither token, tokenFile nor a client certificate for {context['user']}. Name one of a "
            "service account: other ways to log in need a program"
        )
    return KubernetesRest(
        server, tls=tls, token=user.get("token"), token_file=file.parent / token_file if token_file else None
    )


def _entry(content: Mapping[str, Any], kind: str, name: str, field: str) -> Mapping[str, Any]:
    for entry in content[kind]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry[field]
            return found
    raise LookupError(f"{kind}: there is none with the name {name}")


def _trusting(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    data = cluster.get("certificate-authority-data")
    authority = cluster.get("certificate-authority")
    tls = ssl.create_default_context(
        cafile=str(folder / authority) if authority else None,
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if _has_certificate(user):
        # The ssl module reads keys from files only.
        with tempfile.TemporaryDirectory() as made:
            certificate, key = (_file(user, name, folder, Path(made)) for name in ("client-certificate", "client-key"))
            tls.load_cert_chain(str(certificate), str(key))
    return tls


def _has_certificate(user: Mapping[str, Any]) -> bool:
    return all(user.get(name) or user.get(f"{name}-data") for name in ("client-certificate", "client-key"))


def _file(user: Mapping[str, Any], name: str, folder: Path, made: Path) -> Path:
    if data := user.get(f"{name}-data"):
        path = made / name
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(data))
        return path
    return folder / str(user[name])
