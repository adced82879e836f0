"""Tags on tracked runs and on versions of models. Whatever tracks, and whichever plane writes or reads them, has them from here.

Others may write the same: operator/pelagos/reconcilers/sealed_runs says what is believed.
"""

UID_TAG = "pelagos.dev/uid"
"""Every tracked run and registered version carries the uid of the resource that caused it."""
RESOURCE_TAG = "pelagos.dev/resource"
"""On both: ``trainingrun/<namespace>/<name>``. Pipeline runs have it as a label."""
INPUTS_DIGEST_TAG = "pelagos.dev/inputs-digest"
SEAL_TAG = "pelagos.dev/seal"
"""On runs: our seal of namespace, uid, inputs, storage prefix and run. On versions: of all tags that are read back.

A model belongs to the namespace of its first version under a seal.
"""
INTENT_TAG = "pelagos.dev/intent"
"""On runs: the seal of what is known before the run has its id."""
INPUTS_TAG = "pelagos.dev/inputs"
"""On runs: the frozen inputs, as JSON."""
DATASET_TAG = "pelagos.dev/dataset"
"""On runs: the version of the dataset, as JSON."""
STORAGE_TAG = "pelagos.dev/storage-prefix"
"""On runs: the namespace's part of the storage when the run was made."""

ONNX_SHA256_TAG = "pelagos.dev/onnx-sha256"
"""On runs, by the step export, and on versions."""
MANIFEST_SHA256_TAG = "pelagos.dev/manifest-sha256"
"""On both, likewise: the digest of the package's description, which pins all of it."""
CHECKPOINT_SHA256_TAG = "pelagos.dev/checkpoint-sha256"
"""On runs, by the step train: the digest of the checkpoint among its artifacts, which model.weights.uri needs."""
PACKAGE_TAG = "pelagos.dev/package"
"""On runs, by the step export: the uri of the model package."""
PACKAGE_URI_TAG = "pelagos.dev/package-uri"
"""On versions: likewise."""
ALIAS_TAG = "pelagos.dev/alias"
"""On versions: the alias that one was registered for."""
ENVIRONMENT_TAGS = "pelagos.dev/environment."
"""What the names of tags begin with by which the step train describes where it ran."""
BALANCE_TAG = "pelagos.dev/balance"
"""On runs, by the step train: the strategy and the target by which the dataset has its classes balanced."""
COST_TAGS = "pelagos.dev/cost."
"""What the names of tags begin with by which steps say how the cost came about, and what is not in it."""
