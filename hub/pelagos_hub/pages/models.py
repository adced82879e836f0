"""Pages to find a model: the catalogue, a model, its pictures and documents."""

from __future__ import annotations

import asyncio
import logging
import shlex
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract import model_card, model_image
from pelagos_hub import rendering
from pelagos_hub.catalogue import browsing
from pelagos_hub.context import duration, hub
from pelagos_hub.documents import TYPES, AlteredError
from pelagos_hub.pages import machine, markdown, visible
from pelagos_hub.pictures import UnusableError
from pelagos_hub.problems import Problem
from pelagos_hub.trials import offers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from markupsafe import Markup
    from starlette.requests import Request

    from pelagos_hub.catalogue.entries import Document, Entry

_LOG = logging.getLogger("pelagos.hub")
FDL = "fdl.yaml"
"""File name of the OSCAR description of a model's container image, offered where the card names an image."""
_KEPT, _ASKED = "private, max-age=3600", "private, no-cache"
_LABELS = {
    model_card.REPORT: ("Report of the training", "HTML, self-contained"),
    model_card.CARD: ("Model card", "Markdown"),
    model_card.AI4_METADATA: ("Metadata of AI4OS", "YAML, ai4-metadata 2.3.0"),
    model_card.MLDCAT_AP: ("Linked data", "JSON-LD, MLDCAT-AP"),
}


async def catalogue(request: Request) -> Response:
    """The catalogue page: the models that this visitor may see and that fit the URL's query."""
    query = browsing.Query.parse(request.query_params.multi_items())
    found = browsing.browse(visible.entries(request), query)
    return rendering.page(
        request,
        "catalogue.html",
        found=found,
        query=found.query,
        orders=browsing.ORDERS,
        ago=_ago(request),
        asked=_asked(request),
    )


async def model(request: Request) -> Response:
    """The page of one model."""
    entry, at = visible.entry(request), hub(request)
    classes, trouble = await _classes(request, entry)
    return rendering.page(
        request,
        "model.html",
        entry=entry,
        is_inside=visible.is_inside(request, entry),
        offer=offers.of(request, entry),
        ago=_ago(request),
        asked=_asked(request),
        classes=classes,
        trouble=trouble,
        documents=[(each.name, *_LABELS[each.name]) for each in entry.documents if each.name in _LABELS],
        fdl=FDL if entry.card.image and entry.onnx_sha256 else "",
        linked=machine.linked(entry, at.settings.origin),
        calling=_calling(entry),
    )


async def picture(request: Request) -> Response:
    """A picture of the model's card."""
    entry, number = visible.entry(request), request.path_params["number"]
    try:
        found = await hub(request).shelf.pictures.read(entry, number, small="small" in request.query_params)
    except UnusableError as error:
        found, why = None, f"spec.card.pictures[{number}]: {error}."
    else:
        why = "The ConfigMap that the card names, or its key, does not exist."
    if found is None and request.headers.get("sec-fetch-dest") == "image":
        # A browser that embeds the picture gets a placeholder instead of a broken image.
        return RedirectResponse("/static/absent.svg", HTTPStatus.FOUND, {"Cache-Control": "no-store"})
    if found is None:
        raise Problem(404, "This picture cannot be shown", why)
    headers = {"ETag": found.etag, "Cache-Control": _keeping(entry)}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.content, media_type=found.type, headers=headers)


async def document(request: Request) -> Response:
    """A document of the model as its training wrote it, or the description for OSCAR."""
    entry, name = visible.entry(request), request.path_params["document"]
    if name == FDL and entry.card.image and entry.onnx_sha256:
        text = model_image.description(entry.name, entry.card.image, entry.onnx_sha256, entry.cpu)
        headers = {"Content-Disposition": f'attachment; filename="{entry.name}-{name}"', "Cache-Control": "no-store"}
        return Response(text, media_type="application/yaml; charset=utf-8", headers=headers)
    if name == "card.md":
        return RedirectResponse(f"{entry.path}/{model_card.CARD}", HTTPStatus.FOUND)
    found = next((each for each in entry.documents if each.name == name), None)
    if found is None:
        there = ", ".join(each.name for each in entry.documents) or "none"
        raise Problem(404, f"There is no {name[:60]} of this model", f"Its training wrote: {there}.")
    content = await _content(request, found)
    # Only as a download, never displayed as a page of this site: its content is untrusted.
    headers = {"Content-Disposition": f'attachment; filename="{entry.name}-{name}"', "Cache-Control": _keeping(entry)}
    return Response(content, media_type=TYPES[name], headers=headers)


