"""Every reason that a condition can carry, with what it means and what to do. docs/reasons.md is generated from here.

Code names a reason by its constant, never by its text. Reasons that steps refuse with pass through unchanged; the contract of both
planes says what they mean. Decisions go by the state of a reason, too. What is not there yet, and comes without anybody changing the
resource, is ``waiting``; what is there and cannot be used, or was there and is lost, ``action required``.
"""

from __future__ import annotations

import functools
from typing import Literal

from pelagos_contract import failures

State = Literal[
    "done", "in progress", "waiting", "recovering", "action required", "unknown", "paused", "for information"
]


class Reason(str):
    """The name of a reason; with it, in which state it leaves the resource, what it means, and what to do about it.

    One that is not documented here, as that of a newer data plane, needs a person.
    """

    state: State
    meaning: str
    hint: str

    def __new__(cls, name: str, state: State = "action required", meaning: str = "", hint: str = "") -> Reason:
        """A reason of this name."""
        reason = super().__new__(cls, name)
        reason.state, reason.meaning, reason.hint = state, meaning, hint
        return reason


TABLES: dict[str, list[Reason]] = {"All kinds": [], "Dataset": [], "TrainingRun": [], "ModelService": []}
"""All reasons, by the kind whose resources carry them first of all, in the order of docs/reasons.md."""


def _documented(table: str, name: str, state: State, meaning: str, hint: str = "") -> Reason:
    reason = Reason(name, state, meaning, hint)
    TABLES[table].append(reason)
    return reason


def _of_steps(table: str, reason: failures.Reason) -> Reason:
    """A reason that steps of pipelines refuse with, described in the contract."""
    return _documented(table, reason.value, reason.state, reason.meaning, reason.hint)


_all_kinds = functools.partial(_documented, "All kinds")
_dataset = functools.partial(_documented, "Dataset")
_training_run = functools.partial(_documented, "TrainingRun")
_model_service = functools.partial(_documented, "ModelService")

