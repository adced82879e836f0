"""Keys, tokens and kubeconfigs of the test cluster. Called by cluster.py before its servers start."""

from __future__ import annotations

import base64
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.harness import servers

if TYPE_CHECKING:
    from collections.abc import Sequence

USERS = {
    "admin": ("test-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    **{f"kubelet-{place.name}": (f"system:node:{place.name}", "system:nodes") for place in servers.PLACES},
    "proxy": ("system:kube-proxy", ""),
    "names": ("test-cluster-dns", ""),
}
"""Users with a token: short name -> (user, group)."""


@dataclass(frozen=True)
class Credentials:
    """Files in one folder that only root can read."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that signs all others."""
        return self.folder / "ca.crt"

    @property
    def tokens(self) -> Path:
        """The API server's token file."""
        return self.folder / "tokens.csv"

    def certificate(self, name: str) -> tuple[Path, Path]:
        """The paths of a certificate and its key."""
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def token(self, name: str) -> str:
        """The bearer token of one of USERS."""
        return (self.folder / f"{name}.token").read_text()

    def kubeconfig(self, name: str, server: str) -> Path:
        """Write the kubeconfig of one of USERS."""
        return self.write_kubeconfig(self.folder / f"{name}.kubeconfig", server, self.token(name))

    def write_kubeconfig(self, path: Path, server: str, token: str, namespace: str = "default") -> Path:
        """Write a kubeconfig with ``token``."""
        trusted = base64.b64encode(self.authority.read_bytes()).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": trusted}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path


def make(folder: Path, addresses: Sequence[str]) -> Credentials:
    """Create all files; ``addresses`` are further addresses of the API server, in addition to those of the nodes."""
    folder.mkdir(mode=0o700)
    made = Credentials(folder)
    _openssl(folder, "req", "-x509", *_new_key("ca"), "-subj", "/CN=test-cluster")
    names = [f"IP:{address}" for address in addresses]
    names += [f"DNS:{place.name},IP:{place.host}" for place in servers.PLACES]
    names += [f"DNS:{name}" for name in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")]
    _sign(folder, "server", "/CN=kubernetes", f"subjectAltName={','.join(names)}", "extendedKeyUsage=serverAuth")
    _sign(folder, "kubelet-client", "/O=system:masters/CN=kube-apiserver", "extendedKeyUsage=clientAuth")
    _sign(folder, "front-proxy", "/CN=front-proxy", "extendedKeyUsage=clientAuth")
    _openssl(folder, "genrsa", "-out", "sa.key", "2048")
    _openssl(folder, "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    lines = []
    for name, (user, group) in USERS.items():
        token = secrets.token_urlsafe(24)
        (folder / f"{name}.token").write_text(token)
        lines.append(f'{token},{user},{name},"{group}"' if group else f"{token},{user},{name}")
    made.tokens.write_text("\n".join(lines) + "\n")
    return made


def _new_key(name: str) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return (*curve, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2")


def _sign(folder: Path, name: str, subject: str, *extensions: str) -> None:
    added = [word for extension in ("basicConstraints=CA:FALSE", *extensions) for word in ("-addext", extension)]
    _openssl(folder, "req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", *_new_key(name), "-subj", subject, *added)


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr}")
