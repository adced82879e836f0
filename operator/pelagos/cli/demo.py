"""``pelagos demo``: the whole workflow on one machine, from nothing to a prediction on a real image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import DATASET, KINDS, MODEL_SERVICE, TRAINING_RUN
from pelagos.cli import access, browsing, down, following, installed, predict, up
from pelagos.cli.following import Followed
from pelagos.embedded import daemon, tracking_credentials
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings
from pelagos_contract import metrics
from pelagos_contract.answers.drawing import PictureError

SAMPLES = Path(__file__).with_name("samples")
"""The resources of the demo; the same as in manifests/samples."""
TIMEOUT = 900.0


class DemoError(Exception):
    """A step failed; the message says which and why."""


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    samples: Annotated[Path, typer.Option(help="Folder of the resources to apply.")] = SAMPLES,
) -> None:
    """Start everything, train and serve a detector of phytoplankton, and try it on an image it has never seen."""
    settings = installed.settings()
    console = installed.result_console(piped_width=140)
    started = time.monotonic()
    # The demo uses the embedded API server, even if the user otherwise works with another cluster.
    os.environ.pop("KUBECONFIG", None)
    code = 0
    try:
        run(settings, samples, console)
        console.print(
            Text.assemble(("\nThe main job works.", "bold green"), f" {time.monotonic() - started:.0f} s in all.")
        )
    except (DemoError, StartError, predict.PredictError, PictureError) as error:
        console.print(Text.assemble(("\nThe demo failed:", "bold red"), f" {error}"))
        console.print(f"Logs are in {settings.home / 'logs'} and {settings.home / 'runs'}.", highlight=False)
        code = 1
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        code = 130
    if keep and code == 0:
        console.print("Everything is left running; stop it with: pelagos down")
    else:
        console.print("Stopping everything ...")
        down.take_down(settings, console)
    raise typer.Exit(code)


def run(settings: Settings, samples: Path, console: Console) -> None:
    """Run all steps; raises DemoError at the first that fails."""
    _heading(console, 1, "Start etcd, kube-apiserver, MLflow and the operator")
    up.bring_up(settings, console)
    here = Path.cwd()
    shown = samples.relative_to(here) if samples.is_relative_to(here) else samples
    _heading(console, 2, f"kubectl apply -f {shown}")
    resources = apply(settings, samples, console)
    _heading(console, 3, "Follow the resources until all are Ready")
    ending = following.follow(resources, access.fetcher(settings), console, timeout=TIMEOUT)
    if ending.problem:
        raise DemoError(ending.problem)
    bodies = {resource.kind.kind: body for resource, body in ending.bodies.items()}
    _heading(console, 4, "Send an image of the test split to the served model")
    _try_model(settings, bodies, console)
    _look(settings, console)
    _heading(console, 5, "Show what was measured on the test split, and where everything is")
    console.print(_figures(bodies[TRAINING_RUN.kind]))
    console.print(_places(settings, bodies))


def apply(settings: Settings, samples: Path, console: Console) -> list[Followed]:
    """Apply the sample files as a user would; returns the resources in them."""
    files = sorted(samples.glob("*.yaml"))
    if not files:
        raise DemoError(f"there is no *.yaml in {samples}")
    kubectl(settings, console, "apply", "-f", str(samples))
    kinds = {kind.kind: kind for kind in KINDS}
    bodies = [body for file in files for body in yaml.safe_load_all(file.read_text(encoding="utf-8")) if body]
    followed = [
        Followed(kinds[body["kind"]], body["metadata"].get("namespace", "default"), body["metadata"]["name"])
        for body in bodies
    ]
    return sorted(followed, key=lambda resource: KINDS.index(resource.kind))


def kubectl(settings: Settings, console: Console, command: str, *arguments: str) -> None:
    """Run kubectl against the embedded API server and print its output. Raises DemoError."""
    program = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if program is None:
        raise DemoError("kubectl is not installed; run `make install`, which installs it")
    whole = [program, f"--kubeconfig={access.kubeconfig(settings)}", command, *arguments]
    outcome = subprocess.run(whole, capture_output=True, text=True, check=False)
    console.print(outcome.stdout.strip(), highlight=False)
    if outcome.returncode != 0:
        raise DemoError(f"kubectl {command}: {outcome.stderr.strip()}")


def _try_model(settings: Settings, bodies: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    service = bodies[MODEL_SERVICE.kind]["metadata"]
    image = unseen_image(bodies[DATASET.kind]["status"]["uri"], settings.home / "demo")
    picture = settings.home / "demo" / "prediction.png"
    at, namespace = access.embedded(settings), service.get("namespace", "default")
    prediction = predict.predict_file(at, service["name"], image, namespace=namespace)
    console.print(predict.table(prediction))
    predict.draw(image, prediction, picture)
    console.print(f"image      {image}\nannotated  {picture}", highlight=False)


def _hub(settings: Settings) -> str:
    """The address of the hub; "" when it was left out."""
    found = daemon.look(Layout.of(settings.home))
    part = found.state.parts.get("hub") if found.state is not None else None
    return part.url if part is not None else ""


def _look(settings: Settings, console: Console) -> None:
    """Save a picture of the catalogue; if that does not work, the demo does not fail."""
    address, picture = _hub(settings), settings.home / "demo" / "hub.png"
    if not address:
        return
    try:
        browsing.take(address, picture, settings.environments)
    except browsing.NoPictureError as error:
        console.print(f"catalogue  {address} (no picture of it: {error})", highlight=False)
    else:
        console.print(f"catalogue  {picture}, a picture of {address}", highlight=False)


def unseen_image(version_uri: str, folder: Path) -> Path:
    """Copy the test split's image with the most annotations to ``folder``, under its own name; returns the copy."""
    version = Path(version_uri.removeprefix("file://"))
    manifest = json.loads((version / "manifest.json").read_text(encoding="utf-8"))
    unseen = [image for image in manifest["images"] if image["split"] == "test"]
    if not unseen:
        raise DemoError("the dataset has no test split")
    chosen = min(unseen, key=lambda image: str(image["sha256"]))
    blob = version.parent.parent / "blobs" / chosen["sha256"][:2] / chosen["sha256"][2:]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(chosen["path"]).name
    shutil.copyfile(blob, target)
    return target


