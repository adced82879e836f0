"""Routes of trials. Trials of other people answer as if they did not exist."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from pelagos.engines.triton import http_inference
from pelagos.engines.triton.inference import InferenceError
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.text import shown
from pelagos_hub import problems, rendering, turns
from pelagos_hub.catalogue import answers
from pelagos_hub.context import duration, hub
from pelagos_hub.login import forms, sessions
from pelagos_hub.pictures import UnusableError
from pelagos_hub.problems import Problem
from pelagos_hub.trials import images, limits, making, owning, views
from pelagos_hub.trials.views import View

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


_LOG = logging.getLogger("pelagos.hub")
_UNSTORED = {"Cache-Control": "no-store"}
_ANSWER_SECONDS = 60.0
_MOST_ANSWERED = 32 * 2**20


@forms.action
async def start(request: Request, session: sessions.Session, form: FormData) -> Response:
    """Create a trial of the model that the form names, or redirect to the person's existing one."""
    at, person = hub(request), session.person
    assert person is not None  # as forms.action has seen
    service = (str(form.get("namespace", "")), str(form.get("service", "")))
    # One at a time per person, so that two clicks create one trial.
    async with at.turns.of(f"start {person.key}"):
        # Only models that the catalogue shows this person.
        if service not in {(each.namespace, each.name) for each in at.shelf.seen_by(person)}:
            raise Problem(404, "There is no such model", "It may have been removed, or it is not public.")
        for each in owning.own(request, session):
            if each.is_live and (each.namespace, each.service) == service and _token(session, each):
                return RedirectResponse(each.path, 303, _UNSTORED)
        if not at.starts.take(person.key):
            raise Problem(
                429,
                "You have started many trials in a short time",
                f"At most {turns.MOST_STARTS} can be started within {duration(turns.STARTS_SECONDS)}. Wait, then try again.",
            )
        secret = making.token()
        wanted = making.trial(at.settings, person, service, secret, at.clock.now())
        try:
            made = await at.cluster.create_trial(wanted)
        except (OutageError, RejectedError) as error:
            at.metrics.trials.labels("Failed" if isinstance(error, OutageError) else "Refused").inc()
            raise
    at.metrics.trials.labels("Made").inc()
    metadata = made["metadata"]
    session.keep_token(metadata["namespace"], metadata["name"], metadata["uid"], secret)
    return RedirectResponse(f"/trials/{metadata['namespace']}/{metadata['name']}", 303, _UNSTORED)


async def show(request: Request) -> Response:
    """The page of a trial: its progress, remaining time and how to use it."""
    session, trial = _mine(request)
    return _page(request, session, trial)


async def status(request: Request) -> Response:
    """The trial's state as JSON, which the page's script polls."""
    session, trial = _mine(request)
    told = {
        "phase": trial.phase,
        "reason": trial.reason,
        "message": trial.message,
        "steps": [{"name": step.name, "state": step.state} for step in trial.steps],
        "secondsLeft": trial.seconds_left,
        "seconds": trial.seconds,
        "expiresAt": trial.expires_at or None,
        "canSend": trial.is_open and _token(session, trial) is not None,
        "stale": hub(request).staleness(hub(request).cluster.trials()),
    }
    return JSONResponse(told, headers=_UNSTORED)


@forms.action
async def predict(request: Request, session: sessions.Session, form: FormData) -> Response:
    """Send an image to the model through the gateway, with the trial's token. Neither image nor answer is kept."""
    is_json = problems.wants_json(request)
    trial = _trial(request, session)
    secret = _token(session, trial)
    if not trial.is_open:
        raise Problem(
            409, "This trial is not open", f"{trial.reason}: {trial.message}" if trial.reason else "It has ended."
        )
    if secret is None:
        raise Problem(
            409, "This browser session does not have the token of the trial", "Stop the trial, and start another one."
        )
    content, name = await _image(request, trial, form)
    try:
        image = await asyncio.to_thread(images.measured, content)
        found, seconds = await _asked(request, trial, secret, content)
    except images.ImageRefusedError as error:
        raise Problem(422, "This image is not accepted", str(error)) from error
    except InferenceError as error:
        _LOG.warning("trial %s/%s: %s", trial.namespace, trial.name, error)
        raise Problem(502, "The model gave no answer", f"{error}.") from error
    answer = {
        "prediction": found,
        "seconds": round(seconds, 4),
        "image": {"width": image.width, "height": image.height, "bytes": len(content)},
    }
    # The page's script requests only the part of the page with the answer, and inserts the picture itself.
    is_part = request.headers.get("x-part") == "answer"
    if is_json and not is_part:
        return JSONResponse(answer, headers=_UNSTORED)
    drawn = await asyncio.to_thread(answers.answer, found, (image.width, image.height))
    if is_part:
        return rendering.page(
            request, "answer.html", found=drawn, seconds=seconds, prediction=found, picture="", file=name
        )
    return _page(request, session, trial, answer=answer, found=drawn, picture=image.in_page(), file=name)


