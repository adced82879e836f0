"""The model as DEEPaaS loads it: a module with the functions of `deepaas.model.v2.base.BaseModel`, by the entry point `pelagos`.

DEEPaaS' server asks for metadata and arguments in its own process, and has `warm` and `predict` called in workers. There is no
`train`, to which it answers 501; `get_train_args` exists because its command line calls it for every command.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from typing_extensions import override
from webargs import fields, validate

from pelagos_contract.text import shown
from pelagos_pipelines.deepaas import settings
from pelagos_pipelines.deepaas.answering import Answering
from pelagos_pipelines.sandbox import UnavailableError
from pelagos_pipelines.serving import packages
from pelagos_pipelines.serving.decoding import NAMES, ImageRefusedError

JSON, PNG = "application/json", "image/png"


class _Said:
    """An error in the form of DEEPaaS' own errors about arguments. It is pickled, because it is raised in another process."""

    def __init__(self, why: str) -> None:
        """``why``: what is wrong with the image, in words."""
        self.why = why
        super().__init__(text=json.dumps({"image": [why]}), content_type=JSON)  # type: ignore[call-arg] # of the other base

    @override
    def __str__(self) -> str:
        """The reason alone, for a command line."""
        return self.why

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """How pickle creates it again in the process that receives it."""
        return type(self), (self.why,)


class UnusableImageError(_Said, web.HTTPUnprocessableEntity):
    """The image is refused: the response is 422."""


class BusyError(_Said, web.HTTPServiceUnavailable):
    """The same image may be accepted later: the response is 503."""


@cache
def get_metadata() -> dict[str, Any]:
    """What the package says about itself, and its card if it has one."""
    given = settings.read(os.environ)
    _, content = packages.read(given.package, given.manifest_sha256)
    described, card = json.loads(content), given.card
    dataset = described.get("dataset") or {}
    contact = card.get("contact") or {}
    person = contact if isinstance(contact, dict) else {"name": contact}
    made = f"{described.get('architecture')} for {described['task']}, trained on {dataset.get('name')}"
    told = {
        "name": card.get("title") or made,
        "description": card.get("summary") or f"A model of Pelagos: {made}.",
        "license": card.get("license"),
        "author": person.get("name"),
        "author-email": person.get("email"),
        "version": f"sha256:{described['onnxSha256']}",
        "url": card.get("sourceCode"),
        **{name: card.get(name) for name in ("intendedUse", "limitations", "citation", "doi")},
    }
    facts = {
        "task": described["task"],
        "labels": described["labels"],
        "architecture": described.get("architecture"),
        "dataset": dataset,
        "input": described["input"],
        "thresholds": {"confidence": given.thresholds.confidence, "iou": given.thresholds.iou},
        "onnxSha256": described["onnxSha256"],
        "manifestSha256": given.manifest_sha256,
    }
    return {name: value for name, value in {**told, **facts}.items() if value is not None}


def warm() -> None:
    """Load the model, in each process that answers. Raises packages.RefusedError."""
    _model()


def get_predict_args() -> dict[str, Any]:
    """The arguments of a prediction. New ones each time: DEEPaaS changes them."""
    accept = (
        f"{JSON}: what is found, in the form in which Pelagos' services answer; {PNG}: the image with the result drawn."
    )
    return {
        "image": fields.Field(
            required=True, location="form", metadata={"type": "file", "description": f"An image: {NAMES}."}
        ),
        "confidence": fields.Float(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=0, max=1),
            metadata={
                "description": "Report only what has more than this confidence, from 0 to 1. "
                "Default: that of the service or package."
            },
        ),
        "accept": fields.Str(
            load_default=JSON,
            location="headers",
            validate=validate.OneOf([JSON, PNG]),
            metadata={"description": accept},
        ),
    }


def predict(**arguments: Any) -> Any:
    """The prediction as a JSON object, or as a PNG if the caller accepts that. The file that was sent is removed.

    Raises:
        UnusableImageError: the image cannot be used; the response is 422.
        BusyError: no process could be started to read it; the response is 503.
    """
    sent, confidence = arguments["image"], arguments.get("confidence")
    place = getattr(sent, "filename", None)
    if not isinstance(place, str):
        raise UnusableImageError("send the image as a file of multipart/form-data: curl --form image=@FILE")
    path = Path(place)
    try:
        data = path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
    try:
        if arguments.get("accept") == PNG:
            return _model().picture(data, confidence)
        return _model().answer(data, confidence)
    except ImageRefusedError as error:
        raise UnusableImageError(shown(str(error))) from None
    except UnavailableError as error:
        raise BusyError(shown(str(error))) from None


def get_train_args() -> dict[str, Any]:
    """No arguments: models are trained by a TrainingRun."""
    return {}


@cache
def _model() -> Answering:
    return Answering(settings.read(os.environ))
