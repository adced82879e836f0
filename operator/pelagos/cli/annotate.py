"""``pelagos annotate``: give people in an annotation tool the images of a Dataset, with what a model of ours finds in them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET
from pelagos.cli import access, forwarding, installed, outputs, predict
from pelagos.cli.annotating import TOOLS
from pelagos.cli.annotating.tool import Suggestion, Tool, ToolError
from pelagos.cli.outputs import Output
from pelagos.engines.triton import inference
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.objects import Objects
from pelagos_contract.dataset import SUGGESTED_BY
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown

_MANIFEST, _MOST_MANIFEST = "manifest.json", 512 * 2**20
_IDENTITY = 32
"""Digits of an image's digest that make its identity in a tool."""
_TIMEOUT = 60.0
_HALF_SURE = 0.5

app = typer.Typer(no_args_is_help=True, help="Annotation tools: images with a model's suggestions go there.")


class AnnotateError(Exception):
    """Nothing could be pushed, or not everything; the message says why, in one line."""


@app.callback()
def annotate() -> None:
    """Annotation tools: images with a model's suggestions go there."""


@dataclass(frozen=True)
class _Image:
    """Of a version: its path in the source, and the digest of its content, which may be a PNG of what the source has."""

    path: str
    sha256: str
    is_converted: bool = False

    @property
    def name(self) -> str:
        """As it is called in a tool, of which the suffix says what to show."""
        return f"{self.path}.png" if self.is_converted else self.path

    @property
    def identity(self) -> str:
        return self.sha256[:_IDENTITY]


@dataclass(frozen=True)
class _Asked:
    """What is wanted: the service, the Secret, images to add, and images to look at."""

    service: str
    to: str
    limit: int
    among: int


@dataclass
class Pushed:
    """What came of it: images of the version, those that the tool had before, that were added, and that the model refused."""

    images: int
    known: int = 0
    added: int = 0
    refused: int = 0
    first_refused: str = ""
    address: str = ""


