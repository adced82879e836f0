"""Triton's Python backend calls this module: requests in, responses out, one inference batch over all of them.

Of a request with several images each gets its result: what is refused has an error in its place, and the others are answered.

Beside it in the server's repository lie the verified package and a copy of the modules that serving/code.json lists, so that it
needs nothing else of Pelagos. It must never raise while executing: an exception would fail all requests of the batch and leak
their shared memory.
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
"""Images that one instance decodes at once."""
PATIENCE = 1.0
"""Seconds that a batch waits for its slowest image; an ordinary one takes hundredths."""
MOST_TOLD = 8
"""Images that an error names, when a request has no other."""
MOST_LATE = 16
"""Images that may be late. With more of them batches wait, so that requests pile up where the server counts them."""


@dataclass(frozen=True)
class _Refusal:
    """Stands where the image would be."""

    message: str
    is_passing: bool = False
    """Whether the same image may be accepted later."""


@dataclass(frozen=True)
class _Asked:
    """What a request wants: which outputs, and what the network gave as well."""

    outputs: list[str]
    raw: bool
    confidence: float | None = None
    """What all classes must reach, in the place of the thresholds of the service."""
    fault: str = ""
    """Why it cannot be answered; empty: it can."""


class TritonPythonModel:
    """The class that the backend looks for; one object per model instance, each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph with the thresholds and threads of the model configuration."""
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
        # Those that were found on validation, unless whoever asked for this service has named another one for all.
        of_package = parameters.get("class_confidences", "package") == "package"
        self._thresholds = answers.thresholds(settings, general, of_package=of_package)
        geometry = settings.task, settings.image_size, settings.stride
        self._decoder = Decoder(*geometry, CHILDREN, color=settings.color, longest=settings.longest, head=settings.head)
        # A model that cannot decode does not load, so that the server never says that it is ready.
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
        """Answer every request: with tensors, or with an error that concerns this request alone, when none of its images is fit.

        One whose images are not decoded in time is answered when they are, and holds up nobody else.
        """
        # All are begun before any is waited for: children decode images of several requests at once.
        begun = [self._begin(request) for request in requests]
        self._late = {future for future in self._late if not future.done()}
        patience = PATIENCE if len(self._late) < MOST_LATE else None
        wait([future for futures in begun for future in futures], timeout=patience)
        responses: list[Any] = [None] * len(requests)
        ready = [index for index, futures in enumerate(begun) if all(future.done() for future in futures)]
        for index in set(range(len(requests))).difference(ready):
            self._answer_later(requests[index], begun[index])
        # None stays in the place of a request that is answered later, by its sender: so the backend wants it.
        answers = self._answer([begun[index] for index in ready], [_asked(requests[index]) for index in ready])
        for index, response in zip(ready, answers, strict=True):
            responses[index] = response
        return responses

    def finalize(self) -> None:
        """End the children, and the threads that wait for them."""
        self._decoder.close()
        # In this order: when decoding has ended, nobody asks for another answer.
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

        # Futures end in the threads that decode, several at once perhaps. The last one has the request answered, in another
        # thread: those have other images to decode.
        left, counting = list(futures), Lock()
        for future in futures:
            future.add_done_callback(look)

    def _answer(self, begun: list[list[Future[Any]]], asked: list[_Asked]) -> list[Any]:
        """The responses to requests whose images are decoded, by one inference batch over all of them."""
        decoded = [
            [_Refusal(request.fault) if request.fault else _image(future) for future in futures]
            for request, futures in zip(asked, begun, strict=True)
        ]
        self._refused.add(sum(isinstance(image, _Refusal) for item in decoded for image in item))
        images = [image for item in decoded for image in item if not isinstance(image, _Refusal)]
        try:
            # This thread and the one of late answers: the predictor does not promise to stand both at once.
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
        """The tensors of predictions, with refusals in between, each with what the network gave."""
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
    """The error of a request of which no image is left; None when there is one."""
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
    """What a request asks for; a text, too, as older clients send no fractions. Raises ValueError."""
    if given is None:
        return None
    if type(given) in {int, float, str}:
        with suppress(ValueError):
            confidence = float(str(given))
            if 0 <= confidence <= 1:
                return confidence
    raise ValueError("the parameter 'confidence' must be a number from 0 to 1")


class _Counter:
    """A counter of a model beside Triton's own metrics, for all of its instances."""

    def __init__(self, name: str, description: str, args: dict[str, str]) -> None:
        # The family must live as long as what it counts.
        self._family = backend.MetricFamily(name=name, description=description, kind=backend.MetricFamily.COUNTER)
        self._metric = self._family.Metric(labels={"model": args["model_name"], "version": args["model_version"]})

    def add(self, number: int) -> None:
        """Count so many more."""
        if number:
            with suppress(Exception):  # who counts must not fail requests
                self._metric.increment(number)


def _failed(error: Any) -> Any:
    return backend.InferenceResponse(output_tensors=[], error=error)
