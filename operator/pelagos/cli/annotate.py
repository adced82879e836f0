"""``pelagos annotate``: send images of a Dataset to an annotation tool, with a served model's answers as suggestions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import DATASET, MODEL_SERVICE, TRAINING_RUN
from pelagos.cli import access, forwarding, installed, outputs, predict
from pelagos.cli.annotating import TOOLS, ordering
from pelagos.cli.annotating.images import Image, ImagesError, Store
from pelagos.cli.annotating.tool import Suggestion, Tool, ToolError
from pelagos.cli.outputs import Output
from pelagos.engines.triton import inference
from pelagos_contract.dataset import SUGGESTED_BY
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown

_TIMEOUT = 60.0
_HALF_SURE = 0.5

app = typer.Typer(no_args_is_help=True, help="Annotation tools, to which images are sent with a model's suggestions.")


class AnnotateError(Exception):
    """Not everything could be pushed; the message says why, in one line."""


@app.callback()
def annotate() -> None:
    """Annotation tools, to which images are sent with a model's suggestions."""


@dataclass(frozen=True)
class _Asked:
    """The user's request: the service, the Secret, how many images to add, and among how many to choose."""

    service: str
    to: str
    limit: int
    among: int


@dataclass
class Pushed:
    """The result: counts of the version's images, those that the tool had before, those added, and those the model refused.

    ``order`` describes how the added ones were chosen; ``left_out`` counts parts of suggestions that the tool cannot hold, by
    kind.
    """

    images: int
    known: int = 0
    added: int = 0
    refused: int = 0
    first_refused: str = ""
    address: str = ""
    order: str = ""
    left_out: dict[str, int] = field(default_factory=dict)


@app.command()
def push(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    service: Annotated[str, typer.Option(help="Name of the ModelService whose predictions are the suggestions.")],
    to: Annotated[
        str,
        typer.Option(help="Name of a Secret with the keys tool (labelStudio or cvat), url, project and token."),
    ],
    limit: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images to add: those that the model is least sure of and that are least like what it was trained on.",
        ),
    ] = 100,
    among: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images that the model is shown to choose them from; those after them are left for the next push.",
        ),
    ] = 1000,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Send images of a Dataset's newest version to an annotation tool, with a model's predictions to correct.

    The first images are those that the model is least sure of and that look least like those it was trained on, by the mean
    of both ranks. An image is known by its content: pushing again adds nothing twice, and continues where a push was
    interrupted. What people do with the suggestions comes back when a Dataset has the tool as its source, and is in its
    status.corrections.

    Exit codes: 0 when all were added, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    inside = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, inside).get("status", {})
        done = asyncio.run(_push(at, inside, f"{inside}/{name}", status, _Asked(service, to, limit, among)))
    except (access.AskError, AnnotateError, ImagesError, ToolError, predict.PredictError) as error:
        raise outputs.failed(error, output, {"dataset": f"{inside}/{name}"}) from error
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{inside}/{name}", **vars(done)}, output)
        return
    told = (
        f"{done.added} of {done.images} images were added to {done.address}, {done.known} were already there; "
        f"{done.order}"
    )
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)
    if done.refused:
        refused = f"{done.refused} images were refused by the model, the first {done.first_refused}"
        installed.progress_console().print(Text(shown(refused)), soft_wrap=True)
    if done.left_out:
        listed = ", ".join(f"{count} {what}" for what, count in done.left_out.items())
        installed.progress_console().print(Text(f"left out of the suggestions: {listed}"), soft_wrap=True)


async def _push(at: access.Chosen, namespace: str, name: str, status: Mapping[str, Any], asked: _Asked) -> Pushed:
    tool, secret = _secret(at, asked.to, namespace)
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise AnnotateError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    found = predict.endpoint(at, asked.service, namespace)
    classes = [str(each["name"]) for each in status.get("classes") or ()]
    store = Store(uri, installed.settings())
    images = await store.images()
    async with tool.open(secret, store) as project:
        task = str(status.get("task"))
        await project.prepare(task, classes)
        known = await project.known([image.identity for image in images])
        done = Pushed(images=len(images), known=len(known), address=project.address)
        # Ordered by digest, which is as good as random, and the same every time.
        left = sorted((image for image in images if image.identity not in known), key=lambda image: image.sha256)
        with forwarding.reachable(found.address, at) as address:
            looked = [await _scored(store, image, (address, found.model, task), done) for image in left[: asked.among]]
        scored = sorted(filter(None, looked), key=lambda one: one.image.path)
        novelty = await _novelty(at, namespace, asked.service, store, scored, done)
        first = ordering.by_both([one.score for one in scored], novelty)[: asked.limit]
        model = f"{SUGGESTED_BY}{asked.service}@{found.model}"

        def added(count: int) -> None:
            done.added += count

        await project.add([scored[place].suggestion(store, model) for place in first], added)
        done.left_out = dict(sorted(project.left_out.items()))
    return done


