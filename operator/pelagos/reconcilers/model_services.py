"""Gathers all observations of a ModelService, and cleans up after it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from pelagos.api import kinds, meta, reasons
from pelagos.api.model_service import ModelServiceSpec, ModelSource, RegistryRef
from pelagos.decisions import model_service
from pelagos.decisions.model_service import observed
from pelagos.decisions.model_service.observed import ResolvedModel, Unresolved
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import ObservedService, ServiceState
from pelagos.reconcilers import reporting, sealed_runs, turns
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos.reconcilers.storage_paths import MODELS, prefixes
from pelagos_contract.model_card import Card
from pelagos_contract.tags import MANIFEST_SHA256_TAG, ONNX_SHA256_TAG, PACKAGE_URI_TAG

_LARGEST_DESCRIPTION = 4 << 20
NOT_SEALED = (
    "was not registered for this namespace by this operator, or was altered since then: it carries no seal of this operator. "
    "Register it by a TrainingRun of this namespace, or name its package in spec.model.manifestSha256"
)


class ModelServiceReconciler(turns.AnyTime):
    """Implements driver.Reconciler for ModelServices."""

    kind = kinds.MODEL_SERVICE
    conditions = model_service.CONDITIONS

    async def gather(self, resource: Resource, spec: ModelServiceSpec, dependencies: Dependencies) -> observed.Observed:
        """Resolve the model, observe the endpoint, and probe it when the model is loaded."""
        scope = Scope(resource, await dependencies.tenants.find(resource.namespace), dependencies)
        service = await dependencies.serving.observe(resource.uid)
        probed = None
        if service is not None and service.state is ServiceState.LOADED:
            probed = await dependencies.probes.look(resource.uid, service)
        return observed.Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            retry=resource.annotations.get(meta.RETRY_ANNOTATION, ""),
            model=(model := await _resolve(scope, spec)),
            trained_card=_trained_card(scope, spec, model),
            last_model=_last_model(scope),
            last_reference=Recalled(resource).model.get("reference"),
            last_proven=Recalled(resource).model.get("proven"),
            published_url=Recalled(resource).url,
            generation=resource.generation,
            served_generation=Recalled(resource).served_generation,
            service=service,
            probe=probed.result if probed else None,
            wrong_probes=probed.wrong if probed else 0,
            now=_now(resource.uid, service, dependencies),
            tenant=scope.tenant,
            gateway=dependencies.gateway,
        )

    def decide(self, seen: observed.Observed) -> Decision:
        """See decisions.model_service."""
        return model_service.decide(seen)

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """Stop the endpoint; its copy of the model stays unless deletionPolicy is Delete."""
        await dependencies.serving.remove(resource.uid, keep_files=resource.spec.get("deletionPolicy") != "Delete")
        dependencies.probes.forget(resource.uid)
        if Recalled(resource).has_login:
            await dependencies.cluster.withdraw_login(resource)


def _now(uid: str, service: ObservedService | None, dependencies: Dependencies) -> datetime:
    """The present time by the clock that noted when the server entered its state; see ports.clock."""
    if service is None:
        return dependencies.clock.now()
    state = (uid, service.digest, service.restarts, service.state)
    return service.changed_at + dependencies.clock.age(state, service.changed_at)


async def _resolve(scope: Scope, spec: ModelServiceSpec) -> ResolvedModel | Unresolved:
    try:
        if spec.model.training_run_ref is not None:
            return _pinned(_from_training_run(scope, spec.model.training_run_ref.name), spec)
        if spec.model.registry is not None:
            return _pinned(await _from_registry(scope, spec.model, spec.model.registry), spec)
        return await _from_uri(scope, spec.model)
    except OutageError as error:
        return Unresolved(reasons.REGISTRY_UNAVAILABLE, str(error))


def _pinned(found: ResolvedModel | Unresolved, spec: ModelServiceSpec) -> ResolvedModel | Unresolved:
    """The model with its manifest's digest, from spec or from where it was found. Unresolved if they differ or both lack it."""
    stated = spec.model.manifest_sha256
    if isinstance(found, Unresolved):
        return found
    if stated and found.manifest_sha256 and stated != found.manifest_sha256:
        message = (
            f"spec.model.manifestSha256: {found.source} is the package {found.manifest_sha256}, not {stated} as stated"
        )
        return Unresolved(reasons.MODEL_PACKAGE_UNPINNED, f"{message}: correct it, or leave it out")
    if not stated and not found.manifest_sha256:
        message = (
            f"spec.model: {found.source} does not say what its package must be, because it was made before packages "
            "contained only data: train or export the model again"
        )
        return Unresolved(reasons.MODEL_PACKAGE_UNPINNED, message)
    return replace(found, manifest_sha256=stated or found.manifest_sha256)


