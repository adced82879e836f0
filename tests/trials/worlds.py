"""Trials in a world in memory, whose time is virtual: what they need, and what tests ask of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pelagos.api import kinds
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.tenants import Tenant
from pelagos_contract import trial_signature
from simulation import SERVICE, Simulation, apply_samples, simulation

TOKEN = hashlib.sha256(b"pt_secret").hexdigest()


def token_of(name: str) -> str:
    """The digest of a token that belongs to this name."""
    return hashlib.sha256(f"pt_{name}".encode()).hexdigest()


class Trials:
    """What tests do with Trials of the namespace ``default``."""

    def __init__(self, world: Simulation) -> None:
        self.world = world

    def create(self, name: str, **spec: Any) -> Key:
        """Create a Trial as anyone does who may write Trials."""
        return self.world.cluster.create(kinds.TRIAL, name, _spec(spec)).key

    def sign_and_create(self, name: str, user: str, *, key: bytes = b"k" * 32, late: int = 0, **spec: Any) -> Key:
        """Create a signed Trial as the hub does."""
        spec = _spec({"user": user, "tokenSha256": token_of(name), **spec})
        seconds = int(self.world.clock.now().timestamp()) + late
        signature = trial_signature.sign(key, namespace="default", name=name, spec=spec, seconds=seconds)
        annotations = {trial_signature.ANNOTATION: signature}
        return self.world.cluster.create(kinds.TRIAL, name, spec, annotations=annotations).key

    def allow(self, **settings: Any) -> None:
        """Set the platform's settings of the namespace."""
        known = self.world.tenants.known.get("default", Tenant())
        self.world.tenants.known["default"] = replace(known, **settings)

    def get(self, key: Key) -> Resource:
        """The Trial as it is now."""
        found = self.world.cluster.get(key)
        assert found is not None, f"{key} is gone"
        return found

    def status(self, key: Key) -> Mapping[str, Any]:
        """Its status."""
        return self.get(key).status

    def phase(self, key: Key) -> str:
        """Its phase; empty before the first pass, Gone after it was deleted."""
        found = self.world.cluster.get(key)
        return "Gone" if found is None else str(found.status.get("phase", ""))

    def reason(self, key: Key) -> str:
        """The reason of Ready."""
        return str(self.world.ready(key).get("reason"))

    def message(self, key: Key) -> str:
        """The message of Ready."""
        return str(self.world.ready(key).get("message"))


def _spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**({} if "registry" in spec else {"modelServiceRef": {"name": SERVICE.name}}), **spec}


@contextmanager
def trials() -> Iterator[Trials]:
    """A world in which a model was trained, registered and is served, with a running operator."""
    with simulation() as world:
        world.start()
        apply_samples(world)
        world.run_until(lambda: world.ready(SERVICE).get("status") == "True")
        yield Trials(world)
