"""Reasons of all kinds."""

from __future__ import annotations

import functools

from pelagos.api.reasons.tables import of_steps, tabled
from pelagos_contract import failures

_all_kinds = functools.partial(tabled, "All kinds")

ACCEPTED = _all_kinds("Accepted", "in progress", "The resource was seen and waits for its first pass, behind others.")
PENDING = _all_kinds("Pending", "in progress", "An earlier step is not done yet.")
INVALID_SPEC = _all_kinds(
    "InvalidSpec",
    "action required",
    "A field, or fields together, have a value that is not allowed.",
    "Correct the field that the message names.",
)
GPU_LIMIT_EXCEEDED = _all_kinds(
    "GpuLimitExceeded",
    "action required",
    "More GPUs are requested than the platform allows in the namespace (maxGpus). What is already running continues.",
    "Request fewer in spec.resources.gpus, or have the limit raised; it is checked every few seconds.",
)
QUEUE_NOT_ALLOWED = _all_kinds(
    "QueueNotAllowed",
    "action required",
    "spec.resources.queue is not one of the queues that the platform allows in the namespace. What is already running "
    "continues.",
    "Name one of those in the message, or none, or have yours allowed; this is checked every few seconds.",
)
PRIORITY_NOT_ALLOWED = _all_kinds(
    "PriorityNotAllowed",
    "action required",
    "spec.priority is not one of the priorities that the platform allows in the namespace. What is already running or "
    "waiting continues.",
    "Name one of those in the message, or none, or have yours allowed; this is checked every few seconds.",
)
TENANT_REFUSED = _all_kinds(
    "TenantRefused",
    "action required",
    "The platform's settings for the namespace cannot be used: a value is not allowed, another namespace has the prefix, "
    "or the namespace still has a ConfigMap pelagos-config, which is not read any more; or the namespace belongs to the "
    "cluster itself. What is running or serving stays as it is.",
    "Have the ConfigMap that the message names corrected (pelagos-tenant-<namespace> in the operator's namespace).",
)
NAMESPACE_NOT_ADMITTED = _all_kinds(
    "NamespaceNotAdmitted",
    "waiting",
    "The operator has no rights in the namespace, since nobody has made it a tenant yet. Other namespaces are not "
    "affected.",
    "Have the RoleBinding created with the command in the message.",
)
AUTHORITY_KEY_MISSING = _all_kinds(
    "AuthorityKeyMissing",
    "waiting",
    "The operator has no key to seal with, so it trusts nothing outside Kubernetes and starts nothing new. What is served "
    "stays served.",
    "Restore the key from your backup, or create one: see the backup section of docs/operating.md.",
)
RESULT_NOT_AUTHENTIC = _all_kinds(
    "ResultNotAuthentic",
    "action required",
    "The run succeeded, but its result is not one that its steps wrote: it was altered, belongs to another run or attempt, "
    "or is sealed with a key that no longer exists.",
    "Find out who writes to the storage of the namespace, then set the annotation pelagos.dev/retry to a new value.",
)
SUSPENDED = _all_kinds("Suspended", "paused", "spec.suspend is true.", "Set it to false to continue.")
SUBMITTING = _all_kinds("Submitting", "in progress", "The pipeline run is being submitted.")
QUEUED = _all_kinds(
    "Queued",
    "in progress",
    "The pipeline run waits for its turn: in its queue (then the message is Kueue's own), or until the pipeline server "
    "starts it.",
)
UNSCHEDULABLE = _all_kinds(
    "Unschedulable",
    "waiting",
    "No node has room for a pipeline step, or no node is of the kind that spec.resources asks for. The message is the "
    "scheduler's own.",
    "Wait for other work to end, add a node, or request less in spec.resources.",
)
QUOTA_EXCEEDED = _all_kinds(
    "QuotaExceeded",
    "waiting",
    "A quota of the namespace is used up, so the cluster accepts no pod for a pipeline step. The operator tries again.",
    "Wait for other work of the namespace to end, or have the quota raised.",
)
REQUEST_TOO_LARGE = _all_kinds(
    "RequestTooLarge",
    "action required",
    "A pipeline step requests more than its queue or its namespace's quota holds even when nothing else runs. It can never "
    "start like this.",
    "Request less in spec.resources, or have the quota raised; then it continues by itself.",
)
QUEUE_NOT_USABLE = _all_kinds(
    "QueueNotUsable",
    "action required",
    "The queue of a pipeline step does not exist, is stopped, or does not accept the namespace. Kueue holds the step back "
    "until that changes.",
    "Have the LocalQueue or its ClusterQueue created or started, or name another in spec.resources.queue; then it "
    "continues by itself.",
)
PRIORITY_NOT_USABLE = _all_kinds(
    "PriorityNotUsable",
    "action required",
    "No WorkloadPriorityClass has the name in spec.priority, or there is no Kueue that knows such classes. Kueue would "
    "never accept a step with it, so no run is made.",
    "Name one that exists (the message lists them), or none, or have it created; then it continues by itself.",
)
IMAGE_NOT_PULLED = _all_kinds(
    "ImageNotPulled",
    "waiting",
    "The image of a pipeline step cannot be pulled. The cluster tries again.",
    "Push the image to the registry, or correct PELAGOS_TRAINER_IMAGE or the imagePullSecrets of the tenant.",
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
    "A volume of a pipeline step does not exist, is not bound, or cannot be mounted. The message is the cluster's own.",
    "Create the claim that the message names, or have its volume created.",
)
STEP_NOT_CONFIGURED = _all_kinds(
    "StepNotConfigured",
    "waiting",
    "A Secret or ConfigMap that a pipeline step needs, or a key of it, does not exist.",
    "Create what the message names in the namespace; the step then starts by itself.",
)
POD_REFUSED = _all_kinds(
    "PodRefused",
    "action required",
    "The cluster does not accept the pod of a pipeline step: a policy, a limit or Pod Security refuses it. The message is "
    "the cluster's own.",
    "Follow the message, then set the annotation pelagos.dev/retry to a new value.",
)
STEP_STARTING = _all_kinds(
    "StepStarting",
    "in progress",
    "A pipeline step is being started: its pod is getting its node, its image and its volumes.",
)
RUNNING = _all_kinds("Running", "in progress", "The pipeline run is in progress.")
SUCCEEDED = _all_kinds("Succeeded", "done", "The pipeline run succeeded.")
ENDING = _all_kinds(
    "Ending", "in progress", "What runs for the resource is being ended; its processes have not exited yet."
)
MADE_AGAIN = _all_kinds(
    "MadeAgain",
    "in progress",
    "The pipeline run has to be started, and an upgrade has changed a default or an algorithm since it was first made: it "
    "is made with the present ones. The message says which.",
)
RETRYING = _all_kinds(
    "Retrying",
    "in progress",
    "The pipeline run is being started again, because you asked for it, or because it was canceled or ended with the "
    "installation.",
)
PIPELINE_INTERRUPTED = _all_kinds(
    "PipelineInterrupted",
    "recovering",
    "The run's process was killed or the machine restarted; the run is started again and continues where it was.",
)
PREEMPTED = _all_kinds(
    "Preempted",
    "recovering",
    "Kueue ended the pod of a step for another workload: a more important one, or one that its quota belongs to. The run "
    "is submitted again, waits in its queue, and continues from its last checkpoint. That never counts as a failure, "
    "however often it happens.",
)
PIPELINE_FAILED = _all_kinds(
    "PipelineFailed",
    "action required",
    "A step crashed without an explanation. It is tried three times; after that the resource stalls.",
    "Read the log that the message names, correct the cause, and set the annotation pelagos.dev/retry to a new value.",
)
NAMESPACE_NOT_READY = _all_kinds(
    "NamespaceNotReady",
    "waiting",
    "Something is missing or wrong in the namespace where the steps of the pipeline run would be, so that they would never "
    "start, or would fail after their work: the ConfigMap kfp-launcher, a ServiceAccount, a LocalQueue, or a quota too "
    "small for one step. No run is made until then.",
    "Have the platform correct what the message names; pelagos doctor shows it, too. It is checked again every few "
    "seconds.",
)
RUN_NOT_RECORDED = _all_kinds(
    "RunNotRecorded",
    "unknown",
    "The pipeline server no longer has a record of the run, but pods of it are still running. No other run is started "
    "beside it; its result counts.",
    "Wait until it ends, or delete the Argo Workflow that the message names. The server's administrator knows who deletes "
    "records.",
)
SYSTEM_UNAVAILABLE = _all_kinds(
    "SystemUnavailable",
    "unknown",
    "A required system does not answer. It is asked again every few seconds.",
)
STATUS_TOO_LARGE = _all_kinds(
    "StatusTooLarge",
    "action required",
    "The status does not fit into the resource: an object may have about 1.5 MB. What is running continues.",
    "Shorten the spec and annotations of the resource, or divide it.",
)
BUCKET_NOT_FOUND = _all_kinds(
    "BucketNotFound",
    "waiting",
    "The object storage has no such bucket yet.",
    "Have it created, or have PELAGOS_OBJECTS_URI or PELAGOS_DATA_URI of the operator corrected.",
)
SYSTEM_REJECTED = _all_kinds(
    "SystemRejected", "action required", "A required system refused the request.", "Follow the message."
)
INTERNAL_ERROR = _all_kinds(
    "InternalError",
    "unknown",
    "An error in the operator itself. It tries again at growing intervals.",
    "Report it with the operator's log.",
)
DELETION_BLOCKED = _all_kinds(
    "DeletionBlocked",
    "recovering",
    "The resource is being deleted, but a system where it must clean up does not answer.",
    "It continues by itself when the system answers. If it never will: set the annotation pelagos.dev/force-deletion to "
    "true.",
)
DELETION_FORCED = _all_kinds(
    "DeletionForced",
    "for information",
    "Event: because of the annotation pelagos.dev/force-deletion the resource was deleted although a system did not "
    "answer; the message names what was left there.",
    "When the system answers again: pelagos orphans lists and removes it.",
)
CLEAN_UP_ABANDONED = _all_kinds(
    "CleanUpAbandoned",
    "for information",
    "Event: the Kubeflow server denied us access for 15 minutes after the resource was deleted, so its runs were left "
    "there; or we no longer have rights in the namespace, so the cluster itself removes what served.",
    "End and delete the runs of its experiment, pelagos.<uid>, in Kubeflow, unless its namespace was deleted.",
)
LINES_NOT_KEPT = _all_kinds(
    "LinesNotKept",
    "for information",
    "Event: the last log lines of a pipeline step were not kept for the time after its pod is deleted; the message says "
    "why.",
    "Read them from the pod while it exists: pelagos logs NAME. If keeping them is refused, it is tried once for each run.",
)
DISK_FULL = of_steps("All kinds", failures.Reason.DISK_FULL)
REQUEST_NOT_UNDERSTOOD = of_steps("All kinds", failures.Reason.REQUEST_NOT_UNDERSTOOD)
STORAGE_REFUSED = of_steps("All kinds", failures.Reason.STORAGE_REFUSED)
READY = _all_kinds("Ready", "done", "All is as it should be.")
