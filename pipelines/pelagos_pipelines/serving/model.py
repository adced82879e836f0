"""Triton's Python backend calls this module: requests in, responses out, one inference batch over all of them.

Beside it in the server's repository lie the verified package and a copy of the modules that serving/code.json lists, so that it
needs nothing else of Pelagos. It must never raise while executing: an exception would fail all requests of the batch and leak
their shared memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

sys.path.insert(0, str(Path(__file__).parent))
from pelagos_pipelines.serving import predictor


class TritonPythonModel:
    """The class that the backend looks for; one object per model instance, each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph with the thresholds and threads of the model configuration."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        self._thresholds = predictor.Thresholds(
            confidence=float(parameters.get("confidence", "0.25")),
            iou=float(parameters.get("iou", "0.7")),
            max_detections=int(parameters.get("max_detections", "300")),
        )
        self._predictor = predictor.load(
            Path(__file__).parent,
            parameters["manifest_sha256"],
            threads=int(parameters.get("intra_op_threads", "1")),
            batch=max(int(config.get("max_batch_size", 1)), 1),
            gpu=int(args["model_instance_device_id"]) if args.get("model_instance_kind") == "GPU" else None,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request: with tensors, or with an error that concerns this request alone."""
        decoded = [_decode(request) for request in requests]
        images = [image for item in decoded if isinstance(item, list) for image in item]
        try:
            predictions = iter(self._predictor.predict(images, self._thresholds))
        except Exception as error:  # whatever the runtime raises must become a response
            failure = backend.TritonError(f"inference failed: {error}")
            return [_failed(item if isinstance(item, backend.TritonError) else failure) for item in decoded]
        responses = []
        for request, item in zip(requests, decoded, strict=True):
            if isinstance(item, backend.TritonError):
                responses.append(_failed(item))
                continue
            outputs = self._outputs([next(predictions) for _ in item])
            wanted = request.requested_output_names()
            tensors = [backend.Tensor(name, outputs[name]) for name in wanted if name in outputs]
            responses.append(backend.InferenceResponse(output_tensors=tensors))
        return responses

    def _outputs(self, predictions: list[Any]) -> dict[str, Any]:
        labels = self._predictor.settings.labels
        texts = [json.dumps(predictor.render(found, labels), ensure_ascii=False).encode() for found in predictions]
        outputs = {"prediction": np.array(texts, dtype=np.object_).reshape(-1, 1)}
        if self._predictor.settings.task == "Classification":
            outputs["probabilities"] = np.stack([found.probabilities for found in predictions])
        else:
            outputs |= _padded(predictions)
        return outputs


def _padded(predictions: list[Any]) -> dict[str, Any]:
    """Detections of several images as rectangular tensors; there is always a row, because empty tensors do not travel."""
    batch = len(predictions)
    rows = max([1, *(len(found.scores) for found in predictions)])
    boxes: Any = np.zeros((batch, rows, 4), np.float32)
    scores: Any = np.zeros((batch, rows), np.float32)
    class_ids: Any = np.zeros((batch, rows), np.int32)
    for index, found in enumerate(predictions):
        count = len(found.scores)
        boxes[index, :count] = found.boxes
        scores[index, :count] = found.scores
        class_ids[index, :count] = found.class_ids
    count = np.array([[len(found.scores)] for found in predictions], np.int32)
    return {"count": count, "boxes": boxes, "scores": scores, "class_ids": class_ids}


def _decode(request: Any) -> list[Any] | Any:
    """The images of one request, or the error to answer it with."""
    try:
        tensor = backend.get_input_tensor_by_name(request, "image").as_numpy()
        return [predictor.decode(bytes(data)) for data in tensor.reshape(-1)]
    except predictor.ImageRefusedError as error:
        return backend.TritonError(str(error), backend.TritonError.INVALID_ARG)
    except Exception as error:  # a malformed tensor must not fail the neighbours' requests
        return backend.TritonError(f"input 'image' cannot be read: {error}", backend.TritonError.INVALID_ARG)


def _failed(error: Any) -> Any:
    return backend.InferenceResponse(output_tensors=[], error=error)
