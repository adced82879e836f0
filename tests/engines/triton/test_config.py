"""config.pbtxt, compared with how Google's protobuf library reads the same JSON."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from model_packages import described
from pelagos.engines.triton import config as triton_config
from pelagos.ports.placement import Placement
from pelagos.ports.serving import DesiredService

texts = st.text(max_size=12)
names = st.text(alphabet="abcdefghij_", min_size=1, max_size=8)
tensors = st.lists(
    st.fixed_dictionaries(
        {
            "name": texts,
            "data_type": st.sampled_from(["TYPE_STRING", "TYPE_FP32", "TYPE_INT32"]),
            "dims": st.lists(st.integers(-1, 2**40), max_size=3),
        },
        optional={"optional": st.booleans(), "format": st.sampled_from(["FORMAT_NONE", "FORMAT_NCHW"])},
    ),
    max_size=3,
)
WARM = {"data_type": "TYPE_FP32", "dims": [1], "zero_data": True}
configs = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "backend": texts,
        "max_batch_size": st.integers(0, 2**31 - 1),
        "input": tensors,
        "instance_group": st.lists(
            st.fixed_dictionaries({"kind": st.just("KIND_CPU"), "count": st.integers(1, 99)}), max_size=2
        ),
        "dynamic_batching": st.fixed_dictionaries(
            {},
            optional={
                "max_queue_delay_microseconds": st.integers(0, 2**63),
                "preferred_batch_size": st.lists(st.integers(1, 9), max_size=3),
                "preserve_ordering": st.booleans(),
                "default_queue_policy": st.fixed_dictionaries({"timeout_action": st.sampled_from(["REJECT", "DELAY"])}),
            },
        ),
        "parameters": st.dictionaries(texts, st.fixed_dictionaries({"string_value": texts}), max_size=3),
        "metric_tags": st.dictionaries(texts, texts, max_size=3),
        "version_policy": st.just({"latest": {"num_versions": 1}}),
        "model_warmup": st.just([{"name": "w", "batch_size": 1, "inputs": {"a": WARM}}]),
    },
)  # fmt: skip


@given(configs)
def test_the_text_says_what_the_json_says(config: dict[str, Any]) -> None:
    expected = json_format.ParseDict(config, model_config_pb2.ModelConfig())
    assert text_format.Parse(triton_config.render(config), model_config_pb2.ModelConfig()) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": None}, "name: a ModelConfig cannot hold a NoneType"),
        ({"input": [{"data_type": "TYPE_FP32 } name: 'x'"}]}, "is not the name of an enum value"),
        ({"name: 'x' backend": "y"}, "is not the name of a field"),
        ({"max_batch_size": float("nan")}, "not JSON compliant"),
    ],
)
def test_what_is_no_model_config_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        triton_config.render(config)


def make_want(**changes: Any) -> DesiredService:
    fields: dict[str, Any] = {
        "uid": "u", "namespace": "n", "name": "s", "model_name": "plankton", "package_uri": "/p", "onnx_sha256": "0",
        "manifest_sha256": "12ab", "max_batch_size": 2, "max_queue_delay": 5000, "instances": 3, "confidence": "0.4",
        "iou": "0.5", "cpu": 2, "digest": "d",
    }  # fmt: skip
    return DesiredService(**fields | changes)


def test_a_service_sets_name_batching_instances_and_thresholds() -> None:
    thresholds = {"confidence": 0.25, "iou": 0.7, "maxDetections": 200}
    assert triton_config.for_service(described(thresholds=thresholds), make_want(max_detections=900)) == {
        "name": "plankton",
        "backend": "python",
        "max_batch_size": 2,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [
            {"name": "prediction", "data_type": "TYPE_STRING", "dims": [1]},
            {"name": "error", "data_type": "TYPE_STRING", "dims": [1]},
            {"name": "count", "data_type": "TYPE_INT32", "dims": [1]},
            {"name": "boxes", "data_type": "TYPE_FP32", "dims": [-1, 4]},
            {"name": "scores", "data_type": "TYPE_FP32", "dims": [-1]},
            {"name": "class_ids", "data_type": "TYPE_INT32", "dims": [-1]},
            {"name": "cut", "data_type": "TYPE_BOOL", "dims": [1]},
        ],
        "dynamic_batching": {"max_queue_delay_microseconds": 5000},
        "instance_group": [{"kind": "KIND_CPU", "count": 3}],
        "parameters": {
            "confidence": {"string_value": "0.4"},
            "iou": {"string_value": "0.5"},
            "intra_op_threads": {"string_value": "2"},
            "max_detections": {"string_value": "900"},
            "manifest_sha256": {"string_value": "12ab"},
        },
    }


def test_a_classifier_tells_the_probability_of_each_class() -> None:
    made = triton_config.render(triton_config.for_service(described(task="Classification"), make_want()))
    outputs = text_format.Parse(made, model_config_pb2.ModelConfig()).output
    assert [(output.name, list(output.dims)) for output in outputs] == [
        ("prediction", [1]),
        ("error", [1]),
        ("probabilities", [2]),
    ]


def test_a_classifier_is_configured_as_by_earlier_releases() -> None:
    made = triton_config.for_service(described(task="Classification"), make_want())
    assert made["parameters"]["max_detections"] == {"string_value": "300"}, "an upgrade replaces no server for nothing"


def test_a_service_with_gpus_has_its_instances_on_each_of_them() -> None:
    want = make_want(placement=Placement(gpus=2))
    made = triton_config.render(triton_config.for_service(described(), want))
    (group,) = text_format.Parse(made, model_config_pb2.ModelConfig()).instance_group
    assert group.kind == group.KIND_GPU
    assert (group.count, list(group.gpus)) == (3, [0, 1])
