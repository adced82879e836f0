"""Which tracked runs and registered versions are ours: those under this operator's seal, regardless of their tags.

Called by the reconcilers, and by apply_effects when it creates one. Others write to MLflow too. They may add runs and versions
that look like ours, alter tags, and delete. Those that are not ours are neither adopted nor deleted, and do not get in our way.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.ports import registry
from pelagos.ports.authority import Authority
from pelagos.ports.cluster import Resource
from pelagos.ports.tracking import DesiredTrackedRun, Sealing, TrackedRun
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos_contract.tags import (
    ALIAS_TAG,
    DATASET_TAG,
    EVIDENCE_SHA256_TAG,
    EVIDENCE_URI_TAG,
    INPUTS_DIGEST_TAG,
    INPUTS_TAG,
    INSTEAD_OF_TAG,
    MANIFEST_SHA256_TAG,
    ONNX_SHA256_TAG,
    PACKAGE_URI_TAG,
    RESOURCE_TAG,
    SEAL_TAG,
    STORAGE_TAG,
    UID_TAG,
)

TRACKED, INTENDED, VERSION = "tracked-run", "intended-run", "model-version"


@dataclass(frozen=True)
class Claim:
    """The claim that a tracked run's seal covers: which resource it belongs to, its inputs, and its storage prefix."""

    namespace: str
    uid: str
    inputs_digest: str
    storage_prefix: str

    def of(self, run_id: str) -> dict[str, str]:
        """The claim of the run with this id, as it is sealed."""
        return self.intent | {"run": run_id}

    @property
    def intent(self) -> dict[str, str]:
        """The claim of a run that has no id yet, as it is sealed."""
        return {
            "namespace": self.namespace,
            "uid": self.uid,
            "inputsDigest": self.inputs_digest,
            "storagePrefix": self.storage_prefix,
        }


def sealing(authority: Authority, want: DesiredTrackedRun) -> Sealing:
    """How tracking recognizes the desired run among others, and seals it."""
    claim = Claim(want.namespace, want.uid, want.tags[INPUTS_DIGEST_TAG], want.tags[STORAGE_TAG])
    # Two seals, because a run has its id only once MLflow has created it. If the operator dies before it has sealed the id, the
    # seal of the intent, which needs no id, distinguishes our run from one that somebody else has tagged with the uid.
    return Sealing(
        intent=authority.seal(INTENDED, claim.intent),
        seal=lambda run_id: authority.seal(TRACKED, claim.of(run_id)),
        holds=lambda run_id, seal: authority.holds(TRACKED, claim.of(run_id), seal),
        intends=lambda seal: authority.holds(INTENDED, claim.intent, seal),
    )


@dataclass(frozen=True)
class Found:
    """A tracked run of ours, its seal under the present key, and the inputs it was made for; None if its tags were altered."""

    run: TrackedRun
    seal: str
    frozen: Frozen | None
    storage_prefix: str


async def find(resource: Resource, dependencies: Dependencies) -> Found | None:
    """Our tracked run: the one that status names under our seal, else the oldest with our seal in its tags, else None."""
    recalled, authority = Recalled(resource), dependencies.authority
    stated, digest, prefix = recalled.tracking, recalled.inputs_digest, recalled.storage_prefix
    known = None
    if isinstance(digest, str) and isinstance(prefix, str):
        known = Claim(resource.namespace, resource.uid, digest, prefix)
    # Status first: MLflow's other writers cannot change it, and one request by id suffices. Its seal is still checked,
    # because a status can be restored from another cluster's backup, and would name a run of that cluster.
    if known is not None and authority.holds(TRACKED, known.of(str(stated.get("run"))), stated.get("seal")):
        run = await dependencies.tracking.get_run(str(stated["run"]))
        if run is not None:
            return _found(run, known, dependencies)
    # Status was lost, the run was deleted, or the operator died between creating the run and writing its id to status. The oldest
    # sealed one wins, so that every pass finds the same run. A digest in status is tried before the run's own tags, which others
    # can write. Without one, the tags state the claim, and the seal proves whether it is ours.
    for run in await dependencies.tracking.find_runs(resource.uid):
        frozen, claims = _frozen(run.tags), [known] if known is not None else []
        if frozen is not None:
            tagged = run.tags.get(STORAGE_TAG, "")
            claims.append(Claim(resource.namespace, resource.uid, frozen.digest, tagged))
        for claim in claims:
            if authority.holds(TRACKED, claim.of(run.id), run.tags.get(SEAL_TAG)):
                return _found(run, claim, dependencies)
    return None


