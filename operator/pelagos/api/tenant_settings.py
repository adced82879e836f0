"""The tenant settings of a namespace, in the ConfigMap ``pelagos-tenant-<namespace>``: its keys, and their values.

It is in the operator's namespace, where tenants cannot write. The same patterns validate it twice: in the operator when it is
read, and in a ValidatingAdmissionPolicy when it is written. Rules between the ConfigMaps of two namespaces are in tenancy.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pelagos_contract import source_hosts

PREFIX = "pelagos-tenant-"
"""Prefix of the names of these ConfigMaps, before the namespace."""
RETIRED = "pelagos-config"
"""Their former name in the tenant's own namespace. One that still exists is refused, not read."""

SYSTEM_NAMESPACES = "^kube-"
"""Pattern of namespaces that are never tenants."""

_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_SEGMENT = r"[A-Za-z0-9][-A-Za-z0-9_.]*"


@dataclass(frozen=True)
class TenantSetting:
    """One key. ``pattern`` must match the whole value, in Python and in RE2. An empty value means the installation's setting.

    For the keys in ``MAY_BE_EMPTY`` it means none: the namespace then shares with others.
    """

    key: str
    pattern: str
    longest: int
    allowed: str
    meaning: str

    def accepts(self, value: str) -> bool:
        """Whether the value is allowed."""
        return not value or (len(value) <= self.longest and re.fullmatch(self.pattern, value) is not None)


def _named(key: str, what: str, meaning: str) -> TenantSetting:
    return TenantSetting(key, _NAME, 253, f"the name of a {what} in the tenant's namespace", meaning)


def _list(key: str, what: str, meaning: str) -> TenantSetting:
    return TenantSetting(key, rf"{_NAME}([ ,]+{_NAME})*", 1000, f"names of {what}, separated by commas", meaning)


def _priority(key: str, pattern: str, longest: int, which: str, meaning: str) -> TenantSetting:
    what = "WorkloadPriorityClass" if key == "priority" else "WorkloadPriorityClasses, separated by commas"
    return TenantSetting(key, pattern, longest, f"{which} {what}", f"Kueue WorkloadPriorityClass. {meaning}")


