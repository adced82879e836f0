"""What KServe's storage initializer leaves behind when it cannot bring a package, and who must give it what is missing. Pure.

Called by pod_status. The container is made by a webhook of KServe: credentials come from Secrets that the ServiceAccount lists,
where the storage is from annotations of these Secrets, and its limits from the configuration of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAME = "storage-initializer"
_ANNOTATIONS = "serving.kserve.io/s3-endpoint, serving.kserve.io/s3-usehttps and serving.kserve.io/s3-region"
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NONE = "List a Secret with the keys {keys} in `secrets` of the ServiceAccount {account}, and annotate it with {annotations}"
_REFUSED = (
    "The storage refuses the keys: correct the Secret that the ServiceAccount {account} lists. Without the annotations "
    "{annotations} AWS itself was asked"
)
_UNREACHABLE = "Correct the annotations {annotations} of the Secret that the ServiceAccount {account} lists"
_ABSENT = (
    "There is no such package, or no such bucket: see whether the annotations {annotations} of the Secret that the "
    "ServiceAccount {account} lists name the storage that it was written to"
)
_ADVICE = (
    (re.compile(r"Unable to locate credentials|Partial credentials"), _NONE),
    (re.compile(r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|\b403\b|Forbidden"), _REFUSED),
    (re.compile(r"Could not connect to the endpoint|EndpointConnectionError|[Tt]imed? ?out|resolve|SSL"), _UNREACHABLE),
    (re.compile(r"No model found in|NoSuchBucket"), _ABSENT),
)
"""Words of botocore, and what is to be done about them; the first that fits."""
_CAUSE = re.compile(r"ERROR \[\S+ S3 error for \S+: (.+)|ERROR \[\S+ (.+)")
"""What it logs. The last is what it makes of the storage's words: of a key that the storage does not know, a missing bucket."""


def cause(message: str) -> str:
    """The storage's own words in the log that it leaves behind, or what it makes of them; all of the log when it has neither."""
    found = [first or then for first, then in _CAUSE.findall(message)]
    return found[0] if found else message


def advice(pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> str:
    """What to do so that the storage initializer can bring the package; empty where its own words are all there is."""
    if terminated.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        given = f" of {limit}" if limit else ""
        return (
            f"out of memory: its limit{given} is not that of spec.resources, it is the cluster's. Raise it in the "
            "ClusterStorageContainer, or as memoryLimit of storageInitializer in the ConfigMap inferenceservice-config of KServe"
        )
    message = str(terminated.get("message", ""))
    for words, text in _ADVICE:
        if words.search(message):
            account = str(pod.get("spec", {}).get("serviceAccountName") or "default")
            return text.format(keys=_KEYS, account=account, annotations=_ANNOTATIONS)
    return ""


def _memory_limit(pod: Mapping[str, Any]) -> str:
    for container in pod.get("spec", {}).get("initContainers") or ():
        if container.get("name") == NAME:
            return str(((container.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""
