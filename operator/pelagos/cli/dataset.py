"""``pelagos dataset``: the content of a version of a Dataset, and what was excluded from it."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import (
    access,
    dataset_balance,
    dataset_capture,
    dataset_diff,
    dataset_taxa,
    installed,
    outputs,
    version_files,
)
from pelagos.cli.outputs import Output
from pelagos.cli.version_files import DatasetError
from pelagos.settings import Settings
from pelagos_contract.text import shown

LIST = "excluded.jsonl"
"""The file's path in a version; docs/design/0001 describes its content."""
_WIDTH = 20
_MORE = ("repeats", "measured")
"""Further fields that an entry may have besides its reason."""

app = typer.Typer(no_args_is_help=True, help="Image collections: what is in a version, and what is not.")
app.command()(dataset_capture.capture)
app.command()(dataset_diff.diff)
app.command()(dataset_balance.balance)
app.command()(dataset_taxa.taxa)


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

    Exit codes: 0 when the list could be read, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        entries = read(installed.settings(), f"{namespace}/{name}", status)
    except (access.AskError, DatasetError) as error:
        raise outputs.failed(error, output, {"dataset": f"{namespace}/{name}"}) from error
    chosen = [entry for entry in entries if reason in {"", entry["reason"]}]
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{namespace}/{name}", "version": status["version"], "excluded": chosen}, output)
        return
    installed.progress_console().print(_summary(f"{namespace}/{name}", status, entries), soft_wrap=True)
    for entry in chosen:
        more = "".join(f"  {name} {entry[name]}" for name in _MORE if name in entry)
        sys.stdout.write(shown(f"{entry['reason']:<{_WIDTH}}{entry['path']}{more}") + "\n")


def read(settings: Settings, name: str, status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The files that are excluded from the newest version of the Dataset ``name``. Raises DatasetError."""
    absent = (
        "was made before versions listed what they leave out; new content, or another value of the annotation "
        "pelagos.dev/retry, makes one that does"
    )
    found = version_files.entries(LIST, settings, name, status, required="path", absent=absent)
    return list(map(_told, found))


def _told(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    measured = entry.get("measured")
    of = {"measured": measured} if isinstance(measured, int | float) and math.isfinite(measured) else {}
    return {key: str(entry[key]) for key in ("path", "reason", "repeats") if key in entry} | of


def _summary(name: str, status: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> Text:
    counts = Counter(entry["reason"] for entry in entries)
    files = (status.get("files") or {}).get("found")
    of = f" of {files}" if files is not None else ""
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
    told = f" ({reasons})" if reasons else ""
    return Text(f"{counts.total()}{of} files are not in version {status.get('version')} of {name}{told}")
