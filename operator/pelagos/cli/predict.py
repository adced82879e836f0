"""``pelagos predict``: send one image to a ModelService, print its findings, and draw them. The demo uses these functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from pelagos.api.kinds import MODEL_SERVICE
from pelagos.cli import access, endpoint_logins, forwarding, installed, outputs, pictures, tiles
from pelagos.cli.outputs import Output
from pelagos.cli.predictions import TASKS
from pelagos.engines.triton import http_inference, inference
from pelagos_contract.answers import merging
from pelagos_contract.answers.drawing import PictureError
from pelagos_contract.answers.pixel_tiles import Asked, MisfitError
from pelagos_contract.tiles import Place, places

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 100_000_000
"""Limits of the served models; also checked here, so that a refusal comes before the upload."""
MAX_TILED_BYTES, MAX_TILED_PIXELS = 2**31, 500_000_000
"""Limits for an image that is cut into tiles here."""
LARGEST_TILE, CORNER = 4096, 128
"""Largest and smallest side of a tile, in pixels."""
AT_ONCE = 4
"""How many tiles are sent at the same time."""
TIMEOUT = 30.0
_READ = frozenset({"JPEG", "MPO", "PNG", "TIFF", "BMP", "DIB", "WEBP", "JPEG2000"})
"""Accepted formats, by Pillow's names."""
_KINDS = "a JPEG, PNG, TIFF, BMP, WebP or JPEG 2000"


class PredictError(Exception):
    """The prediction failed; the message says why, in one line."""


@dataclass(frozen=True)
class Endpoint:
    """The address of a Ready ModelService (``host:port`` for gRPC, a URL for HTTP), its model's name, and its uid."""

    address: str
    model: str
    uid: str


@dataclass(frozen=True)
class Prediction:
    """A prediction. ``content`` has the JSON shape of the service contract, with boxes in pixels; ``latency`` is in seconds."""

    service: str
    model: str
    image: Path
    content: Mapping[str, Any]
    latency: float


def predict(  # noqa: PLR0913, PLR0917 - options of a command
    service: Annotated[str, typer.Argument(help="Name of the ModelService.")],
    image: Annotated[Path, typer.Argument(help="JPEG, PNG, TIFF, BMP, WebP or JPEG 2000 file.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Show only what the model is surer of than this. Default: the threshold of the ModelService or its model "
            "package.",
            min=0,
            max=1,
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the image with what was found to this PNG or JPEG.")] = None,
    output: outputs.Option = Output.TABLE,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1)] = TIMEOUT,
    login_file: endpoint_logins.Option = None,
) -> None:
    """Send an image to a ModelService and show what it finds in it.

    The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when there was an answer, 1 when not; JSON and YAML then give the reason as "error".
    """
    try:
        if save is not None:
            pictures.check_target(save)
        at = access.chosen(installed.settings(), context)
        where = access.namespace_of(at, namespace)
        login = endpoint_logins.read(login_file) if login_file is not None else ""
        found = predict_file(at, service, image, namespace=where, timeout=timeout, confidence=confidence, login=login)
        if save is not None:
            draw(image, found, save)
    except (PredictError, PictureError, endpoint_logins.LoginError) as error:
        raise outputs.failed(error, output, {"service": service, "image": str(image)}) from error
    _print(found, output)


def predict_file(  # noqa: PLR0913 - options of a command
    at: access.Chosen,
    service: str,
    image: Path,
    *,
    namespace: str = "default",
    timeout: float = TIMEOUT,
    confidence: float | None = None,
    login: str = "",
) -> Prediction:
    """The prediction of a ModelService for an image file. Raises PredictError, LoginError.

    An image larger than the tiles that the model was trained on is cut into such tiles, and their results are merged. An endpoint
    inside a cluster is reached by forwarding its port. ``login`` is the Authorization header for an HTTP endpoint that needs one.
    """
    size = measured(image)
    found = endpoint(at, service, namespace)
    asked: dict[str, Any] = {"timeout": timeout, "confidence": confidence}
    try:
        if found.address.startswith(("http://", "https://")):
            where = endpoint_logins.endpoint(found.address, login, installed.settings())
            content, latency = asyncio.run(
                _ask(partial(http_inference.infer, where, found.model, **asked), image, size)
            )
        else:
            with forwarding.reachable(found.address, at) as address:
                infer = partial(inference.infer, address, found.model, **asked)
                content, latency = asyncio.run(_ask(infer, image, size))
    except (inference.InferenceError, forwarding.ForwardingError, MisfitError) as error:
        raise PredictError(f"ModelService {namespace}/{service} at {found.address}: {error}") from error
    return Prediction(service, found.model, image, content, latency)


