"""ValidatingAdmissionPolicies for rules that CEL in the CRDs cannot express, because they involve a ConfigMap or two objects.

Called by tools/generators, which adds the labels of an installation. The operator reports the same problems later, if a server
lacks such policies (before 1.30) or they are not installed. Nothing depends on them; they only make errors appear sooner.
"""

from __future__ import annotations

from typing import Any

from pelagos.api import kinds, meta, tenant_settings

API_VERSION = "admissionregistration.k8s.io/v1"
VALUES, GPU_LIMIT = "pelagos-tenant-settings", "pelagos-gpu-limit"
POLICIES = (VALUES, GPU_LIMIT)

Struct = dict[str, Any]

_IS_OURS = {
    "name": "is-about-a-tenant",
    "expression": f"object.metadata.name.startsWith('{tenant_settings.PREFIX}') "
    f"|| object.metadata.name == '{tenant_settings.RETIRED}'",
}
_OWN = f"{tenant_settings.PREFIX}<namespace>"
_NO_LIMIT = (
    f"params.metadata.name != '{tenant_settings.PREFIX}' + request.namespace || "
    "!has(params.data) || !('maxGpus' in params.data) || !params.data['maxGpus'].matches('^[0-9]{1,4}$')"
)


def rendered(home: Any) -> list[Struct]:
    """Every policy, each followed by its binding. ``home`` is the operator's namespace."""
    # A binding cannot name a different ConfigMap for each namespace: it selects all, and the policy picks the right one.
    params = {"namespace": home, "selector": {}, "parameterNotFoundAction": "Allow"}
    return [*_pair(VALUES, _values()), *_pair(GPU_LIMIT, _gpu_limit(), paramRef=params)]


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
    """Refuses unknown keys and bad values of a tenant's ConfigMap when it is written, and ConfigMaps with the retired name."""
    keys = ", ".join(f"'{key}'" for key in tenant_settings.KEYS)
    validations = [
        {
            "expression": f"object.metadata.name != '{tenant_settings.RETIRED}'",
            "message": f"{tenant_settings.RETIRED} is not read any more: the platform writes {_OWN} in the operator's "
            "namespace",
        },
        {
            "expression": "!has(object.binaryData) || size(object.binaryData) == 0",
            "message": f"{_OWN}: binaryData is not read; put text into data",
        },
        {
            "expression": f"!has(object.data) || object.data.all(key, key in [{keys}])",
            "message": f"{_OWN}: unknown key; allowed are {', '.join(tenant_settings.KEYS)}",
        },
        *(_value(setting) for setting in tenant_settings.TENANT_SETTINGS),
    ]
    return {
        "matchConstraints": _matching("", "v1", ["configmaps"], ["CREATE", "UPDATE"]),
        "matchConditions": [_IS_OURS],
        "validations": validations,
    }


def _value(setting: tenant_settings.TenantSetting) -> Struct:
    value = f"object.data['{setting.key}']"
    good = f"size({value}) <= {setting.longest} && {value}.matches('^({setting.pattern})$')"
    allowed = f"allowed is {setting.allowed} (at most {setting.longest} characters)"
    return {
        "expression": f"!has(object.data) || !('{setting.key}' in object.data) || {value} == '' || ({good})",
        "message": f"{_OWN}: {setting.key}: {allowed}",
    }


def _gpu_limit() -> Struct:
    """Refuses more GPUs than the namespace allows, in all replicas. Only an increase is refused: other updates must still work.

    A TrainingRun has no spec.scaling: the server's type check notes that in the policy's status, but evaluates correctly.
    """
    plurals = [kinds.TRAINING_RUN.plural, kinds.MODEL_SERVICE.plural]
    message = (
        "'spec.resources.gpus is ' + string(variables.gpus) + (variables.replicas > 1 ? ' for each of up to ' + "
        "string(variables.replicas) + ' replicas (spec.scaling), ' + string(variables.gpus * variables.replicas) + "
        "' in all' : '') + ', and the namespace allows at most ' + params.data['maxGpus'] + "
        "' for one resource (maxGpus, which the platform sets). Ask for fewer, or have the limit raised'"
    )
    gpus, replicas = _number("object", "resources.gpus", 0), _replicas("object")
    before = f"{_number('oldObject', 'resources.gpus', 0)} * {_replicas('oldObject')}"
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
                "message": "spec.resources.gpus is above maxGpus, which the platform sets for the namespace",
                "messageExpression": message,
            }
        ],
    }


def _replicas(side: str) -> str:
    fewest, most = _number(side, "scaling.min", 1), _number(side, "scaling.max", 1)
    return f"({fewest} > {most} ? {fewest} : {most})"


def _number(side: str, path: str, default: int) -> str:
    """A CEL expression for the number at a path of two fields below spec, or the default."""
    whole, part = f"{side}.spec.{path.split('.', maxsplit=1)[0]}", f"{side}.spec.{path}"
    return f"(has({whole}) && has({part}) ? {part} : {default})"
