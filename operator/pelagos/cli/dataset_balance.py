"""``pelagos dataset balance``: the effect of spec.balance on the newest version's training split, by class or by image."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos import engine_registry
from pelagos.api.kinds import DATASET
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract.balancing import ABOVE_TARGET, MOST_REPEATS
from pelagos_contract.text import shown

MANIFEST = "manifest.json"
LARGEST = 512 * 1024**2
"""Largest file in bytes: as much as a version may have."""
_WIDTH = 24


class BalanceError(Exception):
    """There is no balance to show; the message says why, in one line."""


def balance(
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    images: Annotated[
        bool, typer.Option("--images", help="List the images that an epoch leaves out or shows several times.")
    ] = False,
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show how trainings on the newest version compensate for uneven classes in its training split.

    With --images, versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when there is a balance to show, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    named = f"{namespace}/{name}"
    try:
        status = access.find(at, DATASET, name, namespace).get("status", {})
        found = _balance_of(named, status)
        listed = [*_images(installed.settings(), status)] if images else None
    except (access.AskError, BalanceError) as error:
        raise outputs.failed(error, output, {"dataset": named}) from error
    if output is not Output.TABLE:
        more = {} if listed is None else {"images": listed}
        outputs.write({"dataset": named, "version": status.get("version"), "balance": found, **more}, output)
        return
    installed.progress_console().print(_summary(found), soft_wrap=True)
    if listed is None:
        installed.result_console().print(_table(found))
        return
    for one in listed:
        told = f"left out, {one['reason']}" if "reason" in one else f"shown {one['repeats']} times"
        sys.stdout.write(shown(f"{told:<{_WIDTH}}{one['path']}") + "\n")


def _balance_of(named: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = status.get("balance")
    if found is None and "version" not in status:
        raise BalanceError(f"Dataset {named} has no version yet; see kubectl describe dataset")
    if found is None:
        raise BalanceError(
            f"trainings show each training image of Dataset {named} once per epoch: spec.balance is not set, or the "
            "version was made before it was set"
        )
    return found


def _images(settings: Settings, status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the images of the manifest. It is checked, because anyone who can write to the store may have replaced it."""
    uri = str(status.get("uri"))
    try:
        content = asyncio.run(engine_registry.objects_at(uri, settings).read_bytes(MANIFEST, limit=LARGEST))
    except (OutageError, RejectedError, ValueError) as error:
        raise BalanceError(f"{uri}/{MANIFEST} cannot be read: {error}") from error
    if content is None:
        raise BalanceError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    try:
        repeats = json.loads(content)["balance"]["repeats"]
        known = {path: times for path, times in repeats.items() if type(times) is int and 0 <= times <= MOST_REPEATS}
        if known != repeats:
            raise ValueError("repeats")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BalanceError(f"{uri}/{MANIFEST} is not what a preparation wrote; prepare the Dataset again") from error
    for path in sorted(known):
        yield {"path": path, "repeats": known[path]} | ({} if known[path] else {"reason": ABOVE_TARGET})


def _summary(found: Mapping[str, Any]) -> Text:
    unit, (before, after) = str(found["counted"]).lower(), found["effectiveClasses"]
    left = found.get("leftOut")
    aim = f"{found['strategy']} to {found['target']} {unit} of a class"
    shows = f"an epoch shows {found['shown']} images, of {found['images']} in the training split"
    more = f", and leaves out {left['images']}" if left else ""
    even = f"as even as {before} equally frequent classes before, {after} after"
    worth = f"it says as much as {found['effective']} different {unit}"
    lines = (f"{aim}: {shows}, none more than {found['mostRepeats']} times{more}", f"{even}; {worth}")
    return Text("\n".join(map(shown, lines)))


def _table(found: Mapping[str, Any]) -> Table:
    weighs = any("weight" in one for one in found["classes"])
    table = Table("Class", box=None, pad_edge=False)
    for name in ("Before", "After", "Weight" if weighs else "Left out"):
        table.add_column(name, justify="right")
    for one in found["classes"]:
        more = one.get("weight", "") if weighs else one["leftOut"]
        table.add_row(*(Text(shown(str(value))) for value in (one["name"], one["before"], one["after"], more)))
    return table
