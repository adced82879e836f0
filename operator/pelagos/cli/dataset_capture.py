"""``pelagos dataset capture``: which images have no known time or place, and why."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import access, installed, outputs, version_files
from pelagos.cli.outputs import Output
from pelagos.cli.version_files import DatasetError
from pelagos_contract.text import shown

LIST = "report/capture.jsonl"
"""The file's path in a version whose Dataset has spec.capture."""
_TOLD = ("name", "reason", "field", "place")


def capture(
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    reason: Annotated[str, typer.Option(help="Only findings with this reason, for example NotReadable.")] = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """List what is not known about when and where images of the newest version's source were taken, with the reasons.

    Versions on S3-compatible storage are read as `pelagos dataset excluded` reads them.

    Exit codes: 0 when the list could be read, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        found = _read(f"{namespace}/{name}", status)
    except (access.AskError, DatasetError) as error:
        raise outputs.failed(error, output, {"dataset": f"{namespace}/{name}"}) from error
    chosen = [entry for entry in found if reason in {"", entry["reason"]}]
    if output is not Output.TABLE:
        told = {"fields": (status.get("capture") or {}).get("fields", []), "findings": chosen}
        outputs.write({"dataset": f"{namespace}/{name}", "version": status["version"], **told}, output)
        return
    installed.progress_console().print(_summary(f"{namespace}/{name}", status, found), soft_wrap=True)
    for entry in chosen:
        more = f"  {entry['place']}" if "place" in entry else ""
        line = f"{entry['reason']:<15} {entry.get('field', '-'):<10} {entry['name']}{more}"
        sys.stdout.write(shown(line) + "\n")


def _read(name: str, status: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    absent = "has no such list: it was made without spec.capture"
    found = version_files.entries(LIST, installed.settings(), name, status, required="name", absent=absent)
    return [{key: str(entry[key]) for key in _TOLD if key in entry} for entry in found]


def _summary(name: str, status: Mapping[str, Any], found: Sequence[Mapping[str, str]]) -> Text:
    known = [
        f"{each.get('field')} of {each.get('known')}" for each in (status.get("capture") or {}).get("fields") or []
    ]
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(each["reason"] for each in found).most_common())
    of = f" of {status['images']}" if "images" in status else ""
    told = f"known are {', '.join(known)}{of} images" if known else "nothing is known"
    return Text(
        shown(
            f"version {status.get('version')} of {name}: {told}; {len(found)} findings{f' ({counts})' if counts else ''}"
        )
    )
