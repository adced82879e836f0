"""Compares the acts of an identity, by the API server's audit log, with the rights in its roles: the two must be equal.

Used by tests/manifests, and by hand on the log of any cluster whose audit policy records the level Metadata:

python tests/audit_rbac.py AUDIT.log MANIFESTS.yaml system:serviceaccount:pelagos-system:pelagos-operator
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""An audit policy that records requests of service accounts."""
FORBIDDEN, CREATED = 403, 201


@dataclass(frozen=True, order=True)
class Act:
    """A request. ``resource`` includes the subresource; ``name`` is empty for requests about many objects or a new one."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str


@dataclass(frozen=True, order=True)
class Grant:
    """One verb on one resource. An empty ``namespace`` means all namespaces, an empty ``name`` all objects."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str

    def covers(self, act: Act) -> bool:
        """Whether this grant allows the act."""
        same = (self.group, self.resource, self.verb) == (act.group, act.resource, act.verb)
        return same and self.namespace in ("", act.namespace) and self.name in ("", act.name)


@dataclass(frozen=True)
class Trace:
    """The requests that were made, and those of them that were forbidden."""

    done: frozenset[Act]
    forbidden: frozenset[Act]


def trace(lines: Iterable[str], user: str) -> Trace:
    """The acts of ``user``. Requests about no resource, such as discovery, are open to everyone and left out."""
    done: set[Act] = set()
    forbidden: set[Act] = set()
    for line in lines:
        event = json.loads(line)
        if event.get("user", {}).get("username") != user or "objectRef" not in event:
            continue
        code = event.get("responseStatus", {}).get("code", 0)
        for act in _acts(event, code):
            (forbidden if code == FORBIDDEN else done).add(act)
    return Trace(frozenset(done), frozenset(forbidden))


def _acts(event: Mapping[str, Any], code: int) -> Iterator[Act]:
    found = event["objectRef"]
    resource = "/".join(filter(None, (found["resource"], found.get("subresource", ""))))
    verb = event["verb"]
    name = "" if verb == "create" else found.get("name", "")
    place = (found.get("namespace", ""), name)
    yield Act(found.get("apiGroup", ""), resource, verb, *place)
    if verb == "patch" and code == CREATED:
        # Server-side apply of an object that did not exist: the server checks the right to create as well.
        yield Act(found.get("apiGroup", ""), resource, "create", found.get("namespace", ""), "")


def grants(bodies: Iterable[Mapping[str, Any]], user: str) -> frozenset[Grant]:
    """All rights that the bindings among ``bodies`` give to ``user``, a service account."""
    listed = list(bodies)
    roles = {_key(body): body for body in listed if body["kind"] in {"Role", "ClusterRole"}}
    found: set[Grant] = set()
    for body in listed:
        if body["kind"] in {"RoleBinding", "ClusterRoleBinding"} and any(_is(user, each) for each in body["subjects"]):
            namespace = body["metadata"].get("namespace", "")
            reference = body["roleRef"]
            role = roles[reference["kind"], namespace if reference["kind"] == "Role" else "", reference["name"]]
            found |= set(_granted(role, namespace))
    return frozenset(found)


def _key(role: Mapping[str, Any]) -> tuple[str, str, str]:
    return role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]


def _is(user: str, subject: Mapping[str, Any]) -> bool:
    return user == f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}"


def _granted(role: Mapping[str, Any], namespace: str) -> Iterator[Grant]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Grant(group, resource, verb, namespace, name)


def problems(seen: Trace, given: Iterable[Grant]) -> list[str]:
    """Acts without a right, acts that were forbidden, and rights that were never used; empty when acts and rights are equal."""
    listed = sorted(given)
    lacking = {act for act in seen.done if not any(grant.covers(act) for grant in listed)}
    idle = [grant for grant in listed if not any(grant.covers(act) for act in seen.done)]
    return [
        *(f"forbidden: {act}" for act in sorted(seen.forbidden)),
        *(f"not granted: {act}" for act in sorted(lacking)),
        *(f"never used: {grant}" for grant in idle),
    ]


def main() -> None:
    """Print the problems; exit code 1 when there are any."""
    log, manifests, user = sys.argv[1:]
    bodies = [body for body in yaml.safe_load_all(Path(manifests).read_text(encoding="utf-8")) if body]
    with Path(log).open(encoding="utf-8") as lines:
        found = problems(trace(lines, user), grants(bodies, user))
    print("\n".join(found) or "what is granted is what was used")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
