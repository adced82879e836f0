"""``pelagos card``: a model's card, and its entries for catalogues, as written by the training."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pelagos import engine_registry
from pelagos.api.kinds import TRAINING_RUN
from pelagos.cli import access, gate_outcomes, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract import disk, model_card
from pelagos_contract.text import shown


class DocumentError(Exception):
    """There is no document to show; the message says why, in one line."""


class Form(Enum):
    """The format of the card."""

    MARKDOWN = "Markdown"
    AI4_METADATA = "Ai4Metadata"
    MLDCAT_AP = "MldcatAp"


_NAMES = {
    Form.MARKDOWN: model_card.CARD,
    Form.AI4_METADATA: model_card.AI4_METADATA,
    Form.MLDCAT_AP: model_card.MLDCAT_AP,
}
_ABSENT = {
    Form.AI4_METADATA: "its schema requires the address of the code that the model belongs to: set spec.card.sourceCode "
    "for the next training",
}


def card(
    name: Annotated[str, typer.Argument(help="Name of the TrainingRun.")],
    form: Annotated[
        Form,
        typer.Option("--format", help="Markdown, or an entry for a catalogue: Ai4Metadata (YAML), MldcatAp (JSON-LD)."),
    ] = Form.MARKDOWN,
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write, replacing what is there. Default: standard output.")
    ] = None,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show the card of the model of a TrainingRun: its purpose, its data, how good it is, its limits and its cost.

    It is the file that the training wrote, whose digest is in status.documents; the Markdown also has the present outcome of its
    gates. What nobody has stated in spec.card of the model, or in spec.metadata of the Dataset, is listed as missing.

    Exit codes: 0 when there is one, 1 when not; JSON and YAML then give the reason as "error", and else the text as "card".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    told = {"trainingRun": f"{namespace}/{name}", "format": form.value}
    try:
        found = access.find(at, TRAINING_RUN, name, namespace)
        content = read(settings, found.get("status") or {}, _NAMES[form], _ABSENT.get(form, ""))
        if form is Form.MARKDOWN:
            content = gate_outcomes.in_card(content, found, datetime.now(UTC))
        if to is not None:
            disk.write_atomically(to, content)
    except (access.AskError, DocumentError) as error:
        raise outputs.failed(error, output, told) from error
    except OSError as error:
        reason = DocumentError(f"--to {to}: {error.strerror or error}")
        raise outputs.failed(reason, output, told) from error
    if output is not Output.TABLE:
        outputs.write({**told, **({"file": str(to)} if to else {"card": content.decode(errors="replace")})}, output)
    elif to is None:
        sys.stdout.write(shown(content.decode(errors="replace"), lines=True))


def read(settings: Settings, status: Mapping[str, Any], name: str, absent: str = "") -> bytes:
    """Read a document of the model, verified by the digest in its TrainingRun's status; ``absent`` says why it may be missing.

    Raises:
        DocumentError: the document is missing, or its digest is different.
    """
    stated = next((each for each in status.get("documents") or () if each.get("name") == name), None)
    if stated is None:
        if not status.get("model"):
            raise DocumentError(
                "it has made no model yet: its documents come with the model (kubectl get trainingruns)"
            )
        others = ", ".join(each["name"] for each in status.get("documents") or ()) or "none"
        why = absent or "it was made before models had one, or its status.warnings say why"
        raise DocumentError(f"there is no {name} of this model: {why}. There are: {others}")
    folder, _, _ = str(stated["uri"]).rpartition("/")

    async def fetch() -> bytes | None:
        return await engine_registry.objects_at(folder, settings).read_bytes(name, limit=model_card.LARGEST)

    try:
        content = asyncio.run(fetch())
    except (OutageError, RejectedError, ValueError) as error:
        raise DocumentError(f"{stated['uri']} cannot be read: {error}") from error
    if content is None:
        raise DocumentError(
            f"{stated['uri']} is not visible from this machine; run this command where its folder is mounted, or see "
            f"{stated.get('url') or 'the tracked run'}"
        )
    if hashlib.sha256(content).hexdigest() != stated["sha256"]:
        raise DocumentError(f"{stated['uri']} is not what the training wrote: its digest differs from that in status")
    return content
