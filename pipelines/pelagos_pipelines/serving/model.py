"""The module that Triton's Python backend calls: it answers a batch of requests with one inference batch over all their images.

If a request has several images, each gets a result: a refused image gets an error, and the others are answered.

Beside it in the server's repository are the verified package and a copy of the modules that serving/code.json lists; it needs
nothing else of Pelagos. It must never raise while executing: an exception would fail all requests of the batch and leak their
shared memory.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

sys.path.insert(0, str(Path(__file__).parent))
from pelagos_pipelines.sandbox import UnavailableError
from pelagos_pipelines.serving import answers, predictions, predictor, sketches
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError

CHILDREN = 2
"""Images that one instance decodes concurrently."""
PATIENCE = 1.0
"""Seconds that a batch waits for its slowest image; ordinary ones take hundredths."""
MOST_TOLD = 8
"""How many images an error describes if all of a request were refused."""
MOST_LATE = 16
"""How many images may be late. With more, batches wait for them, so that requests queue up where the server counts them."""


@dataclass(frozen=True)
class _Refusal:
    """Takes the place of a decoded image that was refused."""

    message: str
    is_passing: bool = False
    """Whether the same image may be accepted later."""


@dataclass(frozen=True)
class _Asked:
    """A request's options: the requested outputs, and whether the network's raw outputs are wanted as well."""

    outputs: list[str]
    raw: bool
    confidence: float | None = None
    """The confidence for all classes, which replaces the service's thresholds."""
    fault: str = ""
    """Why the request cannot be answered; empty if it can."""


