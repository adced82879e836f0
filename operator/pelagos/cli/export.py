"""``pelagos export``: a version of a Dataset as files for another program, or for an annotation tool."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import access, data_plane, installed, outputs
from pelagos.cli.outputs import Output
from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.formats import FORMATS
from pelagos_contract.metadata import InvalidMetadataError, of_spec
from pelagos_contract.publication import is_trial
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.preparation.exporting"
_NO_VIEW = "-"
_VIEWS = {known.name: known.view for known in FORMATS if known.view}


class ExportError(Exception):
    """Nothing was exported; the message says why, in one line."""


def export(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must be empty or not exist.")],
    format_name: Annotated[str, typer.Option("--format", help=f"{', '.join(_VIEWS)}.")] = "",
    metadata: Annotated[
        list[str] | None,
        typer.Option(help=f"Documents of what spec.metadata says: {', '.join(DOCUMENTS.names)}. May be repeated."),
    ] = None,
    version: Annotated[
        str,
        typer.Option(help="Digest of the version, or its beginning, as in status.versions. Default: the newest."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Write a version of a Dataset as files of another format, with documents of its metadata, or only those documents.

    The files are copies and may be changed. Annotations that the format cannot express are reported. With --metadata, images
    are written only if --format is given, too; the documents then name the files.

    Versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when all was written, 1 when nothing was; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    named = f"{access.namespace_of(at, namespace)}/{name}"
    try:
        view = _view(format_name, metadata or [])
        found = access.find(at, DATASET, name, named.partition("/")[0])
        chosen = data_plane.version_uri(named, found.get("status", {}), version, f"--version {version}")
        wanted = json.dumps(_wanted(named, found, chosen, metadata)) if metadata else None
        asked = (chosen, view, to.absolute(), *(["described"] if wanted else []))
        answer = data_plane.run(installed.settings(), _PROGRAM, *asked, versions=(chosen,), text=wanted)
    except (access.AskError, ExportError, data_plane.DataPlaneError, InvalidMetadataError) as error:
        raise outputs.failed(error, output, {"dataset": named}) from error
    done = {"dataset": named, "version": f"sha256:{chosen.rpartition('/')[2]}", "folder": str(to), **answer}
    if output is not Output.TABLE:
        outputs.write(done, output)
        return
    for line in _told(done, format_name, metadata or []):
        installed.progress_console().print(Text(shown(line)), soft_wrap=True)


def _view(format_name: str, metadata: Sequence[str]) -> str:
    """The view for the format; for metadata alone the one without images."""
    for each in metadata:
        if each not in DOCUMENTS.names:
            raise ExportError(f"--metadata {each}: there is no such document; allowed are {', '.join(DOCUMENTS.names)}")
    if not format_name and metadata:
        return _NO_VIEW
    if not format_name:
        raise ExportError(
            f"name a --format ({', '.join(_VIEWS)}), or --metadata ({', '.join(DOCUMENTS.names)}), or both"
        )
    if format_name not in _VIEWS:
        raise ExportError(f"--format {format_name}: there is no such format; allowed are {', '.join(_VIEWS)}")
    return _VIEWS[format_name]


def _wanted(name: str, dataset: Mapping[str, Any], uri: str, metadata: Sequence[str]) -> dict[str, Any]:
    """The data plane's input for the documents; see its program. Raises InvalidMetadataError."""
    said = of_spec(dataset.get("spec", {}))
    digest, status = f"sha256:{uri.rpartition('/')[2]}", dataset.get("status", {})
    said = said.derived((status.get("source") or {}).get("doi") if status.get("version") == digest else None)
    listed = status.get("versions") or ()
    made = next((str(each.get("createdAt")) for each in listed if each.get("version") == digest), None)
    day = made or datetime.now(UTC).isoformat()
    doi = next((each.get("doi") for each in listed if each.get("version") == digest), None)
    published = {"doi": doi} if doi and not is_trial(doi) else {}
    return {"documents": list(metadata), "metadata": said.written(), "dataset": name, "made": day[:10], **published}


def _told(found: Mapping[str, Any], format_name: str, metadata: Sequence[str]) -> Iterable[str]:
    what = f"version {found['version']} of {found['dataset']}"
    if format_name:
        yield f"{found['images']} images of {what} are in {found['folder']} as {format_name}"
    if metadata:
        files = [file for each in DOCUMENTS if each.name in metadata for file in each.files]
        yield f"what people say about {what} is in {found['folder']}: {', '.join(files)}"
    for each in found["altered"]:
        yield f"{each['annotations']} annotations ({each['kind']}) are not as in the version: {each['reason']}"
