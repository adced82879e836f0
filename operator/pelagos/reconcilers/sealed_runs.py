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
    """How the run of a want is recognized among others."""
    claim = Claim(want.namespace, want.uid, want.tags[INPUTS_DIGEST_TAG], want.tags[STORAGE_TAG])
    # Two seals, because MLflow gives a run its id only when it is made. In between the operator may die: then the intent, which
    # needs no id, tells a run of ours from one that somebody else has tagged with the uid.
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
    recalled, authority = Recalled(resource), dependencies.authority
    stated, digest, prefix = recalled.tracking, recalled.inputs_digest, recalled.storage_prefix
    known = None
    if isinstance(digest, str) and isinstance(prefix, str):
        known = Claim(resource.namespace, resource.uid, digest, prefix)
    # Status first: it lies in Kubernetes, and one request by id answers. Its seal is checked all the same, because a status can
    # be restored from the backup of another cluster, and would then name a run of that.
    if known is not None and authority.holds(TRACKED, known.of(str(stated.get("run"))), stated.get("seal")):
        run = await dependencies.tracking.get_run(str(stated["run"]))
        if run is not None:
            return _found(run, known, dependencies)
    # Status was lost, the run was deleted, or the operator died between making the run and writing its id. The oldest one under a
    # seal wins, so that every pass comes to the same run. Where there is a digest in status, that counts before the run's own
    # tags, which others can write; without, the tags say what was claimed, and the seal says whether it was us who did.
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
    """The run that a record under our seal names; None when it is gone."""
    run = await scope.dependencies.tracking.get_run(run_id)
    # The seal on the run itself is that of a former life, whose uid is not known here. The record, which is sealed, vouches for
    # it; the run gets the seal of this life in the pass that adopts it.
    claim = Claim(scope.resource.namespace, scope.resource.uid, inputs_digest, scope.tenant.storage_prefix)
    return _found(run, claim, scope.dependencies) if run else None


def _found(run: TrackedRun, claim: Claim, dependencies: Dependencies) -> Found:
    frozen = _frozen(run.tags)
    return Found(
        run=run,
        # Made again, under the key that seals now: after a change of keys, status and tags are brought up to date by this.
        seal=dependencies.authority.seal(TRACKED, claim.of(run.id)),
        # The tags hold the inputs in full, the claim their digest alone. Tags that do not fit to it were altered.
        frozen=frozen if frozen and frozen.digest == claim.inputs_digest else None,
        storage_prefix=claim.storage_prefix,
    )


def namespace_of_run(authority: Authority, run: TrackedRun) -> str | None:
    """The namespace that a tracked run was made for, by our seal and its own tags; None for a run of anybody else."""
    frozen, namespace = _frozen(run.tags), registry.namespace_in(run.tags)
    if frozen is None or namespace is None:
        return None
    prefix = run.tags.get(STORAGE_TAG, "")
    claim = Claim(namespace, run.tags.get(UID_TAG, ""), frozen.digest, prefix)
    return namespace if authority.holds(TRACKED, claim.of(run.id), run.tags.get(SEAL_TAG)) else None


def _frozen(tags: Mapping[str, str]) -> Frozen | None:
    try:
        found = frozen_of(json.loads(tags[INPUTS_TAG]), json.loads(tags[DATASET_TAG]))
        # What can be read can still be what has no digest: half a character, or what is nested too deeply.
        return found if found is not None and found.digest else None
    except (KeyError, ValueError, RecursionError):
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
    claim = _version_claim(version.model, tags.get(UID_TAG, ""), version.run_id, tags)
    if not authority.holds(VERSION, claim, tags.get(SEAL_TAG)):
        return None
    return registry.namespace_in(tags)


def ownership(authority: Authority) -> Callable[[registry.ModelVersion], str | None]:
    """What the registry asks about the versions that it has."""
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
    # Versions of earlier releases have none of these, and their seals stay good.
    later = (INSTEAD_OF_TAG, EVIDENCE_URI_TAG, EVIDENCE_SHA256_TAG)
    claim = {"model": model, "uid": uid, "run": run_id} | {name: tags.get(name, "") for name in sealed}
    return claim | {name: tags[name] for name in later if name in tags}
