"""Whom pods may connect to, in the form of a NetworkPolicy: a value of settings for the serving engine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Peers(BaseModel):
    """Peers of a NetworkPolicy, and ports there; in the form that Kubernetes gives them. Without peers: not specified."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peers: list[Annotated[dict[str, Any], Field(min_length=1)]] = []
    ports: Annotated[list[dict[str, Any]], Field(min_length=1)] = [{"protocol": "TCP", "port": 443}]


DNS = Peers(
    peers=[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    ports=[{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
)
"""The cluster's DNS, in the namespace kube-system."""
NOBODY = Peers()
