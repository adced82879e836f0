"""``pelagos fair``: how FAIR a Dataset is, how to improve it, and a FAIR EVA server's evaluation once it is published."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import access, fair_eva, installed, outputs
from pelagos.cli.fair_eva import Asked, FairEvaError
from pelagos.cli.outputs import Output
from pelagos_contract import identifiers
from pelagos_contract.fair import evaluation, facts
from pelagos_contract.fair.evaluation import Evaluation
from pelagos_contract.fair.indicators import INDICATORS, PRINCIPLES
from pelagos_contract.metadata import InvalidMetadataError
from pelagos_contract.text import shown

FAR = 25
"""Points by which two evaluations must differ for this to be shown."""


def fair(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset.")],
    server: Annotated[
        str, typer.Option(help="Address of a FAIR EVA server that also evaluates the published record.")
    ] = "",
    doi: Annotated[str, typer.Option(help="DOI of the record. Default: that of the Dataset.")] = "",
    plugin: Annotated[str, typer.Option(help="Plugin of the FAIR EVA server.")] = "oai_pmh",
    endpoint: Annotated[
        str, typer.Option(help="Where the plugin finds the record: the OAI-PMH address of the repository.")
    ] = "https://zenodo.org/oai2d",
    every: Annotated[bool, typer.Option("--all", help="Also show indicators that pass.")] = False,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Evaluate a Dataset by the 41 indicators of the RDA FAIR Data Maturity Model, and say what would raise its score.

    The built-in evaluation contacts no server. It judges spec.metadata, the newest version, and where it is published. With
    --server a FAIR EVA server evaluates the published record as well; what it could not evaluate does not count as zero.

    Exit codes: 0 when it was evaluated, 1 when not, or when less FAIR than spec.fair.minScore; JSON and YAML say why.
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        found = access.find(at, DATASET, name, namespace)
        known = facts.of_resource(found.get("spec", {}), found.get("status", {}))
        ours = evaluation.built_in(known)
        theirs = _theirs(Asked(server, plugin, endpoint), doi or known.identifier or "") if server else None
    except (access.AskError, FairEvaError, InvalidMetadataError) as error:
        raise outputs.failed(error, output, {"dataset": f"{namespace}/{name}"}) from error
    least = (found.get("spec", {}).get("fair") or {}).get("minScore")
    if output is not Output.TABLE:
        document = {"dataset": f"{namespace}/{name}", "minScore": least, **ours.document()}
        outputs.write(document | ({"fairEva": theirs.document()} if theirs is not None else {}), output)
    else:
        _print(f"{namespace}/{name}", ours, theirs, every=every)
    if least is not None and (ours.score is None or ours.score < least):
        installed.progress_console().print(Text(f"spec.fair.minScore is {least}: it is not published like this"))
        raise typer.Exit(1)


def _theirs(asked: Asked, doi: str) -> Evaluation:
    try:
        plain = identifiers.doi(doi)
    except ValueError as error:
        # FAIR EVA would take a bare record number for a PubMed id.
        raise FairEvaError("a FAIR EVA server evaluates published records by their DOI; name it with --doi") from error
    return asyncio.run(fair_eva.evaluate(asked, plain))


def _print(name: str, ours: Evaluation, theirs: Evaluation | None, *, every: bool) -> None:
    console = installed.result_console()
    scores = Table("", "built-in", *(["FAIR EVA"] if theirs is not None else []), box=None)
    for principle in PRINCIPLES:
        scores.add_row(principle, *(_number(each.of(principle)) for each in (ours, theirs) if each is not None))
    scores.add_row(name, *(_number(each.score) for each in (ours, theirs) if each is not None), style="bold")
    console.print(scores)
    rows = Table("indicator", "priority", "points", *(["FAIR EVA"] if theirs is not None else []), "found", box=None)
    for each in INDICATORS:
        mine, other = ours.found[each.code], theirs.found[each.code] if theirs is not None else None
        is_far = (
            other is not None
            and None not in {mine.points, other.points}
            and abs((mine.points or 0) - (other.points or 0)) > FAR
        )
        if not (every or is_far or evaluation.status(mine.points) != "pass"):
            continue
        said = f"{each.title}: {mine.evidence}" + (
            f". FAIR EVA: {other.evidence}" if other is not None and is_far else ""
        )
        figures = [_number(one.points) for one in (mine, other) if one is not None]
        rows.add_row(each.code, each.priority, *figures, Text(shown(said)))
    if rows.row_count:
        console.print(rows)
    for words, points in ours.advice:
        console.print(Text(shown(f"up to {points:g} more: {words}")), soft_wrap=True)


def _number(points: float | None) -> str:
    return "not evaluated" if points is None else f"{points:g}"