async def find_recorded(scope: Scope, run_id: str, inputs_digest: str) -> Found | None:
    """The run that a record under our seal names; None when it no longer exists."""
    run = await scope.dependencies.tracking.get_run(run_id)
    # The run's own seal is of a former life of the resource, with a uid that is not known here. The sealed record vouches for it
    # instead; the pass that adopts the run seals it for this life.
    claim = Claim(scope.resource.namespace, scope.resource.uid, inputs_digest, scope.tenant.storage_prefix)
    return _found(run, claim, scope.dependencies) if run else None


def _found(run: TrackedRun, claim: Claim, dependencies: Dependencies) -> Found:
    frozen = _frozen(run.tags)
    return Found(
        run=run,
        # Computed again with the present key: after a key rotation, this is what brings status and tags up to date.
        seal=dependencies.authority.seal(TRACKED, claim.of(run.id)),
        # The tags have the inputs in full, the claim only their digest. Tags that do not match it were altered.
        frozen=frozen if frozen and frozen.digest == claim.inputs_digest else None,
        storage_prefix=claim.storage_prefix,
    )


def namespace_of_run(authority: Authority, run: TrackedRun) -> str | None:
    """The namespace that a tracked run was made for, as its tags state and our seal confirms; None for a run that is not ours."""
    frozen, namespace = _frozen(run.tags), registry.namespace_in(run.tags)
    if frozen is None or namespace is None:
        return None
    prefix = run.tags.get(STORAGE_TAG, "")
    claim = Claim(namespace, run.tags.get(UID_TAG, ""), frozen.digest, prefix)
    return namespace if authority.holds(TRACKED, claim.of(run.id), run.tags.get(SEAL_TAG)) else None


def _frozen(tags: Mapping[str, str]) -> Frozen | None:
    try:
        found = frozen_of(json.loads(tags[INPUTS_TAG]), json.loads(tags[DATASET_TAG]))
        # JSON that parses can still have no digest: lone surrogates cannot be encoded, deep nesting exceeds the recursion limit.
        return found if found is not None and found.digest else None
    except (KeyError, ValueError, RecursionError):
        return None


def frozen_of(inputs: Any, dataset: Any) -> Frozen | None:
    """Frozen inputs from their form in status or tags; None when that is not of the form that we write."""
    if not (isinstance(inputs, dict) and inputs and isinstance(dataset, dict)):
        return None
    fields = [dataset.get(name) for name in ("name", "version", "uri", "task")]
    if not all(isinstance(field, str) for field in fields):
        return None
    name, version, uri, task = map(str, fields)
    return Frozen(inputs, DatasetVersion(name, version, uri, task))


def version_seal(authority: Authority, want: registry.DesiredModelVersion) -> str:
    """The seal that goes into a version's tags, together with the tags that it vouches for."""
    return authority.seal(VERSION, _version_claim(want.model, want.uid, want.run_id, want.tags))


def namespace_of(authority: Authority, version: registry.ModelVersion) -> str | None:
    """The namespace that a version was registered for, as our seal confirms; None for a version that is not ours."""
    tags = version.tags
    claim = _version_claim(version.model, tags.get(UID_TAG, ""), version.run_id, tags)
    if not authority.holds(VERSION, claim, tags.get(SEAL_TAG)):
        return None
    return registry.namespace_in(tags)


def ownership(authority: Authority) -> Callable[[registry.ModelVersion], str | None]:
    """The check by which a registry finds out whose a version is: `namespace_of` with our keys."""
    return functools.partial(namespace_of, authority)


def _version_claim(model: str, uid: str, run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    sealed = (
        RESOURCE_TAG,
        PACKAGE_URI_TAG,
        ONNX_SHA256_TAG,
        MANIFEST_SHA256_TAG,
        INPUTS_DIGEST_TAG,
        ALIAS_TAG,
    )
    # Versions of earlier releases have none of these tags. Absent tags stay out of the claim, so that their seals remain valid.
    later = (INSTEAD_OF_TAG, EVIDENCE_URI_TAG, EVIDENCE_SHA256_TAG)
    claim = {"model": model, "uid": uid, "run": run_id} | {name: tags.get(name, "") for name in sealed}
    return claim | {name: tags[name] for name in later if name in tags}
