"""Optional tracking with Weights & Biases: its part of a TrainingRun's spec, and the request to a step.

The API key is in a Secret, which is only referred to by name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.remote_sources import SecretRef, SourceUrl

FOLDER = "wandb"
"""Folder in the artifacts of the tracked run with the W&B run directory, for `wandb sync`."""
API_KEY = "apiKey"
"""The key in the Secret."""
USUAL_URL = "https://api.wandb.ai"
NAME = r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,127}$"
ENVIRONMENT = "wandb"
"""Name of the separate Python environment with the W&B client, which the steps' own environment lacks."""


class Mode(StrEnum):
    """Whether the client talks to a server."""

    OFFLINE = "Offline"
    ONLINE = "Online"


class WandbSpec(Strict):
    """That the training is told to Weights & Biases, too."""

    project: Annotated[str, Field(pattern=NAME, description="Project there; it is created if it does not exist.")]
    mode: Annotated[
        Mode,
        Field(
            description="Offline: the run directory is kept with the run in MLflow, for `wandb sync`; no server is contacted. "
            "Online: it is also sent to the server."
        ),
    ]
    entity: Annotated[
        str | None,
        Field(pattern=NAME, description="Team or user there. Default: that of the key, or of the person who syncs."),
    ] = None
    url: Annotated[SourceUrl | None, Field(description=f"Address of the server's API. Default: {USUAL_URL}.")] = None
    secret_ref: Annotated[SecretRef | None, Field(description=f"Secret with the key {API_KEY}; for Online.")] = None


class WandbRequest(Strict):
    """The request to a step. ``name`` is that of the TrainingRun; ``url`` is empty when no server is used."""

    project: str
    entity: str | None = None
    name: str
    url: str = ""
