"""Triton's Python backend calls this module: requests in, responses out, one inference batch over all of them.

Beside it in the server's repository lie the verified package and a copy of the modules that serving/code.json lists, so that it
needs nothing else of Pelagos. It must never raise while executing: an exception would fail all requests of the batch and leak
their shared memory.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

sys.path.insert(0, str(Path(__file__).parent))
from pelagos_pipelines.sandbox import UnavailableError
from pelagos_pipelines.serving import predictor
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError

CHILDREN = 2
"""Images that one instance decodes at once."""
PATIENCE = 1.0
"""Seconds that a batch waits for its slowest image; an ordinary one takes hundredths."""
MOST_LATE = 16
"""Images that may be late. With more of them batches wait, so that requests pile up where the server counts them."""


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
        settings = self._predictor.settings
        self._decoder = Decoder(settings.task, settings.image_size, settings.stride, CHILDREN)
        self._decoder.start()
        self._decoding = ThreadPoolExecutor(CHILDREN)
        self._answering = ThreadPoolExecutor(1)
        self._predicting = Lock()
        self._late: set[Future[Any]] = set()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request: with tensors, or with an error that concerns this request alone.

        One whose images are not decoded in time is answered when they are, and holds up nobody else.
        """
        begun = [self._begin(request) for request in requests]
        self._late = {future for future in self._late if not future.done()}
        patience = PATIENCE if len(self._late) < MOST_LATE else None
        wait([future for futures in begun for future in futures], timeout=patience)
        responses: list[Any] = [None] * len(requests)
        ready = [index for index, futures in enumerate(begun) if all(future.done() for future in futures)]
        for index in set(range(len(requests))).difference(ready):
            self._answer_later(requests[index], begun[index])
        answers = self._answer([begun[index] for index in ready], [_wanted(requests[index]) for index in ready])
        for index, response in zip(ready, answers, strict=True):
            responses[index] = response
        return responses

    def finalize(self) -> None:
        """End the children, and the threads that wait for them."""
        self._decoder.close()
        for threads in (self._decoding, self._answering):
            threads.shutdown(cancel_futures=True)

    def _begin(self, request: Any) -> list[Future[Any]]:
        """Have the images of a request decoded."""
        try:
            tensor = backend.get_input_tensor_by_name(request, "image").as_numpy()
            contents = [bytes(content) for content in tensor.reshape(-1)]
        except Exception as error:  # a malformed tensor must not fail the neighbours' requests
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return [failed]
        return [self._decoding.submit(self._decoder.decode, content) for content in contents]

    def _answer_later(self, request: Any, futures: list[Future[Any]]) -> None:
        sender, wanted = request.get_response_sender(), _wanted(request)
        self._late.update(futures)

        def answer() -> None:
            (response,) = self._answer([futures], [wanted])
            sender.send(response, flags=backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        def look(_: Future[Any]) -> None:
            with counting:
                left.pop()
                is_last = not left
            if is_last:
                self._answering.submit(answer)

        left, counting = list(futures), Lock()
        for future in futures:
            future.add_done_callback(look)

    def _answer(self, begun: list[list[Future[Any]]], wanted: list[Any]) -> list[Any]:
        """The responses to requests whose images are decoded, by one inference batch over all of them."""
        decoded = [_decoded(futures) for futures in begun]
        images = [image for item in decoded if isinstance(item, list) for image in item]
        try:
            with self._predicting:
                predictions = iter(self._predictor.predict_fitted(images, self._thresholds))
        except Exception as error:  # whatever the runtime raises must become a response
            failure = backend.TritonError(f"inference failed: {error}")
            return [_failed(item if isinstance(item, backend.TritonError) else failure) for item in decoded]
        responses = []
        for names, item in zip(wanted, decoded, strict=True):
            if isinstance(item, backend.TritonError):
                responses.append(_failed(item))
                continue
            outputs = self._outputs([next(predictions) for _ in item])
            tensors = [backend.Tensor(name, outputs[name]) for name in names if name in outputs]
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


def _decoded(futures: list[Future[Any]]) -> list[Any] | Any:
    """The images of one request, or the error to answer it with."""
    try:
        return [future.result() for future in futures]
    except ImageRefusedError as error:
        return backend.TritonError(str(error), backend.TritonError.INVALID_ARG)
    except UnavailableError as error:
        return backend.TritonError(str(error), backend.TritonError.UNAVAILABLE)
    except Exception as error:  # a malformed tensor must not fail the neighbours' requests
        return backend.TritonError(f"input 'image' cannot be read: {error}", backend.TritonError.INVALID_ARG)


def _wanted(request: Any) -> list[str]:
    names: list[str] = list(request.requested_output_names())
    return names


def _failed(error: Any) -> Any:
    return backend.InferenceResponse(output_tensors=[], error=error)