ACCEPTED = _all_kinds("Accepted", "in progress", "The resource was seen and waits for its first pass, behind others.")
PENDING = _all_kinds("Pending", "in progress", "What comes before this aspect is not done.")
INVALID_SPEC = _all_kinds(
    "InvalidSpec",
    "action required",
    "A field, or fields together, have a value that is not allowed.",
    "Correct the field that the message names.",
)
GPU_LIMIT_EXCEEDED = _all_kinds(
    "GpuLimitExceeded",
    "action required",
    "More GPUs are asked for than the platform allows the namespace (maxGpus). What runs already goes on.",
    "Ask for fewer in spec.resources.gpus, or have the limit raised; it is looked at every few seconds.",
)
QUEUE_NOT_ALLOWED = _all_kinds(
    "QueueNotAllowed",
    "action required",
    "spec.resources.queue is none of the queues that the platform allows the namespace. What runs already goes on.",
    "Name one of those in the message, or none, or have yours allowed; it is looked at every few seconds.",
)
PRIORITY_NOT_ALLOWED = _all_kinds(
    "PriorityNotAllowed",
    "action required",
    "spec.priority is none of the priorities that the platform allows the namespace. What runs or waits already goes on.",
    "Name one of those in the message, or none, or have yours allowed; it is looked at every few seconds.",
)
TENANT_REFUSED = _all_kinds(
    "TenantRefused",
    "action required",
    "What the platform says of the namespace cannot hold: a value that is not allowed, a prefix that another namespace has, or a "
    "ConfigMap pelagos-config in the namespace, which is not read any more; or the namespace is the cluster's own. What runs or "
    "serves stays as it is.",
    "Have the ConfigMap that the message names corrected (pelagos-tenant-<namespace> in the operator's namespace).",
)
NAMESPACE_NOT_ADMITTED = _all_kinds(
    "NamespaceNotAdmitted",
    "waiting",
    "The operator has no rights in the namespace, since nobody has made it a tenant yet. Other namespaces are not touched by that.",
    "Have the RoleBinding made with the command in the message.",
)
AUTHORITY_KEY_MISSING = _all_kinds(
    "AuthorityKeyMissing",
    "waiting",
    "The operator has no key to seal with, so that it believes nothing outside of Kubernetes and begins nothing new. What is served stays served.",
    "Bring the key back from your backup, or make one: see the backup section of docs/operating.md.",
)
RESULT_NOT_AUTHENTIC = _all_kinds(
    "ResultNotAuthentic",
    "action required",
    "The run succeeded, and its result is not one that its steps wrote: altered, of another run or attempt, or sealed with a key that is gone.",
    "Find out who writes to the storage of the namespace, then set the annotation pelagos.dev/retry to a new value.",
)
SUSPENDED = _all_kinds("Suspended", "paused", "spec.suspend is true.", "Set it to false to go on.")
SUBMITTING = _all_kinds("Submitting", "in progress", "The pipeline run is being submitted.")
QUEUED = _all_kinds(
    "Queued",
    "in progress",
    "The pipeline run waits for its turn: in its queue (then the message is Kueue's own), or for the pipeline server to begin it.",
)
UNSCHEDULABLE = _all_kinds(
    "Unschedulable",
    "waiting",
    "No node has room for a pipeline step, or none is such as spec.resources asks for. The message is the scheduler's own.",
    "Wait for other work to end, add a node, or ask for less in spec.resources.",
)
QUOTA_EXCEEDED = _all_kinds(
    "QuotaExceeded",
    "waiting",
    "A quota of the namespace is used up, so that the cluster takes no pod of a pipeline step. It is asked again.",
    "Wait for other work of the namespace to end, or have the quota raised.",
)
REQUEST_TOO_LARGE = _all_kinds(
    "RequestTooLarge",
    "action required",
    "A pipeline step asks for more than its queue or the quota of its namespace holds when nothing else is there. It never starts so.",
    "Ask for less in spec.resources, or have the quota raised; then it goes on by itself.",
)
QUEUE_NOT_USABLE = _all_kinds(
    "QueueNotUsable",
    "action required",
    "The queue of a pipeline step does not exist, is stopped, or does not take the namespace. Kueue holds the step back for as long "
    "as that is so.",
    "Have the LocalQueue or its ClusterQueue made or started, or name another in spec.resources.queue; then it goes on by itself.",
)
PRIORITY_NOT_USABLE = _all_kinds(
    "PriorityNotUsable",
    "action required",
    "There is no WorkloadPriorityClass of the name in spec.priority, or no Kueue that knows one. Kueue never takes a step with it, "
    "so that no run is made.",
    "Name one that exists (the message lists them), or none, or have it made; then it goes on by itself.",
)
IMAGE_NOT_PULLED = _all_kinds(
    "ImageNotPulled",
    "waiting",
    "The image of a pipeline step cannot be pulled. The cluster tries again.",
    "Put the image there, or correct PELAGOS_TRAINER_IMAGE or the imagePullSecrets of the tenant.",
)
IMAGE_NAME_INVALID = _all_kinds(
    "ImageNameInvalid",
    "action required",
    "The image of a pipeline step has a name that no image can have.",
    "Correct PELAGOS_TRAINER_IMAGE of the operator, then set the annotation pelagos.dev/retry to a new value.",
)
VOLUME_NOT_READY = _all_kinds(
    "VolumeNotReady",
    "waiting",
    "A volume of a pipeline step is not there, not bound, or cannot be mounted. The message is the cluster's own.",
    "Make the claim that the message names, or have its volume made.",
)
STEP_NOT_CONFIGURED = _all_kinds(
    "StepNotConfigured",
    "waiting",
    "A Secret or a ConfigMap that a pipeline step needs, or a key of it, is not there.",
    "Make what the message names in the namespace; the step starts by itself then.",
)
POD_REFUSED = _all_kinds(
    "PodRefused",
    "action required",
    "The cluster does not take the pod of a pipeline step: a policy, a limit or Pod Security refuses it. The message is the cluster's own.",
    "Follow the message, then set the annotation pelagos.dev/retry to a new value.",
)
STEP_STARTING = _all_kinds(
    "StepStarting", "in progress", "A pipeline step is being started: its pod gets its node, its image and its volumes."
)
RUNNING = _all_kinds("Running", "in progress", "The pipeline run is in progress.")
SUCCEEDED = _all_kinds("Succeeded", "done", "The pipeline run succeeded.")
ENDING = _all_kinds(
    "Ending", "in progress", "What runs for the resource is being ended, and its processes have not gone yet."
)
MADE_AGAIN = _all_kinds(
    "MadeAgain",
    "in progress",
    "The pipeline run has to be started, and since it was made first an upgrade changed a default or an algorithm: it is made by "
    "those of now. The message says which.",
)
RETRYING = _all_kinds(
    "Retrying",
    "in progress",
    "The pipeline run is started again, because you asked for it, or because it was canceled or ended with the installation.",
)
PIPELINE_INTERRUPTED = _all_kinds(
    "PipelineInterrupted",
    "recovering",
    "The run's process was killed or the machine restarted; it is started again and goes on where it was.",
)
PREEMPTED = _all_kinds(
    "Preempted",
    "recovering",
    "Kueue ended the pod of a step for another workload: a more important one, or one that its quota belongs to. The run is "
    "submitted again, waits in its queue, and goes on from its last checkpoint. That does not count as a failure, however often.",
)
PIPELINE_FAILED = _all_kinds(
    "PipelineFailed",
    "action required",
    "A step crashed without an explanation. It is tried three times; then the resource stalls.",
    "Read the log that the message names, correct the cause, and set the annotation pelagos.dev/retry to a new value.",
)
NAMESPACE_NOT_READY = _all_kinds(
    "NamespaceNotReady",
    "waiting",
    "Where the steps of the pipeline run would be, something is missing or wrong, so that they would fail after their work or never "
    "begin: the ConfigMap kfp-launcher, a ServiceAccount, a LocalQueue, or a quota too small for one step. No run is made until then.",
    "Have the platform correct what the message names; pelagos doctor shows it, too. It is looked at again every few seconds.",
)
RUN_NOT_RECORDED = _all_kinds(
    "RunNotRecorded",
    "unknown",
    "The pipeline server has no record of the run any more, and pods of it go on. No other is begun beside it; its result counts.",
    "Wait for its end, or delete the Argo Workflow that the message names. The server's administrator knows who deletes records.",
)
SYSTEM_UNAVAILABLE = _all_kinds(
    "SystemUnavailable",
    "unknown",
    "A system that is needed does not answer. It is asked again every few seconds.",
)
STATUS_TOO_LARGE = _all_kinds(
    "StatusTooLarge",
    "action required",
    "What is to be said of the resource does not fit into it: an object may have about 1.5 MB. What runs goes on.",
    "Shorten spec and annotations of the resource, or divide it.",
)
BUCKET_NOT_FOUND = _all_kinds(
    "BucketNotFound",
    "waiting",
    "The object storage has no such bucket yet.",
    "Have it made, or PELAGOS_OBJECTS_URI or PELAGOS_DATA_URI of the operator corrected.",
)
SYSTEM_REJECTED = _all_kinds(
    "SystemRejected", "action required", "A system that is needed refused the request.", "Follow the message."
)
INTERNAL_ERROR = _all_kinds(
    "InternalError",
    "unknown",
    "A fault of the operator. It tries again with growing pauses.",
    "Report it with the operator's log.",
)
DELETION_BLOCKED = _all_kinds(
    "DeletionBlocked",
    "recovering",
    "The resource is being deleted, and a system where it must clean up does not answer.",
    "It goes on by itself when the system answers. If that never will: set the annotation pelagos.dev/force-deletion to true.",
)
DELETION_FORCED = _all_kinds(
    "DeletionForced",
    "for information",
    "Of an event: the annotation pelagos.dev/force-deletion let the resource go although a system did not answer; the message names "
    "what was left there.",
    "When the system is back: pelagos orphans lists and removes it.",
)
CLEAN_UP_ABANDONED = _all_kinds(
    "CleanUpAbandoned",
    "for information",
    "Of an event: the Kubeflow server kept us out for 15 minutes after the resource was deleted, so its runs were left there; or we "
    "have no rights in the namespace any more, so that the cluster itself removes what served.",
    "End and delete the runs of its experiment, pelagos.<uid>, in Kubeflow, unless its namespace is gone.",
)
LINES_NOT_KEPT = _all_kinds(
    "LinesNotKept",
    "for information",
    "Of an event: the last lines of a pipeline step were not kept for when its pod is gone; the message says why.",
    "Read them from the pod while it is there: pelagos logs NAME. What is refused is tried once for each run.",
)
DISK_FULL = _of_steps("All kinds", failures.Reason.DISK_FULL)
REQUEST_NOT_UNDERSTOOD = _of_steps("All kinds", failures.Reason.REQUEST_NOT_UNDERSTOOD)
STORAGE_REFUSED = _of_steps("All kinds", failures.Reason.STORAGE_REFUSED)
READY = _all_kinds("Ready", "done", "All is as it should be.")

