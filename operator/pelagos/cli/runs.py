"""``pelagos runs compare``: compares the figures of trainings, their differences, and whether those are more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import TRAINING_RUN
from pelagos.cli import access, comparison_page, installed, outputs, tracking_server
from pelagos.cli.comparison_page import Compared, said
from pelagos.cli.outputs import Output
from pelagos.decisions.training_run import comparing
from pelagos_contract import disk
from pelagos_contract.tags import ENVIRONMENT_TAGS
from pelagos_contract.text import shown

app = typer.Typer(no_args_is_help=True, help="Comparison of trainings.")
MOST = 8
"""Most trainings that fit next to each other."""
_OTHER_TEST_SPLIT = "not comparable: they were measured on other test images"


class CompareError(Exception):
    """There is nothing to compare; the message says why, in one line."""


@app.command()
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME NAME...", help="TrainingRuns; the others are compared with the first.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Figure to compare, as in status.metrics. Default: all that are not for one class."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="HTML file to write: the same as figures and tables on one page.")
    ] = None,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Compare trainings: figures of the test split, and what differs in parameters, data and environment.

    A difference is called more than chance when a permutation test over the seeds of both says so (p at most 0.05); with one
    seed each, or few, that cannot be determined, and the answer says so. Figures on other versions of a dataset are for other
    images, and are not compared. The environment is the one that MLflow recorded: without MLflow it is left out.

    Exit codes: 0 when there is a comparison, 1 when not; JSON and YAML then give the reason as "error".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    try:
        if not 2 <= len(set(names)) == len(names) <= MOST:
            raise CompareError(f"name 2 to {MOST} different TrainingRuns; there are {len(names)}: {', '.join(names)}")
        bodies = [access.find(at, TRAINING_RUN, name, namespace) for name in names]
        trainings = [_measured(body, namespace) for body in bodies]
        chosen = _metrics(trainings, metric or [])
        environments, note = _environments(settings, at, trainings)
        found = _answer(trainings, chosen, environments)
        if save is not None:
            disk.write_atomically(save, comparison_page.written(trainings, found).encode())
    except (access.AskError, CompareError) as error:
        raise outputs.failed(error, output, {"trainings": names}) from error
    except OSError as error:
        said = CompareError(f"--save {save}: {error.strerror or error}")
        raise outputs.failed(said, output, {"trainings": names}) from error
    if output is not Output.TABLE:
        outputs.write(found | ({"note": note} if note else {}), output)
        return
    _print(found, names, note)


def _measured(body: Mapping[str, Any], namespace: str) -> Compared:
    name, status = body["metadata"]["name"], body.get("status") or {}
    if not status.get("metrics"):
        raise CompareError(f"TrainingRun {namespace}/{name} has no figures yet: it is not evaluated")
    return Compared(name, status)


def _metrics(trainings: Sequence[Compared], asked: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(name for each in trainings for name in each.status["metrics"]))
    for name in asked:
        if name not in known:
            raise CompareError(f"--metric {name}: none of them has it; there are {', '.join(known)}")
    # Leave out metrics of single classes, which have a second slash; of slices, status has only the worst ones.
    whole = [name for name in known if name.startswith("worst/") or (name.startswith("test/") and name.count("/") == 1)]
    return list(asked) or whole


def _environments(settings: Any, at: access.Chosen, trainings: Sequence[Compared]) -> tuple[list[dict[str, str]], str]:
    """The environment of each training from MLflow, and why they cannot be compared ("" if they can)."""
    runs = [str((each.status.get("tracking") or {}).get("run") or "") for each in trainings]
    try:
        found = tracking_server.environments(settings, at, runs) if all(runs) else [{} for _ in runs]
    except tracking_server.NotReachedError as error:
        return [{} for _ in runs], f"the environments are not compared: {error}"
    if not all(found):
        return [{} for _ in runs], "the environments are not compared: MLflow does not have all of them"
    return [{name.removeprefix(ENVIRONMENT_TAGS): value for name, value in each.items()} for each in found], ""


def _answer(
    trainings: Sequence[Compared], metrics: Sequence[str], environments: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    first = trainings[0]
    figures = []
    for metric in metrics:
        row: dict[str, Any] = {"metric": metric, "values": {each.name: each.words(metric) for each in trainings}}
        row["differences"] = {other.name: _difference(first, other, metric) for other in trainings[1:]}
        figures.append(row)
    inputs = [dict(each.status.get("inputs") or {}) for each in trainings]
    datasets = [dict(each.status.get("dataset") or {}) for each in trainings]
    names = [each.name for each in trainings]
    return {
        "trainings": names,
        "figures": figures,
        **{
            kind: {
                path: dict(zip(names, values, strict=True)) for path, values in comparing.differing(documents).items()
            }
            for kind, documents in (("parameters", inputs), ("data", datasets), ("environment", environments))
        },
    }


def _difference(first: Compared, other: Compared, metric: str) -> dict[str, Any]:
    one, another = first.figures(metric), other.figures(metric)
    if not one or not another:
        return {"words": "one of them does not have it"}
    if first.version != other.version:
        return {"words": _OTHER_TEST_SPLIT}
    found = comparing.chance(one, another)
    difference = statistics.fmean(another) - statistics.fmean(one)
    told: dict[str, Any] = {"difference": round(difference, 6), "words": found.words}
    if found.p is not None:
        told |= {"p": round(found.p, 6), "moreThanChance": found.is_more}
    return told


def _print(found: Mapping[str, Any], names: Sequence[str], note: str) -> None:
    console = installed.result_console()
    table = _table("figure", *names, *(f"{name} − {names[0]}" for name in names[1:]))
    for row in found["figures"]:
        cells = [row["values"][name] for name in names]
        cells += [said(row["differences"][name]) for name in names[1:]]
        table.add_row(shown(row["metric"]), *map(shown, cells))
    console.print(table)
    for kind in ("parameters", "data", "environment"):
        if not found[kind]:
            continue
        console.print()
        differing = _table(kind, *names)
        for path, values in found[kind].items():
            differing.add_row(
                shown(path), *(shown(values[name]) if values[name] is not None else "-" for name in names)
            )
        console.print(differing)
    same = [kind for kind in ("parameters", "data") if not found[kind]]
    if same:
        installed.progress_console().print(Text(f"No difference in {' and '.join(same)}"))
    if note:
        installed.progress_console().print(Text(f"Note: {shown(note)}"), soft_wrap=True)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(Text(shown(title)), overflow="fold")
    return table