@app.command()
def push(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    service: Annotated[str, typer.Option(help="Name of the ModelService whose predictions are the suggestions.")],
    to: Annotated[str, typer.Option(help="Name of a Secret with the keys tool (labelStudio), url, project and token.")],
    limit: Annotated[int, typer.Option(min=1, help="Images to add: those of which the model is least sure.")] = 100,
    among: Annotated[
        int,
        typer.Option(
            min=1, help="Images at which the model looks to choose them; those after it are for the next push."
        ),
    ] = 1000,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Send images of a Dataset's newest version to an annotation tool, with a model's predictions to be corrected.

    The images that the model is least sure of go first. An image is known by its content: pushing again adds nothing twice, and
    goes on where a push broke off. What people make of the suggestions comes back when a Dataset has the tool as its source, and
    stands in its status.corrections.

    Exit codes: 0 when all were added, 1 when not; JSON and YAML have the reason as "error" then.
    """
    at = access.chosen(installed.settings(), context)
    inside = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, inside).get("status", {})
        done = asyncio.run(_push(at, inside, f"{inside}/{name}", status, _Asked(service, to, limit, among)))
    except (access.AskError, AnnotateError, ToolError, predict.PredictError) as error:
        if output is not Output.TABLE:
            outputs.write({"dataset": f"{inside}/{name}", "error": str(error)}, output)
        installed.progress_console().print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{inside}/{name}", **vars(done)}, output)
        return
    told = f"{done.added} of {done.images} images were added to {done.address}, {done.known} were there before"
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)
    if done.refused:
        refused = f"{done.refused} images were refused by the model, the first {done.first_refused}"
        installed.progress_console().print(Text(shown(refused)), soft_wrap=True)


async def _push(at: access.Chosen, namespace: str, name: str, status: Mapping[str, Any], asked: _Asked) -> Pushed:
    tool, secret = _secret(at, asked.to, namespace)
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise AnnotateError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    found = predict.endpoint(at, asked.service, namespace)
    classes = [str(each["name"]) for each in status.get("classes") or ()]
    images = await _images(engine_registry.objects_at(uri, installed.settings()), uri)
    blobs = engine_registry.objects_at(f"{uri.rpartition('/versions/')[0]}/blobs", installed.settings())
    async with tool.open(secret) as project:
        await project.prepare(str(status.get("task")), classes)
        known = await project.known([image.identity for image in images])
        done = Pushed(images=len(images), known=len(known), address=project.address)
        # By their digests, which is as good as by chance, and the same every time.
        left = sorted((image for image in images if image.identity not in known), key=lambda image: image.sha256)
        with forwarding.reachable(found.address, at) as address:
            scored = [await _scored(blobs, image, address, found.model, done) for image in left[: asked.among]]
        for each in sorted(filter(None, scored), key=lambda one: (one.score, one.image.path))[: asked.limit]:
            content = await _content(blobs, each.image)
            model = f"{SUGGESTED_BY}{asked.service}@{found.model}"
            await project.add(Suggestion(each.image.identity, each.image.name, content, model, each.found, each.score))
            done.added += 1
    return done


@dataclass(frozen=True)
class _Scored:
    """What a model finds in an image, and how sure it is; the image itself is read again when it is sent."""

    image: _Image
    found: Mapping[str, Any]
    score: float


async def _scored(blobs: Objects, image: _Image, address: str, model: str, done: Pushed) -> _Scored | None:
    """None, and counted, for an image that the model refuses."""
    try:
        found, _ = await inference.infer(address, model, await _content(blobs, image), _TIMEOUT)
    except inference.InferenceError as error:
        done.refused += 1
        if done.refused == 1:
            done.first_refused = f"{image.path}: {error}"
        return None
    return _Scored(image, found, score_of(found))


def score_of(found: Mapping[str, Any]) -> float:
    """How sure a model is of an image: of its class, or of its detections in the mean.

    An image in which nothing was found counts as half sure: nobody knows whether something was missed.
    """
    if found["task"] == Task.CLASSIFICATION:
        return max((float(each["probability"]) for each in found["classes"]), default=_HALF_SURE)
    scores = [float(each["score"]) for each in found["detections"]]
    return sum(scores) / len(scores) if scores else _HALF_SURE


async def _images(version: Objects, uri: str) -> list[_Image]:
    """The images of a version, each content once."""
    try:
        content = await version.read_bytes(_MANIFEST, limit=_MOST_MANIFEST)
    except (OutageError, RejectedError, ValueError) as error:
        raise AnnotateError(f"{uri}/{_MANIFEST} cannot be read: {error}") from error
    if content is None:
        raise AnnotateError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    try:
        listed = [
            _Image(str(each["path"]), str(each["sha256"]), "original" in each) for each in json.loads(content)["images"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnnotateError(f"{uri}/{_MANIFEST} is not what a preparation wrote; prepare the Dataset again") from error
    if not all(re.fullmatch(r"[0-9a-f]{64}", image.sha256) for image in listed):
        raise AnnotateError(f"{uri}/{_MANIFEST} is not what a preparation wrote; prepare the Dataset again")
    return list({image.sha256: image for image in reversed(listed)}.values())


async def _content(blobs: Objects, image: _Image) -> bytes:
    try:
        content = await blobs.read_bytes(f"{image.sha256[:2]}/{image.sha256[2:]}", limit=predict.MAX_BYTES)
    except (OutageError, RejectedError, ValueError) as error:
        raise AnnotateError(f"the image {image.path} cannot be read: {error}") from error
    if content is None or hashlib.sha256(content).hexdigest() != image.sha256:
        raise AnnotateError(f"the image {image.path} of the version is missing or damaged; prepare the Dataset again")
    return content


def _secret(at: access.Chosen, name: str, namespace: str) -> tuple[Tool, Mapping[str, str]]:
    """The tool that a Secret names, and the Secret's content."""
    found = access.secret(at, name, namespace)
    kind = found.get("tool", "")
    if kind not in TOOLS.names:
        raise AnnotateError(
            f"Secret {namespace}/{name}: the key tool is {shown(kind)!r}; allowed are {', '.join(TOOLS.names)}"
        )
    tool = TOOLS.named(kind)
    if lacking := [f"{key} ({words})" for key, words in tool.keys.items() if not found.get(key)]:
        raise AnnotateError(f"Secret {namespace}/{name} lacks {', '.join(lacking)}")
    return tool, found