def _stranger(scope: Scope, field: str, uri: str) -> Unresolved:
    """The refusal of another namespace's package. It is not even read, so that the message reveals nothing about it."""
    folder = scope.dependencies.objects.uri(scope.namespace_folder(MODELS))
    message = (
        f"{field}: {uri} is not below {folder}, where the packages of this namespace are. "
        "A service serves models of its own namespace only: train the model there, or name a package of it"
    )
    return Unresolved(reasons.MODEL_OUTSIDE_NAMESPACE, message)


def _is_ours(scope: Scope, uri: str, namespace: str) -> bool:
    """Whether a package is in the namespace's folder, below the present storage prefix or one that a resource began with."""
    tenants = (scope.tenant, *prefixes(namespace, scope.dependencies))
    return any(scope.is_inside(uri, tenant.below(f"{MODELS}/{namespace}")) for tenant in tenants)


def _from_training_run(scope: Scope, name: str) -> ResolvedModel | Unresolved:
    resource = scope.resource
    found = scope.dependencies.cache.get(Key(kinds.TRAINING_RUN.kind, resource.namespace, name))
    if found is None or found.deleting:
        message = (
            f'spec.model.trainingRunRef.name: there is no TrainingRun "{name}" in namespace {resource.namespace} yet'
        )
        return Unresolved(reasons.TRAINING_RUN_NOT_FOUND, message)
    ready = reporting.ready_condition(found.status)
    model = found.status.get("model")
    if ready.get("status") != "True" or not model:
        message = f"TrainingRun {name} is not Ready: {ready.get('message', 'it has no status yet')}"
        return Unresolved(reasons.TRAINING_RUN_NOT_READY, message)
    if not _is_ours(scope, model["uri"], resource.namespace):
        return _stranger(scope, f"status.model.uri of TrainingRun {name}", model["uri"])
    return ResolvedModel(model["uri"], model["onnxSha256"], model.get("manifestSha256") or "", f"TrainingRun {name}")


async def _from_registry(scope: Scope, source: ModelSource, reference: RegistryRef) -> ResolvedModel | Unresolved:
    dependencies, namespace = scope.dependencies, scope.resource.namespace
    try:
        if reference.alias is not None:
            wanted = f"alias {reference.alias}"
            version = await dependencies.registry.find_by_alias(reference.model, reference.alias)
        else:
            wanted = f"version {reference.version}"
            version = await dependencies.registry.find_by_version(reference.model, reference.version or "")
    except RejectedError as error:
        return Unresolved(reasons.REGISTRY_REJECTED, f"spec.model.registry: {error}")
    if version is None:
        lead = f"spec.model.registry: the registry has no model {reference.model} with {wanted} yet"
        training = _registrant(scope, reference)
        if training is not None:
            said = reporting.ready_condition(training.status).get("message", "it has no status yet")
            message = f"{lead}; TrainingRun {training.name}, which registers it, is not Ready: {said}"
            return Unresolved(reasons.TRAINING_RUN_NOT_READY, message)
        message = f"{lead}. Register one, or correct the name; this is checked again every few seconds"
        return Unresolved(reasons.MODEL_VERSION_NOT_FOUND, message)
    uri, sha256 = version.tags.get(PACKAGE_URI_TAG), version.tags.get(ONNX_SHA256_TAG)
    if not uri or not sha256:
        message = f"spec.model.registry: {version.model} version {version.version} was not registered by a TrainingRun"
        return Unresolved(reasons.MODEL_PACKAGE_INVALID, message)
    # Anyone who can write to the registry can set tags. So tags without our seal prove nothing, and give access to no other
    # namespace.
    owner = sealed_runs.namespace_of(dependencies.authority, version)
    place = owner if owner in scope.tenant.shared_with else namespace
    found = f"spec.model.registry: {version.model} version {version.version}"
    if not _is_ours(scope, uri, place):
        return _stranger(scope, found, uri)
    manifest = version.tags.get(MANIFEST_SHA256_TAG, "")
    if owner != place:
        if not source.manifest_sha256:
            return Unresolved(reasons.MODEL_NOT_SEALED, f"{found} {NOT_SEALED}")
        manifest = source.manifest_sha256  # Unsealed, so the spec's author vouches for the package.
    return ResolvedModel(uri, sha256, manifest, f"{version.model} version {version.version}")