class TritonPythonModel:
    """The class that the backend looks for. There is one object per model instance, each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model with the thresholds and threads of the model configuration."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        general = predictions.Thresholds(
            confidence=float(parameters.get("confidence", "0.25")),
            iou=float(parameters.get("iou", "0.7")),
            max_detections=int(parameters.get("max_detections", str(predictions.MAX_DETECTIONS))),
        )
        self._predictor = predictor.load(
            Path(__file__).parent,
            parameters["manifest_sha256"],
            threads=int(parameters.get("intra_op_threads", "1")),
            batch=max(int(config.get("max_batch_size", 1)), 1),
            gpu=int(args["model_instance_device_id"]) if args.get("model_instance_kind") == "GPU" else None,
        )
        settings = self._predictor.settings
        # The package's thresholds of classes, found on validation, apply unless the service sets one for all.
        of_package = parameters.get("class_confidences", "package") == "package"
        self._thresholds = answers.thresholds(settings, general, of_package=of_package)
        geometry = settings.task, settings.image_size, settings.stride
        self._decoder = Decoder(*geometry, CHILDREN, color=settings.color, longest=settings.longest, head=settings.head)
        # A child is started now: if that fails, the model does not load, and the server never becomes ready.
        self._decoder.start()
        self._decoding = ThreadPoolExecutor(CHILDREN)
        self._answering = ThreadPoolExecutor(1)
        self._predicting = Lock()
        self._late: set[Future[Any]] = set()
        refused, cut = (
            "Images of requests that got an error instead of a result",
            "Images with more objects than are reported",
        )
        self._refused = _Counter("pelagos_refused_images_total", refused, args)
        self._cut = _Counter("pelagos_cut_answers_total", cut, args)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request: with tensors, or with an error for this request alone if none of its images can be used.

        A request whose images are not decoded within PATIENCE is answered later, and does not delay the others.
        """
        # Decoding begins for all requests before any is waited for, because children decode several images at a time.
        begun = [self._begin(request) for request in requests]
        self._late = {future for future in self._late if not future.done()}
        patience = PATIENCE if len(self._late) < MOST_LATE else None
        wait([future for futures in begun for future in futures], timeout=patience)
        responses: list[Any] = [None] * len(requests)
        ready = [index for index, futures in enumerate(begun) if all(future.done() for future in futures)]
        for index in set(range(len(requests))).difference(ready):
            self._answer_later(requests[index], begun[index])
        # The backend expects None in the place of a request that is answered later through its sender.
        answers = self._answer([begun[index] for index in ready], [_asked(requests[index]) for index in ready])
        for index, response in zip(ready, answers, strict=True):
            responses[index] = response
        return responses

    def finalize(self) -> None:
        """End the children, and the threads that wait for them."""
        self._decoder.close()
        # Decoding ends first: once it has, no further answer is submitted.
        for threads in (self._decoding, self._answering):
            threads.shutdown(cancel_futures=True)

    def _begin(self, request: Any) -> list[Future[Any]]:
        """Start decoding the images of a request."""
        try:
            tensor = backend.get_input_tensor_by_name(request, "image").as_numpy()
            contents = [bytes(content) for content in tensor.reshape(-1)]
        except Exception as error:  # a malformed tensor must not fail the neighbours' requests
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return [failed]
        return [self._decoding.submit(self._decoder.decode, content) for content in contents]

    def _answer_later(self, request: Any, futures: list[Future[Any]]) -> None:
        sender, asked = request.get_response_sender(), _asked(request)
        self._late.update(futures)

        def answer() -> None:
            (response,) = self._answer([futures], [asked])
            sender.send(response, flags=backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        def look(_: Future[Any]) -> None:
            with counting:
                left.pop()
                is_last = not left
            if is_last:
                self._answering.submit(answer)

        # Callbacks run in the decoding threads, possibly concurrently, hence the lock. The last one submits the answer to another
        # thread, because the decoding threads have other images to decode.
        left, counting = list(futures), Lock()
        for future in futures:
            future.add_done_callback(look)

    def _answer(self, begun: list[list[Future[Any]]], asked: list[_Asked]) -> list[Any]:
        """The responses to requests whose images are decoded, from one inference batch over all of them."""
        decoded = [
            [_Refusal(request.fault) if request.fault else _image(future) for future in futures]
            for request, futures in zip(asked, begun, strict=True)
        ]
        self._refused.add(sum(isinstance(image, _Refusal) for item in decoded for image in item))
        images = [image for item in decoded for image in item if not isinstance(image, _Refusal)]
        try:
            # The backend's thread and that of late answers both come here, and the predictor is not thread-safe.
            with self._predicting:
                raws = self._predictor.outputs(images)
                thresholds = [
                    answers.asked_for(self._thresholds, request.confidence, self._predictor.settings)
                    for request, item in zip(asked, decoded, strict=True)
                    for image in item
                    if not isinstance(image, _Refusal)
                ]
                parts = zip(raws, images, thresholds, strict=True)
                predictions = [self._predictor.decode(*part) for part in parts]
        except Exception as error:  # whatever the runtime raises must become a response
            failure = backend.TritonError(f"inference failed: {error}")
            return [_failed(_fault(item) or failure) for item in decoded]
        self._cut.add(sum(found.is_cut for found in predictions))
        answered = iter(zip(predictions, raws, strict=True))
        responses = []
        for request, item in zip(asked, decoded, strict=True):
            fault = _fault(item)
            if fault is not None:
                responses.append(_failed(fault))
                continue
            results = [(image, None) if isinstance(image, _Refusal) else next(answered) for image in item]
            outputs = self._outputs(results, request)
            tensors = [backend.Tensor(name, outputs[name]) for name in request.outputs if name in outputs]
            responses.append(backend.InferenceResponse(output_tensors=tensors))
        return responses

    def _outputs(self, results: list[tuple[Any, Any]], request: _Asked) -> dict[str, Any]:
        """The output tensors for predictions and refusals, each result paired with the network's raw output."""
        task, settings, labels = self._predictor.task, self._predictor.settings, self._predictor.settings.labels
        texts, errors, found = [], [], []
        for result, values in results:
            is_refused = isinstance(result, _Refusal)
            if is_refused:
                rendered = task.refused(result.message)
            else:
                is_asked = request.confidence is not None
                rendered = answers.content(result, settings, self._thresholds, is_asked=is_asked)
            if request.raw and not is_refused:
                rendered["raw"] = sketches.packed(task.sketch(values), labels)
                rendered["onnxSha256"] = self._predictor.onnx_sha256
            texts.append(json.dumps(rendered, ensure_ascii=False))
            errors.append(result.message if is_refused else "")
            found.append(None if is_refused else result)
        return {"prediction": _texts(texts), "error": _texts(errors)} | task.tensors(found, labels)


def _texts(texts: list[str]) -> Any:
    return np.array([text.encode() for text in texts], dtype=np.object_).reshape(-1, 1)


def _image(future: Future[Any]) -> Any:
    try:
        return future.result()
    except ImageRefusedError as error:
        return _Refusal(str(error))
    except UnavailableError as error:
        return _Refusal(str(error), is_passing=True)
    except Exception as error:  # a malformed tensor must not fail the neighbours' requests
        return _Refusal(f"input 'image' cannot be read: {error}")


def _fault(images: list[Any]) -> Any:
    """The error for a request whose images were all refused; None if any image can be answered."""
    refusals = [image for image in images if isinstance(image, _Refusal)]
    if len(refusals) < len(images):
        return None
    kind = backend.TritonError.INVALID_ARG
    if any(refusal.is_passing for refusal in refusals):
        kind = backend.TritonError.UNAVAILABLE
    if len(refusals) == 1:
        return backend.TritonError(refusals[0].message, kind)
    told = "; ".join(f"image {number}: {one.message}" for number, one in enumerate(refusals[:MOST_TOLD]))
    return backend.TritonError(f"none of the {len(refusals)} images can be used: {told}", kind)


def _asked(request: Any) -> _Asked:
    try:
        parameters = json.loads(request.parameters() or "{}")
    except ValueError:
        parameters = {}
    outputs, raw = list(request.requested_output_names()), parameters.get("raw") is True
    try:
        return _Asked(outputs, raw, _confidence(parameters.get("confidence")))
    except ValueError as error:
        return _Asked(outputs, raw, fault=str(error))


def _confidence(given: object) -> float | None:
    """A request's confidence; may be a text, because older clients cannot send fractions. Raises ValueError."""
    if given is None:
        return None
    if type(given) in {int, float, str}:
        with suppress(ValueError):
            confidence = float(str(given))
            if 0 <= confidence <= 1:
                return confidence
    raise ValueError("the parameter 'confidence' must be a number from 0 to 1")


class _Counter:
    """A counter of a model in addition to Triton's own metrics, shared by its instances."""

    def __init__(self, name: str, description: str, args: dict[str, str]) -> None:
        # The family must live as long as its metric.
        self._family = backend.MetricFamily(name=name, description=description, kind=backend.MetricFamily.COUNTER)
        self._metric = self._family.Metric(labels={"model": args["model_name"], "version": args["model_version"]})

    def add(self, number: int) -> None:
        """Add ``number`` to the counter."""
        if number:
            with suppress(Exception):  # counting must not fail requests
                self._metric.increment(number)


def _failed(error: Any) -> Any:
    return backend.InferenceResponse(output_tensors=[], error=error)