@forms.action
async def stop(request: Request, session: sessions.Session, _form: FormData) -> Response:
    """End a trial early: delete the Trial, after which the gateway rejects the token."""
    trial = _trial(request, session)
    await hub(request).cluster.delete_trial(trial.namespace, trial.name, trial.uid)
    return RedirectResponse("/me", 303, _UNSTORED)


async def mine(request: Request) -> Response:
    """The page with the person's own trials."""
    session = sessions.of(request)
    if session is None or session.person is None:
        return RedirectResponse("/login?next=/me", 303, _UNSTORED)
    own = owning.own(request, session)
    return rendering.page(
        request,
        "me.html",
        trials=own,
        counts=limits.everywhere(request, session),
        titles={(each.namespace, each.name): each.title for each in hub(request).shelf.all()},
        is_live=any(each.is_live for each in own),
        stale=hub(request).staleness(hub(request).cluster.trials()),
    )


async def _image(request: Request, trial: View, form: FormData) -> tuple[bytes, str]:
    """The content and name of the uploaded image, or of the chosen picture of the model's card."""
    sent, sample = form.get("image"), form.get("sample")
    if isinstance(sample, str) and sample:
        shelf = hub(request).shelf
        entry = shelf.find(trial.namespace, trial.service)
        number = int(sample) if sample.isascii() and sample.isdigit() and len(sample) < 4 else -1
        try:
            picture = await shelf.pictures.read(entry, number, small=False) if entry else None
        except UnusableError as error:
            raise Problem(422, "This picture cannot be sent", f"{error}.") from error
        if entry is None or picture is None:
            raise Problem(404, "There is no such picture", "Choose another one, or send your own image.")
        return picture.content, entry.pictures[number].description
    if isinstance(sent, UploadFile):
        return await sent.read(), (sent.filename or "")[:200]
    return b"", ""


def _page(request: Request, session: sessions.Session, trial: View, **answered: Any) -> Response:
    secret = _token(session, trial)
    entry = hub(request).shelf.find(trial.namespace, trial.service)
    return rendering.page(
        request,
        "trial.html",
        trial=trial,
        count=limits.of(request, session, trial.namespace) if trial.is_live else None,
        title=entry.title if entry else shown(trial.service),
        pictures=entry.pictures if entry else [],
        token=secret or "",
        curl=_curl(trial) if secret and trial.is_open else "",
        refresh=2 if trial.phase in {"Pending", "Starting", "Stopping"} else 0,
        stale=hub(request).staleness(hub(request).cluster.trials()),
        **{"answer": None, "found": None, "picture": "", "file": "", **answered},
    )


def _curl(trial: View) -> str:
    """The curl command for this trial; empty when its address has shell characters, which only a forged status can contain."""
    address = f"{trial.http.rstrip('/')}/v2/models/{trial.model}/infer"
    if not address.isascii() or any(each in address for each in "'\"`$\\ \n;&|<>(){}"):
        return ""
    return (
        f"curl --fail-with-body -H 'Authorization: Bearer $TOKEN' -H 'Inference-Header-Content-Length: 0' "
        f"--data-binary @image.jpg '{address}' --output answer.bin"
    ).replace("'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"')


async def _asked(request: Request, trial: View, secret: str, content: bytes) -> tuple[dict[str, Any], float]:
    settings = hub(request).settings
    address = trial.http
    if settings.gateway_url:
        address = f"{settings.gateway_url.rstrip('/')}/{trial.namespace}/{trial.behind}"
        address = address.replace("{namespace}", trial.namespace)
    if not address or not trial.model:
        raise Problem(503, "The model has no address yet", "Wait a moment, and send the image again.")
    endpoint = http_inference.Endpoint(address, f"Bearer {secret}", settings.gateway_ca_file, _MOST_ANSWERED)
    return await http_inference.infer(endpoint, trial.model, content, _ANSWER_SECONDS)


def _mine(request: Request) -> tuple[sessions.Session, View]:
    """The session, and its person's trial that the URL names. Raises Problem."""
    session = sessions.of(request)
    if session is None or session.person is None:
        raise Problem(401, "Sign in to see your trials", "Only your own trials are shown.")
    return session, _trial(request, session)


def _trial(request: Request, session: sessions.Session) -> View:
    at = hub(request)
    found = at.cluster.trials().objects.get((request.path_params["namespace"], request.path_params["name"]))
    if found is None or not owning.is_of(request, session, found):
        raise Problem(
            404, "There is no such trial", "A trial is removed some time after it has ended. Start another one."
        )
    return views.view(found, at.cluster.services().objects, at.clock.now())


def _token(session: sessions.Session, trial: View) -> str | None:
    return session.token(trial.namespace, trial.name, trial.uid)


ROUTES = [
    Route("/trials", start, methods=["POST"], name="trials"),
    Route("/trials/{namespace}/{name}", show, name="trial"),
    Route("/trials/{namespace}/{name}/status.json", status, name="trial-status"),
    Route("/trials/{namespace}/{name}/predict", predict, methods=["POST"], name="trial-predict"),
    Route("/trials/{namespace}/{name}/predict.json", predict, methods=["POST"], name="trial-predict-json"),
    Route("/trials/{namespace}/{name}/stop", stop, methods=["POST"], name="trial-stop"),
    Route("/me", mine, name="me"),
]
