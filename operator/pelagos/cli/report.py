"""``pelagos report``: the page of figures and pictures that belongs to a version of a Dataset, or to a trained model."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET, TRAINING_RUN, Kind
from pelagos.cli import access, card, data_plane, gate_outcomes, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract import disk
from pelagos_contract.judgement import LARGEST_PAGE, PAGE, PAGE_BEGINS
from pelagos_contract.model_card import REPORT
from pelagos_contract.text import shown


class ReportError(Exception):
    """There is no report to show; the message says why, in one line."""


def report(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset or TrainingRun.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write, replacing what is there. Default: NAME-report.html.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    version: Annotated[
        str, typer.Option(help="Digest of one of status.versions, or its beginning. Default: the newest.")
    ] = "",
    kind: Annotated[
        str,
        typer.Option(help="Dataset or TrainingRun. Default: the first of these that has a resource with the name."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Write the report of a version of a Dataset, or of the model of a TrainingRun, into a file.

    Of a version: classes, splits, slices, sizes, unusual annotations and samples. Of a model: metrics, curves, slices, pictures
    of what it gets wrong, what it was trained on and with, what that cost, and the present outcome of its gates.

    The file contains everything that it shows, and contacts no server. Versions on S3-compatible storage are read with
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION.

    Exit codes: 0 when the file is written (and shown, with --open), 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    named, target = f"{namespace}/{name}", to or Path(f"{name}-report.html")
    found = {"dataset": named}
    try:
        of, resource = _chosen(at, kind, name, namespace)
        status = resource.get("status") or {}
        if of is TRAINING_RUN:
            found = {"trainingRun": named}
            if version:
                raise ReportError(f"--version {version}: {named} is a TrainingRun, which has one report")
            written = card.read(installed.settings(), status, REPORT)
            content, told = (
                gate_outcomes.in_page(written, resource, datetime.now(UTC)),
                f"The report of {named} is in {target}",
            )
        else:
            uri = data_plane.version_uri(named, status, version, f"--version {version}")
            found["version"] = f"sha256:{uri.rpartition('/')[2]}"
            content = read(installed.settings(), uri)
            told = f"The report of version {found['version']} of {named} is in {target}"
        _write(target, content)
        if open_browser and not webbrowser.open(target.resolve().as_uri()):
            raise ReportError(f"no browser was found; open {target} in one")
    except (access.AskError, data_plane.DataPlaneError, card.DocumentError, ReportError) as error:
        raise outputs.failed(error, output, found) from error
    if output is not Output.TABLE:
        outputs.write({**found, "file": str(target)}, output)
        return
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)


def _chosen(at: access.Chosen, asked: str, name: str, namespace: str) -> tuple[Kind, Mapping[str, Any]]:
    """The kind and body of the resource that the user means. Raises AskError, ReportError."""
    kinds = {kind.kind: kind for kind in (DATASET, TRAINING_RUN)}
    if asked and asked not in kinds:
        raise ReportError(f"--kind {asked}: allowed are {', '.join(kinds)}")
    if not asked and name not in access.listed(at, DATASET, namespace):
        if (found := access.listed(at, TRAINING_RUN, namespace).get(name)) is not None:
            return TRAINING_RUN, found
        asked = DATASET.kind  # for the error message, which lists the existing ones
    of = kinds[asked or DATASET.kind]
    return of, access.find(at, of, name, namespace)


def read(settings: Settings, uri: str) -> bytes:
    """The report of the version at ``uri``. It must begin as ours do, because anyone who can write to the store may replace it.

    Raises:
        ReportError: there is none, or it is another page.
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
            f"the version {uri} has no report: it was made before versions had one, or the log of its preparation says "
            "why; another value of the annotation pelagos.dev/retry makes one for the newest version"
        )
    if not content.startswith(PAGE_BEGINS.encode()):
        raise ReportError(
            f"{uri}/{PAGE} is not what a preparation wrote; another value of pelagos.dev/retry makes it again"
        )
    return content


def _write(target: Path, content: bytes) -> None:
    try:
        disk.write_atomically(target, content)
    except OSError as error:
        raise ReportError(f"--to {target}: {error.strerror or error}") from error
