"""``pelagos dataset taxa``: the taxa of a version's classes, as resolved by the taxonomic register."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract.taxonomy import TaxonomyRecord
from pelagos_contract.text import shown

RECORD = "taxonomy.json"
"""The file's path in a version; docs/design/0001 describes its content."""
LARGEST = 32 * 1024**2
"""Largest file in bytes: as much as a version may have."""
_WIDTHS = (32, 10, 32)


class TaxaError(Exception):
    """There are no taxa to show; the message says why, in one line."""


def taxa(
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """List the classes of the newest version with their AphiaIDs, accepted names and ranks, and the classes that are no taxa.

    Versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when the list could be read, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        found = read(installed.settings(), f"{namespace}/{name}", status)
    except (access.AskError, TaxaError) as error:
        raise outputs.failed(error, output, {"dataset": f"{namespace}/{name}"}) from error
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{namespace}/{name}", "version": status["version"], **found.written()}, output)
        return
    told = found.told
    when = f" at {told.asked_at}" if told.asked_at else ""
    summary = f"{told.taxa} classes of {namespace}/{name} are taxa by {shown(told.source)}{when}; {len(told.unknown)} are unknown"
    installed.progress_console().print(Text(summary), soft_wrap=True)
    for cells in _lines(found):
        padded = "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
        sys.stdout.write(shown(padded + "".join(cells[len(_WIDTHS) :])).rstrip() + "\n")


def _lines(found: TaxonomyRecord) -> Iterator[tuple[str, ...]]:
    """Yield rows: class, AphiaID, accepted name, and rank with further notes."""
    rolled = {each.name: ", ".join(part.name for part in each.of) for each in found.told.rolled_up}
    for each in found.classes:
        made = f"  made of {rolled[each.name]}" if each.name in rolled else ""
        number = "-" if each.taxon.aphia_id is None else str(each.taxon.aphia_id)
        yield f"{each.name} ", number, f"{each.taxon.name} ", f"{each.taxon.rank or '-'}{made}"
    for one in found.told.unknown:
        like = f"; like it: {', '.join(one.suggestions)}" if one.suggestions else ""
        yield f"{one.name} ", "-", f"{one.why}{like}"
    for kept in found.told.kept:
        yield f"{kept} ", "-", "kept as it is"


def read(settings: Settings, name: str, status: Mapping[str, Any]) -> TaxonomyRecord:
    """The taxonomy record in the newest version of the Dataset ``name``. Raises TaxaError."""
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise TaxaError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    if not status.get("taxonomy"):
        raise TaxaError(f"no register was asked which taxa the classes of Dataset {name} are; set spec.labels.taxonomy")
    try:
        content = asyncio.run(engine_registry.objects_at(uri, settings).read_bytes(RECORD, limit=LARGEST))
    except (OutageError, RejectedError, ValueError) as error:
        raise TaxaError(f"{uri}/{RECORD} cannot be read: {error}") from error
    if content is None:
        raise TaxaError(
            f"{uri}/{RECORD} is not visible from this machine; run this command where its folder is mounted"
        )
    try:
        return TaxonomyRecord.model_validate_json(content)
    except ValidationError as error:
        raise TaxaError(f"{uri}/{RECORD} is not what a preparation wrote; prepare the Dataset again") from error