def _keeping(entry: Entry) -> str:
    """The Cache-Control header: content that is not public must be revalidated, since another person may use the browser."""
    return _KEPT if entry.visibility == "Public" else _ASKED


async def _content(request: Request, wanted: Document) -> bytes:
    try:
        content = await hub(request).shelf.documents.read(wanted)
    except AlteredError as error:
        raise Problem(
            502, "This document was altered", f"{error}. Tell the administrator of this installation."
        ) from error
    except (OutageError, RejectedError) as error:
        # The store's own message is only for the log, which the administrators read.
        _LOG.warning("%s of %s: %s", wanted.name, request.url.path, error)
        advice = (
            "Try again in a minute. If the problem persists, tell the administrator of this installation; the hub's log has the "
            "cause."
        )
        raise Problem(503, "This document cannot be read now", advice) from error
    if content is None:
        raise Problem(404, "This document cannot be read from here", f"`pelagos card` reads it: {wanted.name}.")
    return content


async def _classes(request: Request, entry: Entry) -> tuple[Markup | None, str]:
    """The figures of classes from the training's card, or the reason why there are none."""
    card = next((each for each in entry.documents if each.name == model_card.CARD), None)
    if card is None:
        return None, "The training of this model wrote no card, so metrics of single classes are not available."
    try:
        content = await hub(request).shelf.documents.read(card)
    except (AlteredError, OutageError, RejectedError) as error:
        _LOG.warning("%s: metrics of single classes cannot be shown: %s", entry.path, error)
        why = f": {error}" if visible.is_inside(request, entry) else " now"
        return None, f"Metrics of single classes cannot be shown{why}."
    if content is None:
        return None, "Metrics of single classes are in the model card, which cannot be read from here."
    part = markdown.figures_of_classes(content.decode(errors="replace"))
    if not part:
        return None, ""
    # Rendering can take seconds: concurrent visitors of the same card wait for one rendering.
    async with hub(request).turns.of(f"card {card.sha256}"):
        return await asyncio.to_thread(markdown.render, part), ""


def _calling(entry: Entry) -> dict[str, str]:
    """Values for the examples of how to call the model, through the gateway where there is one."""
    http = entry.endpoints.get("gatewayHttp") or entry.endpoints.get("http") or ""
    grpc = entry.endpoints.get("gatewayGrpc") or entry.endpoints.get("grpc") or ""
    base, name = http.rstrip("/"), entry.model_name or entry.name
    through = bool(entry.endpoints.get("gatewayHttp"))
    token = ' -H "Authorization: Bearer $TOKEN"' if through else ""
    curl = (
        f"curl --silent --fail-with-body{token} -H 'Inference-Header-Content-Length: 0' \\\n"
        f"  --data-binary @image.jpg {shlex.quote(f'{base}/v2/models/{name}/infer')} --output answer.bin\n"
        "grep -a -o '{\"task\".*}' answer.bin"
    )
    headers = ', headers={"Authorization": f"Bearer {os.environ[\'TOKEN\']}"}' if through else ""
    address = base.removeprefix("https://").removeprefix("http://")
    ssl = ", ssl=True" if base.startswith("https://") else ""
    python = (
        "import json, os\nfrom pathlib import Path\n\nimport numpy as np\n"
        "from tritonclient.http import InferenceServerClient, InferInput\n\n"
        f"client = InferenceServerClient({address!r}{ssl})\n"
        'image = InferInput("image", [1, 1], "BYTES")\n'
        'image.set_data_from_numpy(np.array([[Path("image.jpg").read_bytes()]], dtype=np.object_))\n'
        f"answer = client.infer({name!r}, [image]{headers})\n"
        'print(json.loads(answer.as_numpy("prediction")[0, 0]))'
    )
    return {"http": http, "grpc": grpc, "curl": curl if http else "", "python": python if http else ""}


def _asked(request: Request) -> Callable[[Entry], datetime | None]:
    """A function that returns when the operator last probed a model; None when that is unknown."""
    probes = hub(request).probes
    return lambda entry: probes.last(entry.namespace, entry.name)


def _ago(request: Request) -> Callable[[datetime | None], str]:
    """A function that returns how long ago a moment was, in words; empty for None."""
    now = hub(request).clock.now()
    return lambda moment: duration((now - moment).total_seconds()) if moment is not None else ""
