"""Reasons of ModelServices."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import tabled

_model_service = functools.partial(tabled, "ModelService")

RESOLVED = _model_service("Resolved", "done", "The model to serve is determined.")
TRAINING_RUN_NOT_FOUND = _model_service(
    "TrainingRunNotFound",
    "waiting",
    "The TrainingRun does not exist yet. What is served already stays served.",
    "Create it, or name another.",
)
TRAINING_RUN_NOT_READY = _model_service(
    "TrainingRunNotReady",
    "in progress",
    "The TrainingRun, or the one that registers the model, is not Ready yet.",
    "See its own message.",
)
MODEL_VERSION_NOT_FOUND = _model_service(
    "ModelVersionNotFound",
    "waiting",
    "The registry has no such model, alias or version yet, and no TrainingRun of the namespace is about to register it.",
    "Register one, or correct the name.",
)
MODEL_PACKAGE_MISSING = _model_service(
    "ModelPackageMissing",
    "waiting",
    "There is no model package, or not all of it, where the reference points to yet.",
    "Put it there, or correct the reference; if it was deleted, train or export the model again.",
)
MODEL_PACKAGE_INVALID = _model_service(
    "ModelPackageInvalid",
    "action required",
    "The reference leads outside the object store, to a registered version without a package, or to something that is not "
    "a package.",
    "Follow the message.",
)
MODEL_PACKAGE_UNPINNED = _model_service(
    "ModelPackageUnpinned",
    "action required",
    "Nothing in Kubernetes says what the model package must be, or spec says something else than its TrainingRun. A "
    "package cannot vouch for itself.",
    "Name the TrainingRun that made it, or state spec.model.manifestSha256; train or export again what an earlier version made.",
)
MODEL_PACKAGE_ALTERED = _model_service(
    "ModelPackageAltered",
    "action required",
    "The package is not the one that was made: its description has another digest. It is not served.",
    "Find out who writes to the object store; train or export the model again.",
)
MODEL_OUTSIDE_NAMESPACE = _model_service(
    "ModelOutsideNamespace",
    "action required",
    "spec.model leads to a package of another namespace. Only packages made by runs of the same namespace are served.",
    "Train or register the model in this namespace, or name a package below the folder in the message.",
)
MODEL_NOT_SEALED = _model_service(
    "ModelNotSealed",
    "action required",
    "The registered version carries no seal of this operator for this namespace: somebody else registered or altered it, "
    "or the key of the seal no longer exists.",
    "Register it by a TrainingRun of this namespace, or say in spec.model.manifestSha256 what its package must be.",
)
REGISTRY_REJECTED = _model_service(
    "RegistryRejected", "action required", "The registry refused the request.", "Follow the message."
)
STARTING = _model_service(
    "Starting", "in progress", "The server is being started; one that already serves continues until then."
)
LOADING = _model_service("Loading", "in progress", "The server loads the model.")
LOADED = _model_service("Loaded", "done", "The server has loaded the model.")
LOAD_TIMEOUT = _model_service(
    "LoadTimeout", "recovering", "The model did not load within two minutes; the server is restarted."
)
MODEL_LOAD_FAILED = _model_service(
    "ModelLoadFailed",
    "action required",
    "The server refuses the model, or answers its probe wrongly. On one machine, the previous model continues to be "
    "served.",
    "Correct spec.model; the new model is loaded automatically.",
)
SERVING_NOT_INSTALLED = _model_service(
    "ServingNotInstalled",
    "waiting",
    "The cluster does not yet have what the chosen serving engine needs: KServe, or its runtime.",
    "Have it installed, or have another engine chosen (PELAGOS_SERVING_ENGINE).",
)
WAITING_FOR_CLUSTER = _model_service(
    "WaitingForCluster",
    "waiting",
    "The cluster cannot start the server yet: its image is missing, no node has room, or a quota is used up.",
    "Follow the message, which is the cluster's own.",
)
SCALED_TO_ZERO = _model_service("ScaledToZero", "done", "Idle: no replica runs, and the next request starts one.")
NOT_VERIFIED = _model_service(
    "NotVerified",
    "in progress",
    "Scaled to zero before an answer of this model with these settings was seen to be right. The next request starts a "
    "server, which is then verified.",
)
PACKAGE_NOT_FETCHED = _model_service(
    "PackageNotFetched",
    "recovering",
    "The container that fetches the model package for the server ended with an error: credentials, address or memory. The "
    "cluster tries again.",
    "Follow the message: it names the container, quotes it, and says what is missing.",
)
SERVER_CRASHED = _model_service(
    "ServerCrashed", "recovering", "The server's process has died; it is started again at growing intervals."
)
PROBING = _model_service("Probing", "in progress", "The first synthetic inference is in progress.")
PROBE_FAILED = _model_service(
    "ProbeFailed",
    "recovering",
    "The synthetic inference gave a wrong answer or none. After three failures in a row the server is restarted.",
)
PROBE_SUCCEEDED = _model_service(
    "ProbeSucceeded", "done", "A real inference gave the answer of the training framework."
)
CARD_FILLED_IN = _model_service("CardFilledIn", "done", "The card says what strangers need before they use the model.")
CARD_INCOMPLETE = _model_service(
    "CardIncomplete",
    "for information",
    "The card leaves out what strangers need, so the model is in no catalogue. It is served all the same.",
    "Fill in the fields that the message names, in spec.card of the ModelService or of the TrainingRun.",
)
SERVING = _model_service("Serving", "done", "The endpoint answers correctly.")
