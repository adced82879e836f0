"""``pelagos report``: the page of figures and samples that stands beside a version of a Dataset."""

from __future__ import annotations

import asyncio
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET
from pelagos.cli import access, data_plane, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract import disk
from pelagos_contract.judgement import LARGEST_PAGE, PAGE, PAGE_BEGINS
from pelagos_contract.text import shown


class ReportError(Exception):
    """There is no report to show; the message says why, in one line."""


def report(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write, replacing what is there. Default: NAME-report.html.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    version: Annotated[
        str, typer.Option(help="Digest of one of status.versions, or how it begins. Default: the newest.")
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Write the report of a version into a file: classes, splits, slices, sizes, unusual annotations and samples.

    The file holds all that it shows, and asks nothing of any server. Versions on S3-compatible storage are read with
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION.

    Exit codes: 0 when the file is written (and shown, with --open), 1 when not; JSON and YAML have the reason as "error" then.
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    named, target = f"{namespace}/{name}", to or Path(f"{name}-report.html")
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        uri = data_plane.version_uri(named, status, version, f"--version {version}")
        _write(target, read(installed.settings(), uri))
        if open_browser and not webbrowser.open(target.resolve().as_uri()):
            raise ReportError(f"no browser was found; open {target} in one")
    except (access.AskError, data_plane.DataPlaneError, ReportError) as error:
        raise outputs.failed(error, output, {"dataset": named}) from error
    found = {"dataset": named, "version": f"sha256:{uri.rpartition('/')[2]}", "file": str(target)}
    if output is not Output.TABLE:
        outputs.write(found, output)
        return
    told = f"The report of version {found['version']} of {named} is in {target}"
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)


def read(settings: Settings, uri: str) -> bytes:
    """The report of the version at ``uri``. Whoever can write to the store may have replaced it: it must begin as ours do.

    Raises:
        ReportError: there is none, or another page.
    """
    objects = engine_registry.objects_at(uri, settings)

    async def fetch() -> tuple[bytes | None, bool]:
        content = await objects.read_bytes(PAGE, limit=LARGEST_PAGE)
        return content, content is not None or await objects.exists("manifest.json")

    try:
        content, is_there = asyncio.run(fetch())
    except (OutageError, RejectedError, ValueError) as error:
        raise ReportError(f"{uri}/{PAGE} cannot be read: {error}") from error
    if content is None and not is_there:
        raise ReportError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    if content is None:
        raise ReportError(
            f"the version {uri} has no report: it was made before there were any, or the log of its preparation says why; another"
            " value of the annotation pelagos.dev/retry makes one for the newest version"
        )
    if not content.startswith(PAGE_BEGINS.encode()):
        raise ReportError(
            f"{uri}/{PAGE} is not what a preparation wrote; another value of pelagos.dev/retry makes it anew"
        )
    return content


def _write(target: Path, content: bytes) -> None:
    try:
        disk.write_atomically(target, content)
    except OSError as error:
        raise ReportError(f"--to {target}: {error.strerror or error}") from error
