"""What uses versions of a Dataset: any resource, in any namespace, that names one in any field of its spec or status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pelagos.api.dataset import DatasetSpec
from pelagos.api.kinds import DATASET
from pelagos.api.versions import KEPT
from pelagos.ports.cluster import Resource
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.recalled import Recalled


def of(
    resource: Resource, result: Mapping[str, Any] | None, spec: DatasetSpec, cache: Cache
) -> Mapping[str, str] | None:
    """A description of the users of each version, for versions that the Dataset is removing or may begin to remove in this pass.

    Another Dataset uses a version only if it names its URI: two Datasets of equal content have versions with the same digest.

    None while not all resources are known, as after a start of the operator: a user may be among those that are missing.
    """
    recalled = Recalled(resource)
    removing = recalled.removals.removing or ()
    listed = [(str(each.get("version")), str(each.get("uri"))) for each in recalled.versions]
    is_new = result is not None and [version for version, _ in listed[:1]] != [result["version"]]
    named = spec.publish.version if spec.publish is not None else None
    keep = spec.history.keep if spec.history is not None and spec.history.keep else KEPT
    if len(listed) + is_new <= keep and not removing:
        return {}  # Nothing to remove, and the search goes through all resources.
    if not cache.is_complete:
        return None
    wanted = dict([*listed[keep - is_new :], *((each.version, each.uri) for each in removing)])
    found = {named: "spec.publish"} if named in wanted and named is not None else dict[str, str]()
    for other in cache.all():
        if other.key == resource.key:
            continue
        text = json.dumps([other.spec, other.status], default=str)
        for version in wanted.keys() - found.keys():
            if _named(version, wanted[version], other) in text:
                found[version] = _called(other, resource)
    return found


def _named(version: str, uri: str, other: Resource) -> str:
    """The text that the JSON of ``other`` contains if it uses the version."""
    return json.dumps(uri)[1:-1] if other.kind == DATASET else version.removeprefix("sha256:")


def _called(other: Resource, dataset: Resource) -> str:
    """How the Dataset's status names ``other``. Resources of other namespaces stay anonymous: tenants must not see each other."""
    if other.namespace != dataset.namespace:
        return "resources of another namespace"
    return f"{other.kind.kind} {other.namespace}/{other.name}"


def is_leaving(text: str, dataset: Resource) -> bool:
    """Whether a text, such as the request of a training, names a version that the Dataset is removing."""
    removing = Recalled(dataset).removals.removing or ()
    return any(each.version.removeprefix("sha256:") in text for each in removing)
