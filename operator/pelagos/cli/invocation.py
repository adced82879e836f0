"""``pelagos invocation``: have an OSCAR job process an image later, and fetch the result."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from pelagos.cli import access, installed, outputs, predict
from pelagos.cli.outputs import Output
from pelagos.cli.predict import PredictError, Prediction
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.text import shown

if TYPE_CHECKING:
    from pelagos.engines.oscar.invocations import Invocations, Seen
    from pelagos.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Images that are processed later, by jobs of OSCAR.")
_SERVICE = re.compile(r"/system/services/([a-z0-9-]{1,39})/exposed/?")
_LOOKED_EVERY = 2.0
Given = TypeVar("Given")

_Service = Annotated[str, typer.Argument(help="Name of the ModelService.")]


@app.callback()
def invocation() -> None:
    """Images that are processed later, by jobs of OSCAR."""


@app.command()
def start(  # noqa: PLR0913, PLR0917 - options of a command
    service: _Service,
    image: Annotated[Path, typer.Argument(help="JPEG, PNG, TIFF, BMP, WebP or JPEG 2000 file.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    confidence: Annotated[
        float | None,
        typer.Option(help="Show what is surer than this. Default: as the ModelService says.", min=0, max=1),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            help="A key of your own, so that the same image is started only once: 8 to 64 letters a-z, digits and '-'."
        ),
    ] = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Send an image to a ModelService that OSCAR serves, and print the key for asking about it.

    It needs a login to OSCAR: PELAGOS_OSCAR_URL, its login and bucket as settings, see docs/oscar.md.

    Exit codes: 0 when it was started, 1 when it was not.
    """
    told = {"service": service, "image": str(image)}
    try:
        content = predict.read_image(image)
        settings = installed.settings()
        name, uid = _named(settings, service, namespace, context)
        asked = "" if confidence is None else f"{confidence:g}"
        made = _run(settings, lambda all_of: all_of.start(name, uid, content, asked, key))
    except (PredictError, OutageError, RejectedError) as error:
        raise outputs.failed(error, output, told) from error
    if output is Output.TABLE:
        installed.result_console().print(made)
    else:
        outputs.write({**told, "key": made}, output)


@app.command()
def show(
    service: _Service,
    key: Annotated[str, typer.Argument(help="As `pelagos invocation start` printed it.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end.", min=0)] = 0,
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show the result of an image that was sent before.

    Exit codes: 0 when there is a result, 1 when it failed or is not known, 3 when it is still waiting.
    """
    told = {"service": service, "key": key}
    try:
        settings = installed.settings()
        name, _ = _named(settings, service, namespace, context)
        seen = _run(settings, lambda all_of: _ended(all_of, name, key, wait))
    except (PredictError, OutageError, RejectedError) as error:
        raise outputs.failed(error, output, told) from error
    state = seen.state.value
    if seen.content is not None and output is Output.TABLE:
        found = Prediction(service, service, Path(key), seen.content, 0.0)
        installed.result_console().print(predict.table(found))
        return
    content = {**told, "state": state, "message": seen.message, "finishedAt": seen.finished_at, **(seen.content or {})}
    if output is not Output.TABLE:
        outputs.write(content, output)
    else:
        installed.result_console().print(f"{state}: {seen.message}", soft_wrap=True, markup=False)
    if state != "Succeeded":
        raise typer.Exit(3 if state == "Waiting" else 1)


async def _ended(all_of: Invocations, name: str, key: str, wait: float) -> Seen:
    deadline = monotonic() + wait
    while True:
        seen = await all_of.look(name, key)
        if seen.state.value != "Waiting" or monotonic() >= deadline:
            return seen
        await asyncio.sleep(_LOOKED_EVERY)


def _named(settings: Settings, service: str, namespace: str, context: str) -> tuple[str, str]:
    """The name of the OSCAR service that serves a ModelService, and the ModelService's uid. Raises PredictError."""
    at = access.chosen(settings, context)
    where = access.namespace_of(at, namespace)
    found_at = predict.endpoint(at, service, where)
    url = found_at.address
    found = _SERVICE.fullmatch(urlsplit(url).path) if url.startswith(("http://", "https://")) else None
    if found is None:
        raise PredictError(
            f"ModelService {where}/{service} is not served by OSCAR; send the image directly: pelagos predict"
        )
    # The same name at another OSCAR cluster is another service, so compare the addresses.
    own = settings.oscar_url.rstrip("/")
    if own and not url.startswith(f"{own}/system/services/"):
        raise PredictError(
            f"ModelService {where}/{service} is served by another OSCAR, at {shown(url)[:200]}: set PELAGOS_OSCAR_URL, which is "
            f"{own}, to that one, and your login to it"
        )
    return found[1], found_at.uid


def _run(settings: Settings, call: Callable[[Invocations], Awaitable[Given]]) -> Given:
    """Run ``call`` with a connection to OSCAR. Raises PredictError for missing settings, and any error of the call."""
    from pelagos.engines.oscar import options
    from pelagos.engines.oscar.invocations import Invocations
    from pelagos.engines.oscar.rest import OscarRest

    begin = options.invocations_url(settings)
    if not settings.oscar_url or not begin:
        raise PredictError(
            "PELAGOS_OSCAR_URL, PELAGOS_OSCAR_BUCKET and PELAGOS_OSCAR_STORAGE_URL must say where OSCAR and its bucket for "
            "invocations are, as for the operator; and PELAGOS_OSCAR_TOKEN_FILE, or ..._USERNAME_FILE and ..._PASSWORD_FILE, "
            "who you are"
        )

    async def run() -> Given:
        rest = OscarRest(options.access(settings))
        try:
            return await call(Invocations(rest, settings.oscar_bucket, begin))
        finally:
            await rest.close()

    return asyncio.run(run())
