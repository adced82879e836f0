"""ValidatingAdmissionPolicies: what CEL in the CRDs cannot say, because it is about a ConfigMap, or about two objects.

Called by api/installation, which gives them the labels of an installation. The operator says the same later, where a server does
not know such policies (before 1.30) or they are not installed; only who may write conventions it cannot know.
"""

from __future__ import annotations

from typing import Any

from pelagos.api import conventions, kinds, meta

API_VERSION = "admissionregistration.k8s.io/v1"
VALUES, AUTHORITY, GPU_LIMIT = "pelagos-conventions", "pelagos-conventions-authority", "pelagos-gpu-limit"
POLICIES = (VALUES, AUTHORITY, GPU_LIMIT)

Struct = dict[str, Any]

_IS_OURS = {
    "name": "is-pelagos-config",
    # The name of the request is empty when a whole collection is deleted.
    "expression": f"(request.operation == 'DELETE' ? oldObject : object).metadata.name == '{conventions.CONFIG_MAP}'",
}
_NO_LIMIT = "!has(params.data) || !('maxGpus' in params.data) || !params.data['maxGpus'].matches('^[0-9]{1,4}$')"


def rendered() -> list[Struct]:
    """Every policy, each followed by its binding."""
    return [
        *_pair(VALUES, _values()),
        *_pair(AUTHORITY, _authority()),
        *_pair(GPU_LIMIT, _gpu_limit(), paramRef={"name": conventions.CONFIG_MAP, "parameterNotFoundAction": "Allow"}),
    ]


def _pair(name: str, spec: Struct, **binding: Any) -> tuple[Struct, Struct]:
    metadata = {"name": name}
    policy = {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {"failurePolicy": "Fail", **spec},
    }
    bound = {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": name, "validationActions": ["Deny"], **binding},
    }
    return policy, bound


def _matching(group: str, version: str, resources: list[str], operations: list[str]) -> Struct:
    rule = {"apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": resources}
    return {"resourceRules": [rule]}


def _values() -> Struct:
    """Unknown keys and bad values of pelagos-config, when it is written."""
    keys = ", ".join(f"'{key}'" for key in conventions.KEYS)
    validations = [
        {
            "expression": "!has(object.binaryData) || size(object.binaryData) == 0",
            "message": f"{conventions.CONFIG_MAP}: binaryData is not read; put text into data",
        },
        {
            "expression": f"!has(object.data) || object.data.all(key, key in [{keys}])",
            "message": f"{conventions.CONFIG_MAP}: a key is not known; allowed are {', '.join(conventions.KEYS)}",
        },
        *(_value(convention) for convention in conventions.CONVENTIONS),
    ]
    return {
        "matchConstraints": _matching("", "v1", ["configmaps"], ["CREATE", "UPDATE"]),
        "matchConditions": [_IS_OURS],
        "validations": validations,
    }


def _value(convention: conventions.Convention) -> Struct:
    value = f"object.data['{convention.key}']"
    good = f"size({value}) <= {convention.longest} && {value}.matches('^({convention.pattern})$')"
    allowed = f"allowed is {convention.allowed} (at most {convention.longest} characters)"
    return {
        "expression": f"!has(object.data) || !('{convention.key}' in object.data) || {value} == '' || ({good})",
        "message": f"{conventions.CONFIG_MAP}: {convention.key}: {allowed}",
    }


def _authority() -> Struct:
    """A storage prefix opens a part of the storage: a tenant that may write ConfigMaps must not choose it by itself."""
    allowed = "authorizer.group('').resource('namespaces').name(request.namespace).check('update').allowed()"
    return {
        "matchConstraints": _matching("", "v1", ["configmaps"], ["CREATE", "UPDATE", "DELETE"]),
        # Namespaces are emptied by a controller of the cluster when they are deleted.
        "matchConditions": [
            _IS_OURS,
            {
                "name": "is-no-controller",
                "expression": "!(request.operation == 'DELETE' && "
                "request.userInfo.username == 'system:serviceaccount:kube-system:namespace-controller')",
            },
        ],
        "validations": [
            {
                "expression": allowed,
                "message": f"{conventions.CONFIG_MAP} may be changed only by who may update the namespace itself",
                "reason": "Forbidden",
            }
        ],
    }


def _gpu_limit() -> Struct:
    """More GPUs than the namespace allows, in all replicas. Only what asks for more than before is refused: the rest must go on.

    A TrainingRun has no spec.scaling: the server's check of types remarks that in the policy's status, and judges rightly.
    """
    plurals = [kinds.TRAINING_RUN.plural, kinds.MODEL_SERVICE.plural]
    message = (
        "'spec.resources.gpus is ' + string(variables.gpus) + (variables.replicas > 1 ? ' for each of up to ' + "
        "string(variables.replicas) + ' replicas (spec.scaling.max), ' + string(variables.gpus * variables.replicas) + "
        "' in all' : '') + ', and the namespace allows at most ' + params.data['maxGpus'] + "
        "' for one resource (maxGpus in its ConfigMap pelagos-config). Ask for fewer, or have the limit raised'"
    )
    gpus, replicas = _number("object", "resources.gpus", 0), _number("object", "scaling.max", 1)
    before = f"{_number('oldObject', 'resources.gpus', 0)} * {_number('oldObject', 'scaling.max', 1)}"
    return {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": _matching(meta.GROUP, meta.VERSION, plurals, ["CREATE", "UPDATE"]),
        "variables": [
            {"name": "gpus", "expression": gpus},
            {"name": "replicas", "expression": replicas},
            {"name": "before", "expression": f"request.operation == 'CREATE' ? 0 : {before}"},
        ],
        "validations": [
            {
                "expression": f"{_NO_LIMIT} || variables.gpus * variables.replicas <= variables.before || "
                "variables.gpus * variables.replicas <= int(params.data['maxGpus'])",
                "message": "spec.resources.gpus is above maxGpus of the namespace's ConfigMap pelagos-config",
                "messageExpression": message,
            }
        ],
    }


def _number(side: str, path: str, default: int) -> str:
    """The number at a path of two fields below spec, or the default."""
    whole, part = f"{side}.spec.{path.split('.', maxsplit=1)[0]}", f"{side}.spec.{path}"
    return f"(has({whole}) && has({part}) ? {part} : {default})"
