"""What the check by KServe's own models finds, so that tests which rely on it prove something."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kubernetes.client import V1DeploymentStrategy

from kserve_fake_server import published

KIND = "V1beta1InferenceService"


def service(**predictor: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": "onnx"}}
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "a"}} | {
        "spec": {"predictor": {"model": model} | predictor}
    }


def test_what_kserve_knows_is_allowed() -> None:
    published.validator(KIND)(service(minReplicas=0, tolerations=[{"key": "a"}], serviceAccountName="lab"))


@pytest.mark.parametrize(
    ("predictor", "said"),
    [
        ({"replicas": 2}, "InferenceService.spec.predictor: field replicas is not known"),
        ({"minReplicas": "2"}, "spec.predictor.minReplicas: '2' is no int"),
        ({"minReplicas": True}, "spec.predictor.minReplicas: True is no int"),
        ({"labels": {"a": 1}}, "spec.predictor.labels.a: 1 is no str"),
        ({"tolerations": {"key": "a"}}, "spec.predictor.tolerations: {'key': 'a'} is no list"),
        ({"model": {"modelFormat": "onnx"}}, "spec.predictor.model.modelFormat: 'onnx' is no object"),
        ({"containers": [{"image": "a"}]}, "spec.predictor.containers[0]: 1 validation error for V1Container"),
        ({"volumes": [{"name": "a", "emptydir": {}}]}, "spec.predictor.volumes[0]: field emptydir is not known"),
    ],
)
def test_what_kserve_does_not_know_is_refused_with_its_place(predictor: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        published.validator(KIND)(service(**predictor))


def test_every_type_of_the_models_is_known() -> None:
    models, left = published.models(), [KIND, "V1alpha1ServingRuntime", "V1alpha1ClusterServingRuntime"]
    seen = {"str", "int", "bool", "float", "object", "datetime", "list", "dict", "List", "Dict"}
    while left:
        for name in {models.others.get(each, each) for each in re.findall(r"\w+", left.pop())} - seen:
            seen.add(name)
            left += models.named(name).openapi_types.values()

    assert V1DeploymentStrategy.__name__ in seen