FOUND = _dataset("Found", "done", "The source is there.")
VERSION_READY = _dataset("VersionReady", "done", "The newest version can be trained on.")
REMOVING_VERSIONS = _dataset(
    "RemovingVersions",
    "in progress",
    "Versions beyond spec.history.keep are being removed from the store, where a preparation is due; it begins when that has ended.",
)
QUALITY_PASSED = _dataset("QualityPassed", "done", "The newest version keeps all bounds of spec.quality.")
NO_QUALITY_GATES = _dataset("NoQualityGates", "done", "spec.quality asks for nothing, so that nothing was judged.")
QUALITY_FAILED = _dataset(
    "QualityFailed",
    "action required",
    "The newest version does not keep a bound of spec.quality, or the splits of its source tear groups. With onFail Block no "
    "TrainingRun starts on it.",
    "Change the source, spec.split or spec.labels as the message says, or the bound: nothing is prepared again for that.",
)
FAIR_ENOUGH = _dataset(
    "FairEnough", "done", "The newest version is as FAIR as spec.fair.minScore asks, or nothing is asked."
)
FAIR_SCORE_TOO_LOW = _dataset(
    "FairScoreTooLow",
    "for information",
    "The newest version is less FAIR than spec.fair.minScore asks. It can be trained on, and is not to be published.",
    "See pelagos fair NAME for what would give more points, and set that in spec.metadata.",
)
NOT_ASKED_FOR = _dataset("NotAskedFor", "for information", "spec.publish is not set, so that nothing is published.")
PUBLISHED = _dataset("Published", "done", "The version is published. status.publication says where.")
DRAFT_MADE = _dataset(
    "DraftMade",
    "for information",
    "A draft of the version is in the repository, as spec.publish.zenodo.state asks. It is not published.",
    "Look at it there; set spec.publish.zenodo.state to Published to have it published, which nobody can take back.",
)
VERSION_NOT_LISTED = _dataset(
    "VersionNotListed",
    "action required",
    "spec.publish.version names a version that status.versions does not list, or one that spec.quality blocks.",
    "Name one that is listed, or none, for the newest.",
)
REPOSITORY_NOT_ALLOWED = _of_steps("Dataset", failures.Reason.REPOSITORY_NOT_ALLOWED)
REPOSITORY_ACCESS_DENIED = _of_steps("Dataset", failures.Reason.REPOSITORY_ACCESS_DENIED)
REPOSITORY_SECRET_INCOMPLETE = _of_steps("Dataset", failures.Reason.REPOSITORY_SECRET_INCOMPLETE)
REPOSITORY_AWAY = _of_steps("Dataset", failures.Reason.REPOSITORY_AWAY)
PUBLICATION_REFUSED = _of_steps("Dataset", failures.Reason.PUBLICATION_REFUSED)
METADATA_INCOMPLETE = _of_steps("Dataset", failures.Reason.METADATA_INCOMPLETE)
SOURCE_NOT_FOUND = _of_steps("Dataset", failures.Reason.SOURCE_NOT_FOUND)
SOURCE_REJECTED = _dataset(
    "SourceRejected",
    "action required",
    "The source may not be read: its path or a link in it leaves the data volume, or it holds too many files.",
    "Follow the message.",
)
SOURCE_NOT_READABLE = _of_steps("Dataset", failures.Reason.SOURCE_NOT_READABLE)
SOURCE_EMPTY = _of_steps("Dataset", failures.Reason.SOURCE_EMPTY)
SOURCE_NOT_ALLOWED = _of_steps("Dataset", failures.Reason.SOURCE_NOT_ALLOWED)
SOURCE_ACCESS_DENIED = _of_steps("Dataset", failures.Reason.SOURCE_ACCESS_DENIED)
SOURCE_SECRET_INCOMPLETE = _of_steps("All kinds", failures.Reason.SOURCE_SECRET_INCOMPLETE)
SOURCE_INVALID = _of_steps("Dataset", failures.Reason.SOURCE_INVALID)
SOURCE_CHANGED = _of_steps("Dataset", failures.Reason.SOURCE_CHANGED)
FORMAT_NOT_RECOGNISED = _of_steps("Dataset", failures.Reason.FORMAT_NOT_RECOGNISED)
FORMAT_INVALID = _of_steps("Dataset", failures.Reason.FORMAT_INVALID)
TASK_MISMATCH = _of_steps("Dataset", failures.Reason.TASK_MISMATCH)
CORRUPT_IMAGES = _of_steps("Dataset", failures.Reason.CORRUPT_IMAGES)
DUPLICATE_IMAGES = _of_steps("Dataset", failures.Reason.DUPLICATE_IMAGES)
NO_IMAGES_LEFT = _of_steps("Dataset", failures.Reason.NO_IMAGES_LEFT)
ANNOTATION_OUTSIDE_IMAGE = _of_steps("Dataset", failures.Reason.ANNOTATION_OUTSIDE_IMAGE)
UNKNOWN_CLASS = _of_steps("Dataset", failures.Reason.UNKNOWN_CLASS)
LABELS_INVALID = _of_steps("Dataset", failures.Reason.LABELS_INVALID)
CAPTURE_INVALID = _of_steps("Dataset", failures.Reason.CAPTURE_INVALID)
TAXA_UNKNOWN = _of_steps("Dataset", failures.Reason.TAXA_UNKNOWN)
TAXONOMY_UNAVAILABLE = _of_steps("Dataset", failures.Reason.TAXONOMY_UNAVAILABLE)
LABEL_WITHOUT_IMAGE = _of_steps("Dataset", failures.Reason.LABEL_WITHOUT_IMAGE)
CLASS_MISSING_FROM_TRAIN = _of_steps("Dataset", failures.Reason.CLASS_MISSING_FROM_TRAIN)
SPLIT_IMPOSSIBLE = _of_steps("Dataset", failures.Reason.SPLIT_IMPOSSIBLE)

