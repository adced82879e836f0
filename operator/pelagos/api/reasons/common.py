"""Reasons of all kinds."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import of_steps, tabled
from pelagos_contract import failures

_all_kinds = functools.partial(tabled, "All kinds")

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
DISK_FULL = of_steps("All kinds", failures.Reason.DISK_FULL)
REQUEST_NOT_UNDERSTOOD = of_steps("All kinds", failures.Reason.REQUEST_NOT_UNDERSTOOD)
STORAGE_REFUSED = of_steps("All kinds", failures.Reason.STORAGE_REFUSED)
READY = _all_kinds("Ready", "done", "All is as it should be.")
