"""The layout of an embedded installation's home folder. Used by the supervisor and the command line."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths below ``home``, which is absolute."""

    home: Path

    @classmethod
    def of(cls, home: Path) -> Layout:
        """The layout of a home folder given by the user. Links are resolved only once, here; see ``strangers_link``."""
        return cls(Path(os.path.realpath(home.expanduser())))

    @staticmethod
    def strangers_link(home: Path) -> Path | None:
        """The first symbolic link on a home folder's path that belongs to another user, who could redirect it; else None."""
        path = Path(os.path.abspath(home.expanduser()))  # noqa: PTH100  Path.resolve would follow the links
        for step in (*reversed(path.parents), path):
            if step.is_symlink() and step.lstat().st_uid not in {0, os.geteuid()}:
                return step
        return None

    @property
    def lock(self) -> Path:
        """The file that the supervisor locks (flock) as long as it lives."""
        return self.home / "lock"

    @property
    def state(self) -> Path:
        """The supervisor's report."""
        return self.home / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig with full rights on the embedded API server; readable by its owner only."""
        return self.home / "kubeconfig"

    @property
    def tokens(self) -> Path:
        """The API server's static tokens."""
        return self.home / "control-plane" / "tokens.csv"

    @property
    def certificates(self) -> Path:
        """The API server's serving certificate and service account keys."""
        return self.home / "control-plane" / "certificates"

    @property
    def authority(self) -> Path:
        """The operator's own keys; readable by their owner only."""
        return self.home / "authority"

    @property
    def etcd(self) -> Path:
        """The folder of etcd."""
        return self.home / "etcd"

    @property
    def store(self) -> Path:
        """The data of etcd; it does not exist before the first start."""
        return self.etcd / "data"

    @property
    def store_writer(self) -> Path:
        """Says which Kubernetes wrote the store. Next to it, so that both move together with the folder."""
        return self.etcd / "written-by"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.home / "mlflow"

    @property
    def tracking_credentials(self) -> Path:
        """MLflow's user names and passwords; ``username`` and ``password`` are for people and the operator."""
        return self.home / "credentials" / "mlflow"

    @property
    def front(self) -> Path:
        """The gateway's configuration files for its Envoy."""
        return self.home / "front"

    @property
    def hub_credentials(self) -> Path:
        """The hub's ``signing-key``, and ``link``, which works for one login."""
        return self.home / "credentials" / "hub"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.home / "logs"

    def log(self, part: str) -> Path:
        """The log of one part."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Create the folders, accessible to their owner only; an existing home becomes private too. Raises OSError.

        Existing files in the home are not changed, but become inaccessible to others with it.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to somebody else", str(self.home))
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
        for folder in (self.certificates.parent, self.etcd, self.certificates, self.mlflow, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