def _figures(training: Mapping[str, Any]) -> Table:
    status = training["status"]
    table = Table(title="Metrics on the test split", title_justify="left", box=None, padding=(0, 3, 0, 0))
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("gate")
    gates = {gate["metric"]: gate for gate in status.get("gates", ())}
    measured = {name: value for name, value in status["metrics"].items() if name.startswith(metrics.TEST)}
    for name, value in sorted(measured.items()):
        table.add_row(name, value, _passed(gates[name]) if name in gates else "")
    return table


def _passed(gate: Mapping[str, Any]) -> Text:
    if "champion" in gate:
        bound = "beside the champion"
    else:
        bound = f"at least {gate['minimum']}" if "minimum" in gate else f"at most {gate['maximum']}"
    return Text(f"{bound}: passed", "green")


def _places(settings: Settings, bodies: Mapping[str, Mapping[str, Any]]) -> Panel:
    training, service = bodies[TRAINING_RUN.kind]["status"], bodies[MODEL_SERVICE.kind]["status"]
    operator = json.loads((settings.home / "operator.json").read_text(encoding="utf-8"))
    registered = training["model"]
    password = Layout.of(settings.home).tracking_credentials / "password"
    hub = _hub(settings)
    rows = {
        **({"hub": f"{hub}, and `pelagos hub` prints a link that signs in"} if hub else {}),
        "kubectl": f"export KUBECONFIG={access.kubeconfig(settings)}",
        "MLflow run": training["tracking"]["url"],
        "MLflow login": f"user {tracking_credentials.USER}, password in {password}",
        "registered model": f"{registered.get('name', 'none')} version {registered.get('version', '')}",
        "Triton, gRPC": service["url"],
        "Triton, metrics": service["endpoints"]["metrics"],
        "operator, metrics": f"http://127.0.0.1:{operator['metrics_port']}/metrics",
        "model package": registered["uri"],
        "state and logs": str(settings.home),
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return Panel(table, title="Where everything is", title_align="left", expand=False)


def _heading(console: Console, number: int, text: str) -> None:
    console.print(Text.assemble((f"\n{number}", "bold blue"), " ", (text, "bold")))
