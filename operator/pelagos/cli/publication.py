"""``pelagos publication``: what is or would be published of a Dataset, whether it can be, and what to write for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from pelagos.api import reasons
from pelagos.api.kinds import DATASET
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos_contract.metadata import InvalidMetadataError, Metadata, of_spec
from pelagos_contract.publication import PUBLISHED, Publish, repository_name
from pelagos_contract.text import shown

PERIOD = 2.0
"""Seconds between two reads with --wait."""
_GATES = ("QualityPassed", "FairPassed")
_BEGIN = """spec.publish is not set. For a draft in the sandbox, where everything is a trial, add to the Dataset

  publish:
    zenodo:
      secretRef: {name: zenodo}        # kubectl create secret generic zenodo --from-literal=token=...

and for Zenodo itself url: https://zenodo.org there."""
_GO_ON = "it is a draft. To publish it, which cannot be undone: spec.publish.zenodo.state: Published"


class PublicationError(Exception):
    """There is no publication to show; the message says why, in one line."""


def publication(
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    wait: Annotated[
        float,
        typer.Option(
            help="Seconds to wait until the publication that spec.publish asks for exists, or somebody must act."
        ),
    ] = 0,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show what is published of a Dataset, or would be: the repository, the version, its files, and what must be true first.

    The operator publishes what spec.publish asks for; this command changes nothing, and says what to write there.

    Exit codes: 0 when what spec.publish asks for exists, 1 when not, or when it is not set; JSON and YAML say why.
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        found = _waited(lambda: access.find(at, DATASET, name, namespace), wait)
        told = described(f"{namespace}/{name}", found)
    except (access.AskError, InvalidMetadataError, PublicationError) as error:
        raise outputs.failed(error, output, {"dataset": f"{namespace}/{name}"}) from error
    if output is not Output.TABLE:
        outputs.write(told, output)
    else:
        _print(told)
    if not told["done"]:
        raise typer.Exit(1)


def described(name: str, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The document that the command shows. Raises InvalidMetadataError and PublicationError."""
    spec, status = dataset.get("spec", {}), dataset.get("status", {})
    said, conditions = of_spec(spec), _conditions(status)
    asked = _asked(spec)
    known = conditions.get("Published", {})
    there = status.get("publication") or {}
    is_done = known.get("reason") in {reasons.PUBLISHED, reasons.DRAFT_MADE}
    return {
        "dataset": name,
        "asked": _wanted(name, asked, said, spec, status) if asked is not None else None,
        "gates": {gate: {key: conditions.get(gate, {}).get(key) for key in ("status", "message")} for gate in _GATES},
        "published": {key: each for key, each in there.items() if key not in {"run", "stuckSince"}} or None,
        "reason": known.get("reason"),
        "message": known.get("message"),
        "done": is_done,
    }


def _asked(spec: Mapping[str, Any]) -> Publish | None:
    try:
        return Publish.model_validate(spec["publish"]) if spec.get("publish") else None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, ("spec.publish", *problem["loc"])))
        raise PublicationError(f"{field}: {problem['msg']}; correct it in the Dataset") from error


def _wanted(
    name: str, asked: Publish, said: Metadata, spec: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "repository": asked.url,
        "state": asked.state,
        "community": asked.zenodo.community,
        "secret": asked.zenodo.secret_ref.name,
        "version": asked.version or status.get("version"),
        "format": asked.format or ("ImageFolder" if spec.get("task") == "Classification" else "Coco"),
        "documents": asked.chosen(said),
        "title": said.title,
        "dataset": name,
    }


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(each.get("type")): each for each in status.get("conditions") or ()}


def _waited(find: Callable[[], Mapping[str, Any]], seconds: float) -> Mapping[str, Any]:
    """The Dataset, as soon as its publication exists or somebody must act, or after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        found = find()
        status = found.get("status", {})
        is_seen = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
        reason = reasons.named(str(_conditions(status).get("Published", {}).get("reason")))
        is_over = reason.state not in {"in progress", "waiting", "recovering", "unknown"} and is_seen
        if is_over or time.monotonic() >= end:
            return found
        time.sleep(min(PERIOD, max(end - time.monotonic(), 0)))


def _print(told: Mapping[str, Any]) -> None:
    rows = Table(box=None, show_header=False)
    for title, words in _rows(told):
        rows.add_row(title, Text(shown(words)))
    installed.result_console().print(rows)
    hint = _BEGIN if told["asked"] is None else _GO_ON if told["reason"] == reasons.DRAFT_MADE else ""
    if hint:
        installed.progress_console().print(Text(hint), soft_wrap=True)


def _rows(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    asked, there = told["asked"], told["published"]
    if asked is not None:
        in_community = f", proposed to the community {asked['community']}" if asked["community"] else ""
        where = repository_name(asked["repository"])
        yield (
            "repository",
            f"{where} ({asked['repository']}), as {asked['state']}{in_community}, by the Secret {asked['secret']}",
        )
        yield "version", str(asked["version"] or "none yet")
        yield (
            "files",
            f"images and annotations as {asked['format']}; {', '.join(asked['documents']) or 'no documents'}; manifest.json",
        )
    for gate, condition in told["gates"].items():
        yield gate, f"{condition['status'] or 'Unknown'}: {condition['message'] or 'not judged yet'}"
    if there is not None:
        doi = f"doi:{there['doi']} " if there.get("doi") else ""
        of_all = f", of all versions doi:{there['conceptDoi']}" if there.get("conceptDoi") else ""
        out = "published" if there.get("state") == PUBLISHED else "draft"
        yield out, f"{doi}{there.get('url')}{of_all} ({there.get('version')}, {there.get('at')})"
    yield str(told["reason"] or "Pending"), str(told["message"] or "not judged yet")