async def _novelty(
    at: access.Chosen, namespace: str, service: str, store: Store, scored: Sequence[_Scored], done: Pushed
) -> list[int] | None:
    """Ranks of the images by how much they differ from the model's training images; None, with a note, if those are unknown."""
    done.order = "those of which the model is least sure"
    trained = _trained_on(at, namespace, service)
    if trained is None:
        done.order += " (no TrainingRun that can be seen made the model, so it is not known what is new to it)"
        return None
    there = Store(trained, installed.settings())
    seen = await there.seen()
    try:
        trained_on = [each.original for each in await there.images() if each.split == "train"]
        learned = [seen[one] for one in sorted(trained_on) if one in seen and seen[one].look is not None]
    except ImagesError:
        learned = []
    mine = await store.seen()
    if not learned or not any(one.image.original in mine for one in scored):
        done.order += (
            " (the store does not have what its training images look like, so it is not known what is new to it)"
        )
        return None
    done.order = "those of which the model is least sure, and which are newest to it"
    return ordering.novel_first([mine.get(one.image.original) for one in scored], learned)


def _trained_on(at: access.Chosen, namespace: str, service: str) -> str | None:
    """The dataset version that the served model was trained on; found by the digest of the model's graph."""
    served = access.find(at, MODEL_SERVICE, service, namespace).get("status", {}).get("model") or {}
    try:
        runs = access.listed(at, TRAINING_RUN, namespace)
    except access.AskError:  # A user without the right to list them can still push.
        return None
    for run in runs.values():
        status = run.get("status") or {}
        made, dataset = status.get("model") or {}, status.get("dataset") or {}
        if served.get("onnxSha256") and made.get("onnxSha256") == served["onnxSha256"] and dataset.get("uri"):
            return str(dataset["uri"])
    return None


@dataclass(frozen=True)
class _Scored:
    """A model's answer for an image, and its confidence; the image itself is read again when it is sent."""

    image: Image
    found: Mapping[str, Any]
    score: float

    def suggestion(self, store: Store, model: str) -> Suggestion:
        image = self.image
        return Suggestion(image.identity, image.name, partial(store.content, image), model, self.found, self.score)


async def _scored(store: Store, image: Image, asked: tuple[str, str, str], done: Pushed) -> _Scored | None:
    """The model's answer for an image; None if it refuses the image, which is counted.

    ``asked``: an address, the name of a model there, and its task.
    """
    address, model, task = asked
    try:
        found, _ = await inference.infer(address, model, await store.content(image), _TIMEOUT)
    except inference.InferenceError as error:
        done.refused += 1
        if done.refused == 1:
            done.first_refused = f"{image.path}: {error}"
        return None
    if found.get("task") != task:
        raise AnnotateError(
            f"the model's task is {shown(str(found.get('task')))}, and the Dataset's is {task}: name a ModelService whose "
            "model has the same task"
        )
    return _Scored(image, found, score_of(found))


def score_of(found: Mapping[str, Any]) -> float:
    """A model's confidence in an image: in its class, or the mean over its detections.

    An image without detections counts as 0.5, because something may have been missed.
    """
    if found["task"] == Task.CLASSIFICATION:
        return max((float(each["probability"]) for each in found["classes"]), default=_HALF_SURE)
    listed = found["instances"] if found["task"] == Task.INSTANCE_SEGMENTATION else found["detections"]
    scores = [float(each["score"]) for each in listed]
    return sum(scores) / len(scores) if scores else _HALF_SURE


def _secret(at: access.Chosen, name: str, namespace: str) -> tuple[Tool, Mapping[str, str]]:
    """The tool that a Secret is for, and the Secret's content."""
    found = access.secret(at, name, namespace)
    kind = found.get("tool", "")
    if kind not in TOOLS.names:
        raise AnnotateError(
            f"Secret {namespace}/{name}: the key tool is {shown(kind)!r}; allowed are {', '.join(TOOLS.names)}"
        )
    tool = TOOLS.named(kind)
    lacking = [f"{key} ({words})" for key, words in tool.keys.items() if not found.get(key)]
    lacking += [words for words, sets in tool.choices if not any(all(map(found.get, keys)) for keys in sets)]
    if lacking:
        raise AnnotateError(f"Secret {namespace}/{name} lacks {', '.join(lacking)}")
    return tool, found
