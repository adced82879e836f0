"""Which tracked run, and which registered version, is ours: those under this operator's seal, whatever their tags say.

Called by the reconcilers, and by acting when it makes one. Others write to MLflow too: they may add runs and versions that look
like ours, alter tags, and delete. None of that is adopted, none of it is deleted, and none of it stands in the way.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.decisions.training_run import identity
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.ports import registry, tracking
from pelagos.ports.authority import Authority
from pelagos.ports.cluster import Resource
from pelagos.ports.tracking import DesiredTrackedRun, Sealing, TrackedRun
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled

TRACKED, INTENDED, VERSION = "tracked-run", "intended-run", "model-version"


@dataclass(frozen=True)
class Claim:
    """What a tracked run stands for."""

    namespace: str
    uid: str
    inputs_digest: str
    storage_prefix: str

    def of(self, run_id: str) -> dict[str, str]:
        """The claim that the run with this id makes."""
        return self.intent | {"run": run_id}

    @property
    def intent(self) -> dict[str, str]:
        """The claim that a run makes before it has an id."""
        return {
            "namespace": self.namespace,
            "uid": self.uid,
            "inputsDigest": self.inputs_digest,
            "storagePrefix": self.storage_prefix,
        }


def sealing(authority: Authority, want: DesiredTrackedRun) -> Sealing:
    """How the run of a want is told from others'."""
    claim = Claim(want.namespace, want.uid, want.tags[identity.DIGEST_TAG], want.tags[identity.STORAGE_TAG])
    return Sealing(
        intent=authority.seal(INTENDED, claim.intent),
        seal=lambda run_id: authority.seal(TRACKED, claim.of(run_id)),
        holds=lambda run_id, seal: authority.holds(TRACKED, claim.of(run_id), seal),
        intends=lambda seal: authority.holds(INTENDED, claim.intent, seal),
    )


@dataclass(frozen=True)
class Found:
    """A tracked run of ours, its seal under the present key, and what it was made for if its tags have that unaltered."""

    run: TrackedRun
    seal: str
    frozen: Frozen | None
    storage_prefix: str


async def find(resource: Resource, dependencies: Dependencies) -> Found | None:
    """The run that is ours: the one in status under its seal there, else the oldest under a seal of its own."""
    stated = Recalled(resource).tracking
    known = _stated_claim(resource)
    if known is not None and dependencies.authority.holds(
        TRACKED, known.of(str(stated.get("run"))), stated.get("seal")
    ):
        run = await dependencies.tracking.get_run(str(stated["run"]))
        if run is not None:
            return _found(run, known, dependencies)
    for run in await dependencies.tracking.find_runs(resource.uid):
        seal = run.tags.get(tracking.SEAL_TAG)
        for claim in filter(None, (known, _tagged_claim(resource, run))):
            if dependencies.authority.holds(TRACKED, claim.of(run.id), seal):
                return _found(run, claim, dependencies)
    return None


async def find_recorded(
    resource: Resource, run_id: str, inputs_digest: str, storage_prefix: str, dependencies: Dependencies
) -> Found | None:
    """The run that a record under our seal names; None when it is gone."""
    run = await dependencies.tracking.get_run(run_id)
    return (
        _found(run, Claim(resource.namespace, resource.uid, inputs_digest, storage_prefix), dependencies)
        if run
        else None
    )


def _found(run: TrackedRun, claim: Claim, dependencies: Dependencies) -> Found:
    frozen = _frozen(run.tags)
    return Found(
        run=run,
        seal=dependencies.authority.seal(TRACKED, claim.of(run.id)),
        frozen=frozen if frozen and frozen.digest == claim.inputs_digest else None,
        storage_prefix=claim.storage_prefix,
    )


def _stated_claim(resource: Resource) -> Claim | None:
    """By status."""
    digest, prefix = Recalled(resource).inputs_digest, Recalled(resource).storage_prefix
    if not isinstance(digest, str) or not isinstance(prefix, str):
        return None
    return Claim(resource.namespace, resource.uid, digest, prefix)


def _tagged_claim(resource: Resource, run: TrackedRun) -> Claim | None:
    """By the run's own tags, for when status was lost."""
    frozen = _frozen(run.tags)
    if frozen is None:
        return None
    return Claim(resource.namespace, resource.uid, frozen.digest, run.tags.get(identity.STORAGE_TAG, ""))


def namespace_of_run(authority: Authority, run: TrackedRun) -> str | None:
    """The namespace that a tracked run was made for, by our seal and its own tags; None for a run of anybody else."""
    frozen, namespace = _frozen(run.tags), registry.namespace_in(run.tags)
    if frozen is None or namespace is None:
        return None
    prefix = run.tags.get(identity.STORAGE_TAG, "")
    claim = Claim(namespace, run.tags.get(tracking.UID_TAG, ""), frozen.digest, prefix)
    return namespace if authority.holds(TRACKED, claim.of(run.id), run.tags.get(tracking.SEAL_TAG)) else None


def _frozen(tags: Mapping[str, str]) -> Frozen | None:
    try:
        inputs = json.loads(tags[identity.INPUTS_TAG])
        return frozen_of(inputs, json.loads(tags[identity.DATASET_TAG]))
    except (KeyError, ValueError):
        return None


def frozen_of(inputs: Any, dataset: Any) -> Frozen | None:
    """Frozen inputs from what status or tags hold; None when that is not what we write."""
    if not (isinstance(inputs, dict) and inputs and isinstance(dataset, dict)):
        return None
    fields = [dataset.get(name) for name in ("name", "version", "uri", "task")]
    if not all(isinstance(field, str) for field in fields):
        return None
    name, version, uri, task = map(str, fields)
    return Frozen(inputs, DatasetVersion(name, version, uri, task))


def version_seal(authority: Authority, want: registry.DesiredModelVersion) -> str:
    """Goes to a version's tags with all that it vouches for."""
    return authority.seal(VERSION, _version_claim(want.model, want.uid, want.run_id, want.tags))


def namespace_of(authority: Authority, version: registry.ModelVersion) -> str | None:
    """The namespace that a version was registered for, by our seal; None for a version of anybody else."""
    tags = version.tags
    claim = _version_claim(version.model, tags.get(tracking.UID_TAG, ""), version.run_id, tags)
    if not authority.holds(VERSION, claim, tags.get(registry.SEAL_TAG)):
        return None
    return registry.namespace_in(tags)


def ownership(authority: Authority) -> Callable[[registry.ModelVersion], str | None]:
    """What the registry asks about the versions that it has."""
    return functools.partial(namespace_of, authority)


def _version_claim(model: str, uid: str, run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    sealed = (
        registry.RESOURCE_TAG,
        registry.PACKAGE_URI_TAG,
        registry.ONNX_SHA256_TAG,
        registry.MANIFEST_SHA256_TAG,
        registry.INPUTS_DIGEST_TAG,
        registry.ALIAS_TAG,
    )
    return {"model": model, "uid": uid, "run": run_id} | {name: tags.get(name, "") for name in sealed}
