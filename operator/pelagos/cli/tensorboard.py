"""``pelagos tensorboard``: writes the event files of trainings to a folder, and starts TensorBoard if it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api.kinds import TRAINING_RUN
from pelagos.cli import access, installed, outputs, tracking_server
from pelagos.cli.outputs import Output
from pelagos.engines.mlflow.rest import AbsentError, MlflowRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract import disk, event_files
from pelagos_contract.text import shown


class TensorboardError(Exception):
    """There are no event files to show; the message says why, in one line."""


def tensorboard(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of TrainingRuns, side by side.")],
    to: Annotated[
        Path, typer.Option(help="Folder to write, with a folder for each TrainingRun; event files there are replaced.")
    ] = Path("tensorboard"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of TensorBoard. Default: the first free one from 6006.")
    ] = None,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Fetch the event files of TrainingRuns from MLflow, and show them in TensorBoard, on this machine only, until Ctrl+C.

    TensorBoard is that of the environment `tensorboard` (make tensorboard). If it is not installed, or with JSON and YAML,
    the command says where the files are and ends. Without an embedded installation, MLflow is the server of
    PELAGOS_TRACKING_URI, with PELAGOS_TRACKING_USERNAME_FILE and PELAGOS_TRACKING_PASSWORD_FILE, or PELAGOS_TRACKING_TOKEN_FILE.

    Exit codes: 0 when the files are written (and TensorBoard has ended as it was asked to), 1 when not; JSON and YAML have the
    reason as "error" then.
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    try:
        found = {name: access.find(at, TRAINING_RUN, name, namespace) for name in names}
        written = asyncio.run(_fetch(tracking_server.reached(settings, at), namespace, found, to))
    except (
        access.AskError,
        tracking_server.NotReachedError,
        TensorboardError,
        OutageError,
        RejectedError,
        OSError,
    ) as error:
        raise outputs.failed(error, output, {"trainingRuns": [f"{namespace}/{name}" for name in names]}) from error
    program = settings.environments / "tensorboard" / "bin" / "tensorboard"
    if output is not Output.TABLE:
        outputs.write({"folder": str(to), "files": written}, output)
        return
    said = f"{len(written)} event files of {len(found)} TrainingRuns are in {to}"
    if not program.exists():
        said += f". TensorBoard is not installed: make tensorboard, or, with one of your own, tensorboard --logdir {to}"
    installed.progress_console().print(Text(shown(said)), soft_wrap=True)
    if program.exists() and (code := _show(program, to, port)):
        raise typer.Exit(code)


async def _fetch(settings: Settings, namespace: str, found: Mapping[str, Mapping[str, Any]], to: Path) -> list[str]:
    """Write the existing event files, and return their paths. Raises TensorboardError, OutageError, RejectedError, OSError."""
    rest, written = MlflowRest.from_settings(settings), []
    try:
        for name, body in found.items():
            status = body.get("status") or {}
            run = str((status.get("tracking") or {}).get("run") or "")
            files = await _of_run(rest, run) if run else {}
            if not files:
                progress = status.get("progress") or {}
                reached = f"; it is in epoch {progress['epoch']}" if progress.get("epoch") else ""
                raise TensorboardError(
                    f"TrainingRun {namespace}/{name} has no event files in MLflow yet{reached}: they appear a minute after "
                    "the first epoch, and when it is trained; trainings of a release without them have none"
                )
            for file, content in files.items():
                target = to / name / file
                disk.write_atomically(target, content, parents=True)
                written.append(str(target))
    finally:
        await rest.close()
    return written


async def _of_run(rest: MlflowRest, run: str) -> Mapping[str, bytes]:
    """The event files of an MLflow run, by name. Raises OutageError, RejectedError."""
    files = {}
    try:
        listed = await rest.get("artifacts/list", run_id=run, path=event_files.FOLDER)
    except AbsentError:
        return {}
    there = {str(each.get("path")) for each in listed.get("files", ())}
    # Only by our own file names, because others may have put files there.
    for name in event_files.NAMES:
        path = f"{event_files.FOLDER}/{name}"
        if path in there:
            files[name] = await rest.artifact(run, path, event_files.LARGEST)
    return files


def _show(program: Path, folder: Path, port: int | None) -> int:
    """Run TensorBoard until it ends or is interrupted; returns its exit code."""
    wanted: Sequence[str] = () if port is None else ("--port", str(port))
    command = [str(program), "--logdir", str(folder), "--host", "127.0.0.1", *wanted]
    with subprocess.Popen(command) as process:
        # Ctrl+C also reaches TensorBoard, which then ends by itself.
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
        process.wait()
        return 0