async def _ask(
    infer: Callable[[bytes], Awaitable[tuple[Mapping[str, Any], float]]], image: Path, size: tuple[int, int]
) -> tuple[Mapping[str, Any], float]:
    """The answer to an image of ``size``, and its latency in seconds."""
    if max(size) <= LARGEST_TILE:
        content, latency = await infer(read_image(image))
        tile = tiles.declared(content)
        if tile is None or max(size) <= tile.size:
            return content, latency
        whole = _opened(image)
    else:
        # The image is larger than any tile: first send a corner, whose answer says which tiles the model was trained on.
        whole = _opened(image)
        corner = tiles.encoded(whole, Place(0, 0, min(CORNER, whole.width), min(CORNER, whole.height)))
        content, _ = await infer(corner)
        tile = tiles.declared(content)
        if tile is None:
            return await infer(read_image(image))
    begun, turns = monotonic(), asyncio.Semaphore(AT_ONCE)

    async def one(place: Place) -> Asked:
        async with turns:
            part = await asyncio.to_thread(tiles.encoded, whole, place)
            return Asked(place, (await infer(part))[0])

    where = places(whole.width, whole.height, tile.size, tile.overlap)
    try:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(one(place)) for place in where]
    except* inference.InferenceError as errors:
        raise errors.exceptions[0] from None
    return merging.merged(whole.size, [task.result() for task in asked]), monotonic() - begun


def _opened(path: Path) -> Image:
    try:
        return pictures.opened(path)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for damaged images
        raise PredictError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def draw(image: Path, prediction: Prediction, target: Path) -> None:
    """Write the image with the prediction drawn into it to ``target``. Raises PictureError."""
    pictures.draw(image, prediction.content, target)


def measured(path: Path) -> tuple[int, int]:
    """Width and height, as stored, of an image in an accepted format. Raises PredictError for anything else."""
    from PIL import Image, UnidentifiedImageError

    try:
        if (size := path.stat().st_size) > MAX_TILED_BYTES:
            raise PredictError(
                f"{path} has {size / 2**20:.0f} MiB; at most {MAX_TILED_BYTES // 2**20} MiB are accepted"
            )
        with pictures.of_any_size(), Image.open(path) as image:
            kind, (width, height) = image.format, image.size
    except UnidentifiedImageError as error:
        raise PredictError(f"{path} is not an image; send {_KINDS}") from error
    except OSError as error:
        raise PredictError(f"{path} cannot be read: {error.strerror or error}") from error
    if kind not in _READ:
        raise PredictError(f"{path} is a {kind}; convert it to PNG")
    if width * height > MAX_TILED_PIXELS:
        raise PredictError(f"{path} has {width} x {height} pixels; at most {MAX_TILED_PIXELS} are accepted")
    return width, height


def read_image(path: Path) -> bytes:
    """The bytes of an image that can be sent to a model unchanged. Raises PredictError for anything else."""
    width, height = measured(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise PredictError(f"{path} has {size / 2**20:.0f} MiB; at most {MAX_BYTES // 2**20} MiB are accepted")
        data = path.read_bytes()
    except OSError as error:
        raise PredictError(f"{path} cannot be read: {error.strerror or error}") from error
    if width * height > MAX_PIXELS:
        raise PredictError(
            f"{path} has {width} x {height} pixels; at most {MAX_PIXELS} are accepted, and more only by models that were taught"
            " on tiles (spec.preprocessing.tile of their Dataset)"
        )
    return data


def endpoint(at: access.Chosen, service: str, namespace: str) -> Endpoint:
    """The endpoint of a ModelService. Raises PredictError when it does not exist or is not Ready."""
    try:
        found = access.find(at, MODEL_SERVICE, service, namespace)
    except access.AskError as error:
        raise PredictError(str(error)) from error
    name, status = f"{namespace}/{service}", found.get("status", {})
    ready = next((item for item in status.get("conditions", ()) if item["type"] == "Ready"), None)
    if ready is None:
        raise PredictError(f"ModelService {name} has no status yet; does the operator run?")
    if ready["status"] != "True":
        raise PredictError(f"ModelService {name} is not Ready: {ready['reason']}: {ready['message']}")
    url = status.get("url") or ""
    uid = str(found["metadata"].get("uid", ""))
    return Endpoint(address=url.removeprefix("grpc://"), model=status["model"]["name"], uid=uid)


def table(prediction: Prediction) -> RenderableType:
    """The prediction as a heading and a table: one row per detection, or per class."""
    content = prediction.content
    task = TASKS.named(content["task"])
    size, summary = f"{content['width']} x {content['height']} px", task.summary(content)
    told = f"{summary} in {content['tiles']} tiles, " if "tiles" in content else f"{summary}, " if summary else ""
    told += "".join(f"{words}, " for words in _how_sure(content))
    heading = Text(
        f"{prediction.image.name} ({size}): {told}{prediction.latency * 1000:.0f} ms from {prediction.service}"
    )
    return Group(heading, task.table(content))


def _how_sure(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield notes on the scores: whether they are calibrated, and which thresholds apply."""
    if content.get("calibrated") is True:
        yield "calibrated"
    if content.get("thresholds") == "Classes":
        yield "each class above its own threshold"


def _print(prediction: Prediction, output: Output) -> None:
    if output is Output.TABLE:
        installed.result_console().print(table(prediction))
        return
    content = {
        "service": prediction.service,
        "model": prediction.model,
        "image": str(prediction.image),
        "latencySeconds": round(prediction.latency, 4),
        **prediction.content,
    }
    outputs.write(content, output)
