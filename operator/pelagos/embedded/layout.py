"""Where everything of one embedded installation lies below its home folder. Used by the supervisor and the command line."""

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
        """The layout of a home folder given by the user. Its links are followed once, here; see ``strangers_link``."""
        return cls(Path(os.path.realpath(home.expanduser())))

    @staticmethod
    def strangers_link(home: Path) -> Path | None:
        """A symbolic link on the path of a home folder that belongs to another user, who could redirect it."""
        path = Path(os.path.abspath(home.expanduser()))  # noqa: PTH100  the other way would follow the links
        for step in (*reversed(path.parents), path):
            if step.is_symlink() and step.lstat().st_uid not in {0, os.geteuid()}:
                return step
        return None

    @property
    def lock(self) -> Path:
        """Locked (flock) by the supervisor as long as it lives."""
        return self.home / "lock"

    @property
    def state(self) -> Path:
        """What the supervisor reports."""
        return self.home / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """Full rights on the embedded API server; for its owner only."""
        return self.home / "kubeconfig"

    @property
    def tokens(self) -> Path:
        """The API server's static tokens."""
        return self.home / "control-plane" / "tokens.csv"

    @property
    def certificates(self) -> Path:
        """Serving certificate and service-account keys of the API server."""
        return self.home / "control-plane" / "certificates"

    @property
    def authority(self) -> Path:
        """The operator's own keys; for its owner only."""
        return self.home / "authority"

    @property
    def etcd(self) -> Path:
        """Data of etcd."""
        return self.home / "etcd"

    @property
    def store(self) -> Path:
        """What etcd keeps; absent before the first start."""
        return self.etcd / "data"

    @property
    def store_writer(self) -> Path:
        """Which Kubernetes wrote the store. Beside it, so that whoever moves the folder moves both."""
        return self.etcd / "written-by"

    @property
    def mlflow(self) -> Path:
        """Database and artifacts of MLflow."""
        return self.home / "mlflow"

    @property
    def tracking_credentials(self) -> Path:
        """User names and passwords of MLflow: ``username`` and ``password`` are for people and the operator."""
        return self.home / "credentials" / "mlflow"

    @property
    def front(self) -> Path:
        """What the gateway tells its Envoy."""
        return self.home / "front"

    @property
    def hub_credentials(self) -> Path:
        """``signing-key`` of the hub, and ``link``, which logs in once."""
        return self.home / "credentials" / "hub"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.home / "logs"

    def log(self, part: str) -> Path:
        """The log of one part."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the folders, for their owner alone; a home that was open before is closed. Raises OSError when that is impossible.

        What lies in the home is closed with it, and stays as it is.
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
