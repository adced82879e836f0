"""Publishes a version to a test's own repository, with a step that can be killed at any call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import dataset_versions
from described_datasets import FULL
from invenio_deposits import Deposit, Deposits
from pelagos_contract.failures import RefusedError
from pelagos_contract.publication import PublicationResult
from pelagos_pipelines.fetching import Client
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.steps.prepare import prepare
from web_servers import Server

UID = "0b8f2f2e-7d1a-4c61-9a53-1f0f2f2ad001"
METADATA: dict[str, Any] = {name: value for name, value in FULL.items() if name != "identifier"}


class KilledError(BaseException):
    """The step dies here; no code may catch this, as nothing catches SIGKILL."""


@dataclass
class Publisher:
    """Calls the publishing step as the operator does."""

    server: Server
    repository: Deposits
    root: Path
    versions: list[Version]
    target: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)

    def asked(self, version: int = 0, **target: Any) -> dict[str, Any]:
        """The request to publish a version; ``target`` replaces fields of it."""
        made = self.versions[version]
        usual = {"url": self.server.url, "state": "Published", "view": "coco", "documents": ["DataCite", "SchemaOrg"]}
        return {
            "publish": usual | self.target | target,
            "version": f"sha256:{made.digest}",
            "uri": str(made.folder),
            "dataset": "reef/fish",
            "owners": [UID],
            "metadata": METADATA,
            "made": "2026-11-01",
        } | self.request

    def run(self, version: int = 0, **target: Any) -> PublicationResult:
        """Publish; returns the result."""
        self.step(self.asked(version, **target))
        return PublicationResult.model_validate_json((self.report / "result.json").read_bytes())

    def step(self, request: dict[str, Any]) -> None:
        """Run the step with any request."""
        prepare(json.dumps(request), str(self.root / "data"), str(self.root / "store"), str(self.report))

    def refusal(self, version: int = 0, **target: Any) -> RefusedError:
        """The error with which the step refuses, which it also reports."""
        with pytest.raises(RefusedError) as caught:
            self.run(version, **target)
        told = json.loads((self.report / "failure.json").read_bytes())
        assert told["reason"] == caught.value.failure.reason
        return caught.value

    @property
    def report(self) -> Path:
        """The folder of its run, which is the same for all versions."""
        return self.root / "report"

    def only(self) -> Deposit:
        """The only record or draft in the repository."""
        (found,) = self.repository.there.values()
        return found


def versions_of(root: Path) -> list[Version]:
    """Two versions of a Dataset."""
    store = root / "store"
    return [
        dataset_versions.write(store, dataset_versions.detection(root / f"source{images}", images)) for images in (3, 4)
    ]


def killed_at(monkeypatch: pytest.MonkeyPatch, call: int, *, after: bool) -> Callable[[], int]:
    """Kill the step at a call of the repository, before it is sent or after it was carried out; returns a counter of calls."""
    made, ask = [0], Client.answer

    def counted(self: Client, *arguments: Any, **named: Any) -> Any:
        made[0] += 1
        if made[0] == call and not after:
            raise KilledError
        answer = ask(self, *arguments, **named)
        if made[0] == call and after:
            raise KilledError
        return answer

    monkeypatch.setattr(Client, "answer", counted)
    return lambda: made[0]


def sha256(content: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
