"""Explains why KServe's storage initializer could not fetch a package, and what to change. Pure.

Called by pod_status. A webhook of KServe adds the container: its credentials come from Secrets that the ServiceAccount lists, the
storage's address from annotations of these Secrets, and its limits from the configuration of the cluster.
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
    "There is no such package, or no such bucket: check whether the annotations {annotations} of the Secret that the "
    "ServiceAccount {account} lists name the storage that it was written to"
)
_ADVICE = (
    (re.compile(r"Unable to locate credentials|Partial credentials"), _NONE),
    (re.compile(r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|\b403\b|Forbidden"), _REFUSED),
    (re.compile(r"Could not connect to the endpoint|EndpointConnectionError|[Tt]imed? ?out|resolve|SSL"), _UNREACHABLE),
    (re.compile(r"No model found in|NoSuchBucket"), _ABSENT),
)
"""Patterns in botocore's messages, each with advice; the first match counts."""
_CAUSE = re.compile(r"ERROR \[\S+ S3 error for \S+: (.+)|ERROR \[\S+ (.+)")
"""Its log lines: first the storage's error, then its own summary, which reports an unknown key as a missing bucket."""


def cause(message: str) -> str:
    """The storage's own error in the log, else the initializer's summary; the whole log when it has neither."""
    found = [first or then for first, then in _CAUSE.findall(message)]
    return found[0] if found else message


def advice(pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> str:
    """Advice on how to let the storage initializer fetch the package; "" when none is known."""
    if terminated.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        given = f" of {limit}" if limit else ""
        return (
            f"out of memory: its limit{given} is not set by spec.resources, but by the cluster. Raise it in the "
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