DATASET_NOT_FOUND = _training_run(
    "DatasetNotFound", "waiting", "The Dataset does not exist yet.", "Create it, or name another."
)
DATASET_NOT_READY = _training_run(
    "DatasetNotReady", "in progress", "The Dataset is not Ready yet.", "See its own message."
)
VERSION_BLOCKED = _training_run(
    "VersionBlocked",
    "waiting",
    "The version of the Dataset did not pass the gates of its spec.quality, whose onFail is Block. Nothing is trained on it.",
    "See the condition QualityPassed of the Dataset, or name another version.",
)
DATASET_VERSION_UNKNOWN = _training_run(
    "DatasetVersionUnknown",
    "waiting",
    "The Dataset has no such version: its source may come to have that content, or had it too long ago.",
    "Bring the source to that content, or name one of its status.versions in a new TrainingRun.",
)
VERSION_FROZEN = _training_run("VersionFrozen", "done", "The dataset version is resolved and will not change.")
SPEC_IMMUTABLE = _training_run(
    "SpecImmutable",
    "action required",
    "A frozen field was changed after the run had been keyed. The run itself is not touched.",
    "Set it back, or create a new TrainingRun.",
)
CREATING = _training_run("Creating", "in progress", "The MLflow run is being created.")
DATASET_OUTSIDE_NAMESPACE = _training_run(
    "DatasetOutsideNamespace",
    "action required",
    "The dataset version lies outside of the namespace's part of the store. Nothing is read there.",
    "Create a new TrainingRun.",
)
RUN_CREATED = _training_run("RunCreated", "done", "The MLflow run exists.")
TRACKING_UNAVAILABLE = _training_run(
    "TrackingUnavailable", "unknown", "MLflow does not answer. A training that runs goes on."
)
TRACKED_RUN_MISSING = _training_run(
    "TrackedRunMissing",
    "action required",
    "The MLflow run was deleted before its model was registered.",
    "Restore it in MLflow, or create a new TrainingRun.",
)
TRAINING = _training_run("Training", "in progress", "Epochs are being trained; see status.progress.")
SEARCHING = _training_run(
    "Searching", "in progress", "Hyperparameters are being searched; see status.search and `pelagos search`."
)
EVALUATING = _training_run(
    "Evaluating", "in progress", "The model is being measured on the test split; see status.progress."
)
EXPORTING = _training_run(
    "Exporting", "in progress", "The model is being exported, proven and packaged; see status.progress."
)
EVALUATED = _training_run("Evaluated", "done", "The model was measured on the test split.")
DEADLINE_EXCEEDED = _training_run(
    "DeadlineExceeded",
    "action required",
    "The run took longer than spec.deadline and was ended.",
    "Raise it, and set the annotation pelagos.dev/retry.",
)
DATASET_NOT_READABLE = _of_steps("TrainingRun", failures.Reason.DATASET_NOT_READABLE)
LEAVE_ONE_OUT_IMPOSSIBLE = _of_steps("TrainingRun", failures.Reason.LEAVE_ONE_OUT_IMPOSSIBLE)
WORKSPACE_ALTERED = _of_steps("TrainingRun", failures.Reason.WORKSPACE_ALTERED)
CHECKPOINT_NOT_FOUND = _training_run(
    "CheckpointNotFound",
    "waiting",
    "model.weights names a file that is not on the data volume yet. Nothing is started before it is there.",
    "Put the file there, or name another in a new TrainingRun.",
)
SLICES_IMPOSSIBLE = _of_steps("TrainingRun", failures.Reason.SLICES_IMPOSSIBLE)
CHECKPOINT_INVALID = _of_steps("TrainingRun", failures.Reason.CHECKPOINT_INVALID)
UNTRUSTED_CHECKPOINT = _of_steps("TrainingRun", failures.Reason.UNTRUSTED_CHECKPOINT)
TRAINING_DIVERGED = _of_steps("TrainingRun", failures.Reason.TRAINING_DIVERGED)
OUT_OF_MEMORY = _of_steps("TrainingRun", failures.Reason.OUT_OF_MEMORY)
SEARCH_FAILED = _of_steps("TrainingRun", failures.Reason.SEARCH_FAILED)
PARITY_FAILED = _of_steps("TrainingRun", failures.Reason.PARITY_FAILED)
GATES_PASSED = _training_run("GatesPassed", "done", "All gates passed.")
GATE_FAILED = _training_run(
    "GateFailed",
    "action required",
    "A figure misses the bound of its gate: it is below the minimum, or above the maximum.",
    "Correct spec.gates (nothing is trained again), or train a better model as a new TrainingRun.",
)
GATE_METRIC_UNKNOWN = _training_run(
    "GateMetricUnknown",
    "action required",
    "A gate names a metric or a class that there is not, which is said before anything is trained where it is known; or one that "
    "is undefined: the test split has nothing to compute it from.",
    "Use one of those that the message lists, or train on a version whose test split shows the class.",
)
COMPARING = _training_run(
    "Comparing",
    "in progress",
    "The model is compared again, as another version has become the champion since; nothing is trained.",
)
CHAMPION_NOT_COMPARABLE = _training_run(
    "ChampionNotComparable",
    "action required",
    "A gate compares with a registered model of which it is not known what it does with the images of this test split.",
    "Do what the message says: train the champion on this dataset version and register it, name another one, or judge without.",
)
CHAMPION_CHANGED = _training_run(
    "ChampionChanged",
    "action required",
    "The model was compared with another version than the one that is the champion now, and cannot be compared again by itself.",
    "Do what the message says: set pelagos.dev/retry, upon which it is compared again, or create a new TrainingRun.",
)
REGISTERING = _training_run("Registering", "in progress", "The model is being registered.")
REGISTERED = _training_run("Registered", "done", "The model is registered.")
NOT_REQUESTED = _training_run("NotRequested", "for information", "spec.register is not set.")
REGISTRY_UNAVAILABLE = _training_run("RegistryUnavailable", "unknown", "The registry does not answer.")
MODEL_OWNED_BY_OTHER_NAMESPACE = _training_run(
    "ModelOwnedByOtherNamespace",
    "action required",
    "The registered model belongs to another namespace, whose TrainingRuns registered its versions.",
    "Choose another name in spec.register.model, or have it shared: tag pelagos.dev/shared = true on the model in MLflow.",
)
COMPLETED = _training_run("Completed", "done", "Trained, measured and, where asked for, registered.")

