"""``pelagos export``: a version of a Dataset as files of another program, or of an annotation tool."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos_contract.formats import FORMATS
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.preparation.exporting"
_VIEWS = {known.name: known.view for known in FORMATS if known.view}


class ExportError(Exception):
    """There is nothing exported; the message says why, in one line."""


def export(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not exist, or be empty.")],
    format_name: Annotated[str, typer.Option("--format", help=f"{', '.join(_VIEWS)}.")],
    version: Annotated[
        str,
        typer.Option(help="Digest of the version, or its beginning, as status.versions has it; default: the newest."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Write a version of a Dataset as files of another format: images, and annotations beside them.

    The files are copies: they may be changed. What the format cannot hold of the annotations is said.

    Versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when all was written, 1 when nothing was; JSON and YAML have the reason as "error" then.
    """
    at = access.chosen(installed.settings(), context)
    named = f"{access.namespace_of(at, namespace)}/{name}"
    try:
        view = _VIEWS.get(format_name)
        if view is None:
            raise ExportError(f"--format {format_name}: no such format is written; allowed are {', '.join(_VIEWS)}")
        status = access.find(at, DATASET, name, named.partition("/")[0]).get("status", {})
        chosen = version_uri(named, status, version)
        answer = _run(installed.settings().environments / "pipelines" / "bin" / "python", chosen, view, to.absolute())
    except (access.AskError, ExportError) as error:
        if output is not Output.TABLE:
            outputs.write({"dataset": named, "error": str(error)}, output)
        installed.progress_console().print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    found = {"dataset": named, "version": f"sha256:{chosen.rpartition('/')[2]}", "folder": str(to), **answer}
    if output is not Output.TABLE:
        outputs.write(found, output)
        return
    for line in _told(found, format_name):
        installed.progress_console().print(Text(shown(line)), soft_wrap=True)


def version_uri(name: str, status: Mapping[str, Any], version: str) -> str:
    """Where the version is, the newest one without ``version``. Raises ExportError."""
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise ExportError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    if not version:
        return uri
    wanted = version.removeprefix("sha256:")
    known = [str(each.get("version", "")).removeprefix("sha256:") for each in status.get("versions") or ()]
    meant = [digest for digest in dict.fromkeys([*known, uri.rpartition("/")[2]]) if digest.startswith(wanted)]
    if len(meant) != 1:
        there = ", ".join(digest[:12] for digest in known) or "none"
        raise ExportError(f"--version {version}: {len(meant)} versions of {name} begin so; there are {there}")
    return f"{uri.rpartition('/')[0]}/{meant[0]}"


def _run(python: Path, uri: str, view: str, target: Path) -> dict[str, Any]:
    """What the data plane says, which reads the version and writes the files in an environment of its own."""
    if not python.exists():
        raise ExportError(
            f"{python} is not there: install Pelagos' environments (make install), or set PELAGOS_ENVIRONMENTS"
        )
    if "://" not in uri and not Path(uri).is_dir():
        raise ExportError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    done = subprocess.run(
        [python, "-m", _PROGRAM, uri, view, target], stdout=subprocess.PIPE, env=os.environ, text=True, check=False
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        error = answer.get("error")
    except (ValueError, IndexError, AttributeError) as failure:
        raise ExportError(f"{_PROGRAM} ended with {done.returncode} and no answer; see its words above") from failure
    if error is not None:
        raise ExportError(str(error))
    return dict(answer)


def _told(found: Mapping[str, Any], format_name: str) -> Iterable[str]:
    yield (
        f"{found['images']} images of version {found['version']} of {found['dataset']} are in {found['folder']} as {format_name}"
    )
    for each in found["altered"]:
        yield f"{each['annotations']} annotations ({each['kind']}) are not as in the version: {each['reason']}"
