"""The command `pelagos`. Progress and problems go to standard error, results to standard output; NO_COLOR is honoured."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.cli import (
    annotate,
    card,
    control_plane,
    cost,
    dataset,
    demo,
    doctor,
    down,
    evaluate,
    export,
    fair,
    hub,
    installed,
    invocation,
    model,
    operate,
    orphans,
    predict,
    publication,
    report,
    runs,
    search,
    status,
    tensorboard,
    trial,
    ui,
    up,
)
from pelagos.cli.image import command as image
from pelagos.cli.lineage import command as lineage
from pelagos.cli.logs import command as logs
from pelagos.embedded.failures import StartError
from pelagos_contract import extensions
from pelagos_contract.extensions import ExtensionError, Plane


class _App(typer.Typer):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Failures that we can explain need no stack trace; those that we cannot print one, fit to be shown."""
        os.umask(0o077)  # whatever we and what we start write is for its owner alone
        try:
            return super().__call__(*arguments, **options)
        except (StartError, ExtensionError) as error:
            words = Text.assemble(("Error: ", "bold red"), str(error))
            installed.progress_console().print(words, soft_wrap=True)
            sys.exit(1)
        except Exception:
            installed.progress_console().print(traceback.format_exc(), soft_wrap=True)
            sys.exit(1)


app = _App(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Image collections and image-analysis models of the aquatic sciences, as Kubernetes resources.",
    epilog="State lies in the folder PELAGOS_HOME. The first steps: pelagos up, then kubectl apply -f your resources.",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"pelagos {metadata.version('pelagos')}\n")
        raise typer.Exit


@app.callback()
def pelagos(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Image collections and image-analysis models of the aquatic sciences, as Kubernetes resources."""
    extensions.load(os.environ.get(extensions.VARIABLE, ""), Plane.CONTROL)


app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.command()(ui.ui)
app.command()(hub.hub)
app.command()(demo.demo)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(publication.publication)
app.command()(report.report)
app.command()(card.card)
app.command()(search.search)
app.command()(tensorboard.tensorboard)
app.command()(cost.cost)
app.command()(fair.fair)
app.command()(logs.logs)
app.command()(doctor.doctor)
app.command()(orphans.orphans)
app.command()(operate.operator)
app.add_typer(dataset.app, name="dataset")
app.add_typer(runs.app, name="runs")
app.add_typer(lineage.app, name="lineage")
app.add_typer(model.app, name="model")
app.add_typer(image.app, name="image")
app.add_typer(invocation.app, name="invocation")
app.add_typer(trial.app, name="trial")
app.add_typer(annotate.app, name="annotate")
app.add_typer(control_plane.app, name="control-plane")


if __name__ == "__main__":
    app()
