"""``pelagos dataset``: what is in a version of a Dataset, and what is not."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET
from pelagos.cli import access, dataset_balance, dataset_diff, dataset_taxa, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.objects import Objects
from pelagos.settings import Settings
from pelagos_contract.text import shown

LIST = "excluded.jsonl"
"""In a version; docs/design/0001 says what it holds."""
LARGEST = 512 * 1024**2
"""Bytes of it: as much as a version may have."""
_WIDTH = 20
_MORE = ("repeats", "measured")
"""What an entry may say beside its reason."""

app = typer.Typer(no_args_is_help=True, help="Image collections: what is in a version, and what is not.")
app.command()(dataset_diff.diff)
app.command()(dataset_balance.balance)
app.command()(dataset_taxa.taxa)


class DatasetError(Exception):
    """There is nothing to show; the message says why, in one line."""


@app.callback()
def dataset() -> None:
    """Image collections: what is in a version, and what is not."""


@app.command()
def excluded(
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    reason: Annotated[str, typer.Option(help="Only files with this reason, for example Duplicate.")] = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """List every file of the source that is not in the newest version, with its reason.

    Versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when the list could be read, 1 when not; JSON and YAML have the reason as "error" then.
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        entries = read(installed.settings(), f"{namespace}/{name}", status)
    except (access.AskError, DatasetError) as error:
        if output is not Output.TABLE:
            outputs.write({"dataset": f"{namespace}/{name}", "error": str(error)}, output)
        installed.progress_console().print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    chosen = [entry for entry in entries if reason in {"", entry["reason"]}]
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{namespace}/{name}", "version": status["version"], "excluded": chosen}, output)
        return
    installed.progress_console().print(_summary(f"{namespace}/{name}", status, entries), soft_wrap=True)
    for entry in chosen:
        more = "".join(f"  {name} {entry[name]}" for name in _MORE if name in entry)
        sys.stdout.write(shown(f"{entry['reason']:<{_WIDTH}}{entry['path']}{more}") + "\n")


def read(settings: Settings, name: str, status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is not in the newest version of the Dataset ``name``. Raises DatasetError."""
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise DatasetError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    try:
        content, there = asyncio.run(_fetch(engine_registry.objects_at(uri, settings)))
    except (OutageError, RejectedError, ValueError) as error:
        raise DatasetError(f"{uri}/{LIST} cannot be read: {error}") from error
    if not there:
        raise DatasetError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    if content is None:
        raise DatasetError(
            f"the version {uri} was made before versions had a list of what they leave out; new content, or another value of"
            " the annotation pelagos.dev/retry, makes one"
        )
    return list(_entries(content, uri))


async def _fetch(version: Objects) -> tuple[bytes | None, bool]:
    """The list, and whether there is a version at all."""
    content = await version.read_bytes(LIST, limit=LARGEST)
    return content, content is not None or await version.exists("manifest.json")


def _entries(content: bytes, uri: str) -> Iterator[Mapping[str, Any]]:
    """The entries of the list. Anybody who can write to the store may have replaced it, so it is checked line by line."""
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not (
            isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("reason"), str)
        ):
            raise DatasetError(f"{uri}/{LIST} is not what a preparation wrote; prepare the Dataset again")
        measured = entry.get("measured")
        of = {"measured": measured} if isinstance(measured, int | float) and math.isfinite(measured) else {}
        yield {key: str(entry[key]) for key in ("path", "reason", "repeats") if key in entry} | of


def _summary(name: str, status: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> Text:
    counts = Counter(entry["reason"] for entry in entries)
    files = (status.get("files") or {}).get("found")
    of = f" of {files}" if files is not None else ""
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
    told = f" ({reasons})" if reasons else ""
    return Text(f"{counts.total()}{of} files are not in version {status.get('version')} of {name}{told}")