RESOLVED = _model_service("Resolved", "done", "It is clear which model is served.")
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
    "Put it there, or correct the reference; train or export the model again when it was deleted.",
)
MODEL_PACKAGE_INVALID = _model_service(
    "ModelPackageInvalid",
    "action required",
    "The reference leads out of the object store, to a registered version without a package, or to what is no package.",
    "Follow the message.",
)
MODEL_PACKAGE_UNPINNED = _model_service(
    "ModelPackageUnpinned",
    "action required",
    "Nothing in Kubernetes says what the model package must be, or spec says another thing than its TrainingRun. A package "
    "cannot vouch for itself.",
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
    "spec.model leads to a package of another namespace. Only packages that runs of the same namespace made are served.",
    "Train or register the model in this namespace, or name a package below the folder in the message.",
)
MODEL_NOT_SEALED = _model_service(
    "ModelNotSealed",
    "action required",
    "The registered version carries no seal of this operator for this namespace: somebody else registered or altered it, or its key is gone.",
    "Register it by a TrainingRun of this namespace, or say in spec.model.manifestSha256 what its package must be.",
)
REGISTRY_REJECTED = _model_service(
    "RegistryRejected", "action required", "The registry refused the look-up.", "Follow the message."
)
STARTING = _model_service(
    "Starting", "in progress", "The server is being started; one that serves already goes on meanwhile."
)
LOADING = _model_service("Loading", "in progress", "The server loads the model.")
LOADED = _model_service("Loaded", "done", "The server has loaded the model.")
LOAD_TIMEOUT = _model_service(
    "LoadTimeout", "recovering", "The model did not load within two minutes; the server is restarted."
)
MODEL_LOAD_FAILED = _model_service(
    "ModelLoadFailed",
    "action required",
    "The server refuses the model, or answers its probe wrong. On one machine, the model before it goes on being served.",
    "Correct spec.model; a new model is loaded by itself.",
)
SERVING_NOT_INSTALLED = _model_service(
    "ServingNotInstalled",
    "waiting",
    "The cluster does not have yet what the chosen serving engine needs: KServe, or its runtime.",
    "Have it installed, or another engine chosen (PELAGOS_SERVING_ENGINE).",
)
WAITING_FOR_CLUSTER = _model_service(
    "WaitingForCluster",
    "waiting",
    "The cluster cannot start the server yet: its image is missing, no node has room, or a quota is used up.",
    "Follow the message: it is the cluster's own.",
)
SCALED_TO_ZERO = _model_service("ScaledToZero", "done", "Idle: no replica runs, and the next request starts one.")
NOT_VERIFIED = _model_service(
    "NotVerified",
    "in progress",
    "Scaled to zero before an answer of this model with these settings was seen to be right. The next request starts a "
    "server, which is proven then.",
)
PACKAGE_NOT_FETCHED = _model_service(
    "PackageNotFetched",
    "recovering",
    "What brings the model package to the server ended with an error: credentials, address or memory. The cluster tries again.",
    "Follow the message: it names the container, its words, and what is missing.",
)
SERVER_CRASHED = _model_service(
    "ServerCrashed", "recovering", "The server's process is gone; it is started again with growing pauses."
)
PROBING = _model_service("Probing", "in progress", "The first synthetic inference is in progress.")
PROBE_FAILED = _model_service(
    "ProbeFailed",
    "recovering",
    "The synthetic inference gave a wrong answer or none. After three in a row the server is restarted.",
)
PROBE_SUCCEEDED = _model_service(
    "ProbeSucceeded", "done", "A real inference gave the answer of the training framework."
)
SERVING = _model_service("Serving", "done", "The endpoint answers right.")


_NAMED = {str(reason): reason for table in TABLES.values() for reason in table}


def documented() -> frozenset[str]:
    """Names of all reasons."""
    return frozenset(_NAMED)


def named(name: str) -> Reason:
    """The reason that something outside of the operator's code names: a step, or a condition."""
    return _NAMED.get(name) or Reason(name)
