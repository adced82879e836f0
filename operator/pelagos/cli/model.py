"""``pelagos model``: models that were trained elsewhere, as packages that ModelServices serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from pelagos.cli import access, data_plane, installed, outputs, tracking_server
from pelagos.cli.outputs import Output
from pelagos.settings import Settings
from pelagos_contract.imports import ImportRequest, Tracked, Values
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.steps.importing"
_FOLDER = "imported"
_LARGEST_LIST = 1 << 20
TASKS = (Task.DETECTION, Task.CLASSIFICATION)
"""Tasks whose models can be imported."""

app = typer.Typer(no_args_is_help=True, help="Models that were trained elsewhere.")


class NotImportedError(Exception):
    """Nothing was imported; the message says why, in one line."""


@app.callback()
def model() -> None:
    """Models that were trained elsewhere."""


@app.command("import")
def import_(  # noqa: PLR0913, PLR0917 - options of a command
    file: Annotated[Path, typer.Argument(help="ONNX file.")],
    name: Annotated[str, typer.Option(help="Name of the registered model in MLflow.")],
    task: Annotated[str, typer.Option(help=f"What it does: {', '.join(TASKS)}.")],
    classes: Annotated[
        str,
        typer.Option(help="Names of its classes in the order of its outputs: a,b,c, or @FILE with one per line."),
    ],
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of images like those it will be asked about; up to 16 of them are used to try the "
            "model and to make its probe."
        ),
    ],
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Longest side of its input in pixels, where the graph accepts any. Default: that of the task."
        ),
    ] = None,
    values: Annotated[
        Values | None,
        typer.Option(
            help="Pixel values that it expects, red first: Bytes (0 to 255), Unit (0 to 1), or ImageNet (normalised by its "
            "mean and deviation). Default: Unit for Detection, ImageNet for Classification."
        ),
    ] = None,
    store: Annotated[
        str,
        typer.Option(help="Folder for packages of the namespace in the object store. Default: models/NAMESPACE there."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Package an ONNX model that was trained elsewhere, and register it in MLflow as imported, not evaluated here.

    The graph is checked and run in processes with limits: only standard operators, all weights in the one file, one input of
    images, one output that fits the task. Its answers to the images become the probe by which services recognise it. A
    ModelService serves the package by spec.model.uri and manifestSha256, which are printed.

    The object store and MLflow are those of the embedded installation, else those of PELAGOS_OBJECTS_URI (with AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION) or PELAGOS_OBJECTS_ROOT, and PELAGOS_TRACKING_URI.

    Exit codes: 0 when it is imported, 1 when not; JSON and YAML then give the reason as "error".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    inside = access.namespace_of(at, namespace)
    try:
        tracked = tracking_server.reached(settings, at)
        request = ImportRequest(
            onnx=str(file.absolute()),
            name=name,
            task=_task(task),
            labels=_labels(classes),
            images=str(images.absolute()),
            store=f"{store.rstrip('/') or packages_of(settings, inside)}/{_FOLDER}",
            image_size=image_size,
            values=values,
            tracked=Tracked(uri=tracked.tracking_uri, namespace=inside),
        )
        login = tracking_server.login(tracked)
        done = data_plane.run(settings, _PROGRAM, text=request.model_dump_json(by_alias=True), environment=login)
    except (NotImportedError, ValidationError, tracking_server.NotReachedError, data_plane.DataPlaneError) as error:
        raise outputs.failed(_worded(error), output, {"model": name, "file": str(file)}) from error
    if output is not Output.TABLE:
        outputs.write(done, output)
        return
    for note in done.get("notes", ()):
        installed.progress_console().print(Text.assemble(("Note: ", "bold yellow"), shown(note)), soft_wrap=True)
    told = (
        f"{file} is version {done['version']} of {name}: imported, and not evaluated here; tried on {done['images']} "
        f"images. Next: pelagos evaluate {name}/{done['version']} --dataset NAME, and a ModelService with"
    )
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)
    served = {"spec": {"model": {"uri": done["uri"], "manifestSha256": done["manifestSha256"]}}}
    outputs.write(served, Output.YAML)


def packages_of(settings: Settings, namespace: str) -> str:
    """The uri of a namespace's packages, in an object store without tenant prefixes."""
    root = settings.objects_uri.rstrip("/") or str((settings.objects_root or settings.home / "objects").absolute())
    return f"{root}/models/{namespace}"


def _task(given: str) -> Task:
    found = next((task for task in TASKS if task.value.lower() == given.lower()), None)
    if found is None:
        raise NotImportedError(f"--task {given}: only models for {' and '.join(TASKS)} can be imported")
    return found


def _labels(given: str) -> list[str]:
    if not given.startswith("@"):
        return [name.strip() for name in given.split(",")]
    path = Path(given[1:])
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_LIST + 1)
        if len(content) > _LARGEST_LIST:
            raise NotImportedError(f"--classes {given}: the file has more than {_LARGEST_LIST} bytes")
        # Split at line feeds only: any other line separator counts as part of a name, which is then refused.
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise NotImportedError(f"--classes {given}: {path} cannot be read as text: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def _worded(error: Exception) -> Exception:
    """The error with a message about the wrong option, in one line."""
    if not isinstance(error, ValidationError):
        return error
    first: Any = error.errors(include_url=False)[0]
    options = {"labels": "--classes", "name": "--name", "image_size": "--image-size"}
    option = options.get(str(first["loc"][0]), str(first["loc"][0]))
    return NotImportedError(f"{option} {shown(str(first['input']))[:200]!r}: {first['msg']}")
