"""The table of commands: the help text of each in `pelagos --help`, and the module to import when it is called.

Importing all of them takes a second of processor time, a single one only a fraction of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override


@dataclass(frozen=True)
class Entry:
    """A command. ``attribute`` is its function, or a Typer with subcommands; ``help`` is the first line of its help text."""

    name: str
    module: str
    attribute: str
    help: str


def _command(name: str, words: str, module: str = "") -> Entry:
    return Entry(name, f"pelagos.cli.{module or name}", name, words)


def _group(name: str, words: str, module: str = "") -> Entry:
    return Entry(name, f"pelagos.cli.{module or name}", "app", words)


ENTRIES = (
    _command(
        "up", "Start Pelagos on this machine: API server, MLflow and the operator. Continues where it was stopped."
    ),
    _command("down", "Stop Pelagos with its pipelines and model servers. State stays; `pelagos up` continues from it."),
    _command("status", "Show the parts of the installation, their restarts and how they last ended."),
    _command(
        "ui",
        "Show the address and user of MLflow, and the file with the password. The browser asks for both; the address has "
        "neither.",
    ),
    _command(
        "hub",
        "Show the address of the hub, and a link that signs in its first user only: run this again for another link.",
    ),
    _command(
        "demo",
        "Start everything, train and serve a detector of phytoplankton, and try it on an image it has never seen.",
    ),
    _command("predict", "Send an image to a ModelService and show what it finds in it."),
    _command(
        "evaluate",
        "Evaluate a model on the test split of a Dataset's version, in the same way as models trained here, and record the "
        "result.",
    ),
    _command(
        "export",
        "Write a version of a Dataset as files of another format, with documents of its metadata, or only those documents.",
    ),
    _command(
        "publication",
        "Show what is published of a Dataset, or would be: the repository, the version, its files, and what must be true "
        "first.",
    ),
    _command("report", "Write the report of a version of a Dataset, or of the model of a TrainingRun, into a file."),
    _command(
        "card",
        "Show the card of the model of a TrainingRun: its purpose, its data, how good it is, its limits and its cost.",
    ),
    _command(
        "search",
        "Show the trials of a search for hyperparameters: what each tried, and how it ended, the best one first.",
    ),
    _command(
        "tensorboard",
        "Fetch the event files of TrainingRuns from MLflow, and show them in TensorBoard, on this machine only, until "
        "Ctrl+C.",
    ),
    _command("cost", "Show what trainings took: processor and GPU time, energy, and its CO2 equivalent."),
    _command(
        "fair",
        "Evaluate a Dataset by the 41 indicators of the RDA FAIR Data Maturity Model, and say what would raise its score.",
    ),
    _command(
        "logs",
        "Print the log of a resource: of its pipeline run, step by step, or of its model servers.",
        "logs.command",
    ),
    _command(
        "doctor",
        "Check the installation: the one of KUBECONFIG or --context, as for kubectl, of the pod this runs in, or the "
        "embedded one.",
    ),
    _command(
        "orphans",
        "List pipeline runs, model servers, folders, tracked runs and registered versions that belong to no resource.",
    ),
    _command(
        "operator",
        "Run the operator in the foreground, with settings from the environment (PELAGOS_...). SIGTERM stops it "
        "gracefully.",
        "operate",
    ),
    _group("dataset", "Image collections: what is in a version, and what is not."),
    _group("runs", "Comparison of trainings."),
    _group(
        "lineage",
        "Where a model comes from: source, dataset version, inputs, run, package, service, each link by its digest.",
        "lineage.command",
    ),
    _group("model", "Models that were trained elsewhere."),
    _group("image", "Served models as container images with the DEEPaaS API.", "image.command"),
    _group("invocation", "Images that are processed later, by jobs of OSCAR."),
    _group("trial", "Trials of models, for some minutes."),
    _group("annotate", "Annotation tools, to which images are sent with a model's suggestions."),
    _group("control-plane", "The programs of the embedded Kubernetes API server.", "control_plane"),
)


class Deferred(TyperCommand):
    """A command that is represented by its entry until it is called; only then is its module imported."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.help)
        self._entry = entry

    @cached_property
    def command(self) -> TyperCommand | TyperGroup:
        """The command itself, or the group of commands."""
        found: Any = getattr(import_module(self._entry.module), self._entry.attribute)
        if isinstance(found, typer.Typer):
            made: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(self._entry.name)(found)
            made = typer.main.get_command(alone)
        made.name = self._entry.name
        assert isinstance(made, TyperCommand | TyperGroup)
        return made

    @override
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself, with which calls and shell completion continue."""
        return self.command.make_context(info_name, args, parent, **extra)


class Commands(TyperGroup):
    """The group of all commands in the table."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": {entry.name: Deferred(entry) for entry in ENTRIES}})