def _registrant(scope: Scope, wanted: RegistryRef) -> Resource | None:
    """The unfinished TrainingRun that will register the wanted model, in a namespace that this one may serve from."""
    namespaces = (scope.resource.namespace, *scope.tenant.shared_with)
    for found in scope.dependencies.cache.all():
        register = found.spec.get("register")
        if (
            found.kind is kinds.TRAINING_RUN
            and found.namespace in namespaces
            and not found.deleting
            and isinstance(register, dict)
            and register.get("model") == wanted.model
            and (wanted.alias is None or register.get("alias") == wanted.alias)
            and reporting.ready_condition(found.status).get("status") != "True"
        ):
            return found
    return None


async def _from_uri(scope: Scope, source: ModelSource) -> ResolvedModel | Unresolved:
    resource, dependencies = scope.resource, scope.dependencies
    uri = (source.uri or "").rstrip("/")
    path = dependencies.objects.path(uri)
    if path is None:
        root = dependencies.objects.uri("")
        return _invalid(f"{uri} is not in the object store ({root})")
    if not _is_ours(scope, uri, resource.namespace):
        return _stranger(scope, "spec.model.uri", uri)
    try:
        content = await dependencies.objects.read_bytes(f"{path}/package.json", limit=_LARGEST_DESCRIPTION)
    except RejectedError as error:
        return _invalid(str(error))
    if content is None:
        message = f"spec.model.uri: there is no model package at {uri} yet (package.json is missing)"
        return Unresolved(reasons.MODEL_PACKAGE_MISSING, message)
    pin = source.manifest_sha256 or _known_manifest(resource, uri, dependencies)
    if not pin:
        message = (
            f"spec.model.uri: nothing in namespace {resource.namespace} says what the package at {uri} must be: no TrainingRun "
            "there made it. Name the TrainingRun that did in spec.model.trainingRunRef, or set spec.model.manifestSha256 to the "
            "sha256 of the package.json that you trust (sha256sum package.json, or as pelagos model import printed it)"
        )
        return Unresolved(reasons.MODEL_PACKAGE_UNPINNED, message)
    if (actual := hashlib.sha256(content).hexdigest()) != pin:
        message = f"spec.model.uri: {uri}/package.json has been altered, or belongs to another package: sha256 {actual}"
        return Unresolved(reasons.MODEL_PACKAGE_ALTERED, f"{message} instead of {pin}; train or export the model again")
    try:
        onnx = json.loads(content)["onnxSha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return _invalid(f"{uri}/package.json describes no package")
    return ResolvedModel(uri, str(onnx), pin, f"package {uri.rsplit('/', 1)[-1][:12]}")


def _invalid(problem: str) -> Unresolved:
    return Unresolved(reasons.MODEL_PACKAGE_INVALID, f"spec.model.uri: {problem}")


def _known_manifest(resource: Resource, uri: str, dependencies: Dependencies) -> str | None:
    """The manifest digest of the package at ``uri``: as a TrainingRun of the namespace states it, or as it was served before."""
    trainings = (
        found
        for found in dependencies.cache.all()
        if found.kind is kinds.TRAINING_RUN and found.namespace == resource.namespace and not found.deleting
    )
    for model in (*(found.status.get("model") or {} for found in trainings), Recalled(resource).model):
        if model.get("uri") == uri and model.get("manifestSha256"):
            return str(model["manifestSha256"])
    return None


def _trained_card(scope: Scope, spec: ModelServiceSpec, model: ResolvedModel | Unresolved) -> Card | None:
    """The card that the TrainingRun which made the model has in its spec. None without such a run, or if the card is invalid."""
    namespace, cache = scope.resource.namespace, scope.dependencies.cache
    if spec.card is None and spec.publish is None:
        return None
    if spec.model.training_run_ref is not None:
        named = cache.get(Key(kinds.TRAINING_RUN.kind, namespace, spec.model.training_run_ref.name))
        candidates = [named] if named is not None else []
    else:
        candidates = [found for found in cache.all() if found.namespace == namespace]
    uri = model.uri if isinstance(model, ResolvedModel) else Recalled(scope.resource).model.get("uri")
    for found in candidates:
        if found.kind is kinds.TRAINING_RUN and uri and (found.status.get("model") or {}).get("uri") == uri:
            with contextlib.suppress(ValidationError):
                return Card.model_validate(found.spec.get("card") or {})
    return None


def _last_model(scope: Scope) -> ResolvedModel | None:
    model = Recalled(scope.resource).model
    namespaces = (scope.resource.namespace, *scope.tenant.shared_with)
    if not model or not any(_is_ours(scope, model["uri"], namespace) for namespace in namespaces):
        return None
    return ResolvedModel(model["uri"], model["onnxSha256"], model.get("manifestSha256") or "", model["source"])
