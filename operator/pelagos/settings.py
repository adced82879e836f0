"""Typed settings of the operator, read from the environment (prefix PELAGOS_). Written by the embedded mode or a Deployment."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that differs between installations."""

    model_config = SettingsConfigDict(env_prefix="PELAGOS_", extra="ignore")

    home: Path = Path.home() / ".pelagos"
    """State of the embedded mode: one folder."""
    environments: Path = Path.home() / ".pelagos" / "environments"
    """Folder with the Python environments `pipelines`, `tracking` and `triton`."""
    kubeconfig: Path | None = None
    """How to reach the API server; None: the service account of the pod, or the user's kubeconfig."""
    namespace: str | None = None
    """Watch this namespace only; None: all."""
    tracking_uri: str = ""
    """The MLflow server."""
    tracking_public_url: str = ""
    """The MLflow server as people's browsers reach it, for links in status; empty: tracking_uri."""
    data_root: Path | None = None
    """The data volume; None: <home>/data."""
    objects_root: Path | None = None
    """Dataset versions, model packages and reports; None: <home>/objects."""
    metrics_port: int = 0
    """Port of /metrics, /healthz and /readyz; 0: any free one, written to <home>/operator.json."""
    listen_address: str = "127.0.0.1"
    """Address of the same."""
    parallel_preparations: int = 2
    """Dataset preparations that the local pipeline engine runs at once."""
    parallel_trainings: int = 1
    """Trainings that the local pipeline engine runs at once."""
    concurrent_reconciles: int = 16
    """Reconciles at once."""
    probe_interval: int = 20
    """Seconds between two synthetic inferences of a ready service."""

    @property
    def data(self) -> Path:
        """The data volume."""
        return self.data_root or self.home / "data"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.objects_root or self.home / "objects"