TENANT_SETTINGS = (
    TenantSetting(
        "experimentPrefix",
        r"[A-Za-z0-9][-A-Za-z0-9_. /]*",
        100,
        "letters, digits and - _ . / or space, beginning with a letter or digit",
        "Put before the names of MLflow experiments; default: the namespace and a slash.",
    ),
    TenantSetting(
        "storagePrefix",
        rf"{_SEGMENT}(/{_SEGMENT})*",
        200,
        "folders separated by /, each of letters, digits and - _ . and beginning with a letter or digit",
        "Folder of the namespace below the roots of data and objects; default: the namespace.",
    ),
    _list("sharedWith", "namespaces", "Namespaces that may have the same prefixes; each must name the other."),
    _named("queue", "Kueue LocalQueue", "Queue of pipelines that name none. Where it is set, no other may be named."),
    _list("queues", "Kueue LocalQueues in the tenant's namespace", "Other queues that pipelines may name."),
    _priority("priority", _NAME, 63, "the name of a", "Priority of pipelines that name none; default: none."),
    _priority(
        "priorities",
        rf"{_NAME}([ ,]+{_NAME})*",
        1000,
        "names of",
        "Other priorities that pipelines may name; default: none.",
    ),
    _named("serviceAccount", "ServiceAccount", "Identity of model servers."),
    _named("pipelineServiceAccount", "ServiceAccount", "Identity of pipeline steps."),
    _named("trackingSecret", "Secret", "Credentials of MLflow for pipeline steps."),
    _named("objectsSecret", "Secret", "Credentials of the object storage."),
    _named("dataClaim", "PersistentVolumeClaim", "Claim that holds the data volume."),
    _named("objectsClaim", "PersistentVolumeClaim", "Claim that holds the objects."),
    _named("caConfigMap", "ConfigMap", "Certificate authorities (key ca.crt) of object storage and MLflow."),
    _list("imagePullSecrets", "Secrets in the tenant's namespace", "Credentials of image registries."),
    TenantSetting(
        source_hosts.KEY,
        source_hosts.PATTERN,
        source_hosts.LONGEST,
        "hosts (https://host, http://host:port, https://*.domain) and networks (10.20.0.0/16), separated by commas",
        "Where sources may be fetched from, in addition to public addresses over https; default: nowhere else.",
    ),
    TenantSetting(
        "maxGpus",
        r"[0-9]{1,4}",
        4,
        "a whole number from 0 to 9999",
        "Most GPUs that one resource may ask for.",
    ),
    TenantSetting(
        "gatewayAccess",
        "Nobody|Authenticated|Entitled",
        13,
        "Nobody, Authenticated or Entitled",
        "Who may call models through the gateway, in addition to users with a trial; default: as the gateway's settings "
        "say.",
    ),
    TenantSetting(
        "gatewayEntitlements",
        r"[!-+.-~-]+([ ,]+[!-+.-~-]+)*",
        4000,
        "entitlements as the identity provider writes them, separated by commas or spaces",
        "For Entitled: one of these is needed.",
    ),
    TenantSetting("trialsEnabled", r"true|false", 5, "true or false", "Whether models may be tried; default: true."),
    TenantSetting(
        "trialsPerUser",
        r"[0-9]{1,4}",
        4,
        "a whole number from 0 to 9999",
        "Most trials that one user may have at once, of those that the hub created; default: 3.",
    ),
    TenantSetting(
        "trialsAtOnce",
        r"[0-9]{1,4}",
        4,
        "a whole number from 0 to 9999",
        "Most trials in the namespace at once, by any creator; default: 5.",
    ),
    TenantSetting(
        "trialsLongest",
        r"[1-9][0-9]{0,3}(s|m|h)",
        5,
        "a duration, such as 90s, 10m or 1h",
        "How long a trial may last; default: 10m.",
    ),
    TenantSetting(
        "trialsEntitlements",
        r"[!-+.-~-]+([ ,]+[!-+.-~-]+)*",
        2000,
        "entitlements without spaces, separated by commas",
        "Who may try models: users for whom the hub attests one of these; default: anyone.",
    ),
    TenantSetting(
        "trialsKeep",
        r"[0-9]{1,4}(s|m|h)",
        5,
        "a duration, such as 90s, 10m or 1h",
        "How long after its end a Trial is kept so that it can be read; default: 10m.",
    ),
)
MAY_BE_EMPTY = frozenset({"experimentPrefix", "storagePrefix"})
LISTS = frozenset({"sharedWith", "queues", "priorities", "imagePullSecrets", "trialsEntitlements"})
NUMBERS = frozenset({"maxGpus", "trialsPerUser", "trialsAtOnce"})
SWITCHES = frozenset({"trialsEnabled"})
KEYS = tuple(setting.key for setting in TENANT_SETTINGS)


def name_of(namespace: str) -> str:
    """Name of the ConfigMap of a namespace."""
    return PREFIX + namespace


def listed(value: str) -> tuple[str, ...]:
    """The names in a value that lists several."""
    return tuple(part for part in re.split(r"[ ,]+", value) if part)


def read(key: str, value: str) -> bool | int | str | tuple[str, ...]:
    """The parsed value; it must be one that its key allows."""
    if key in LISTS:
        return listed(value)
    if key in NUMBERS:
        return int(value)
    return value == "true" if key in SWITCHES else value


def problem(data: Mapping[str, str]) -> str | None:
    """The first problem of the ConfigMap's data: key, value, and what is allowed; None without one."""
    known = {setting.key: setting for setting in TENANT_SETTINGS}
    for key, value in sorted(data.items()):
        if key not in known:
            return f"{key} is not a known key; allowed are {', '.join(KEYS)}"
        if not known[key].accepts(value):
            return (
                f"{key} is {value[:100]!r}; allowed is {known[key].allowed} (at most {known[key].longest} characters)"
            )
    try:
        source_hosts.parse(data.get(source_hosts.KEY, ""))
    except ValueError as error:
        return f"{source_hosts.KEY}: {error}"
    return None
