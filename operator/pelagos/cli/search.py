"""``pelagos search``: the trials of a TrainingRun's search for hyperparameters, the best one first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import TRAINING_RUN
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos_contract.search import TrialState, better
from pelagos_contract.text import shown


class SearchError(Exception):
    """There is no search to show; the message says why, in one line."""


def search(
    name: Annotated[str, typer.Argument(help="Name of the TrainingRun.")],
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show the trials of a search for hyperparameters: what each tried, and how it ended, the best one first.

    The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when there is a search to show, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    named = f"{namespace}/{name}"
    try:
        found = _search_of(named, access.find(at, TRAINING_RUN, name, namespace))
    except (access.AskError, SearchError) as error:
        raise outputs.failed(error, output, {"trainingRun": named}) from error
    if output is not Output.TABLE:
        outputs.write({"trainingRun": named, "search": found}, output)
        return
    installed.progress_console().print(Text(shown(_summary(found))), soft_wrap=True)
    installed.result_console().print(_table(found))
    for trial in found.get("history") or ():
        if trial.get("message"):
            why = f"trial {trial['number']}: {trial.get('reason')}: {trial['message']}"
            installed.progress_console().print(Text(shown(why)), soft_wrap=True)


def _search_of(named: str, resource: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = resource.get("status", {}).get("search")
    if found is not None:
        return found
    if "search" not in resource.get("spec", {}):
        raise SearchError(f"TrainingRun {named} has no search: spec.search is not set")
    raise SearchError(f"no trial of TrainingRun {named} has started yet; see kubectl describe trainingrun")


def _summary(found: Mapping[str, Any]) -> str:
    ended = f"{found['finished']} of {found['trials']} trials have ended"
    ended += f", {found['pruned']} of them early, and {found['failed']} failed"
    best = found.get("best")
    if best is None:
        return f"{ended}; none has completed"
    tried = ", ".join(f"{name} {value}" for name, value in best["parameters"].items())
    return f"{ended}; the best is trial {best['number']} with {found['metric']} {best['value']}: {tried}"


def _table(found: Mapping[str, Any]) -> Table:
    trials = _ranked(found)
    names = list(dict.fromkeys(name for trial in trials for name in trial["parameters"]))
    table = Table("Trial", "State", box=None, pad_edge=False)
    for name in (found["metric"], "Epochs", *names):
        table.add_column(Text(shown(name)), justify="right")
    for trial in trials:
        told = [trial["number"], trial["state"], trial.get("value", ""), trial.get("epochs", "")]
        cells = [*told, *(trial["parameters"].get(name, "") for name in names)]
        table.add_row(*(Text(shown(str(cell))) for cell in cells))
    return table


def _ranked(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The trials: completed ones by their value, then the others by their number."""

    def rank(trial: Mapping[str, Any]) -> tuple[bool, float, int]:
        is_completed = trial["state"] == TrialState.COMPLETED and "value" in trial
        return not is_completed, -better(found["metric"], float(trial["value"])) if is_completed else 0, trial["number"]

    return sorted(found.get("history") or (), key=rank)
