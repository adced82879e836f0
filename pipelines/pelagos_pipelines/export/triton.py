"""Triton's configuration of a model package: the service contract as a ModelConfig in JSON. Called by export.package."""

from __future__ import annotations

from typing import Any

from pelagos_pipelines.serving.predictor import Settings, Thresholds

MAX_BATCH_SIZE = 8
QUEUE_DELAY_MICROSECONDS = 2000


def model_config(name: str, settings: Settings) -> dict[str, Any]:
    """The ModelConfig; the serving engine overrides name, batch size, queue delay, instances and thresholds.

    Shapes leave out the batch dimension; -1 is the number of rows, which differs between responses.
    """
    thresholds = Thresholds()
    outputs = [("prediction", "TYPE_STRING", [1])]
    if settings.task == "Classification":
        outputs.append(("probabilities", "TYPE_FP32", [len(settings.labels)]))
    else:
        outputs += [
            ("count", "TYPE_INT32", [1]),
            ("boxes", "TYPE_FP32", [-1, 4]),
            ("scores", "TYPE_FP32", [-1]),
            ("class_ids", "TYPE_INT32", [-1]),
        ]
    parameters = {
        "confidence": str(thresholds.confidence),
        "iou": str(thresholds.iou),
        "max_detections": str(thresholds.max_detections),
        "intra_op_threads": "1",
    }
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": output, "data_type": kind, "dims": dims} for output, kind, dims in outputs],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_DELAY_MICROSECONDS},
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }
