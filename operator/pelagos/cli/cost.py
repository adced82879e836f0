"""``pelagos cost``: the cost of trainings from their status, and its sum: time, energy, and its CO2 equivalent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import TRAINING_RUN
from pelagos.cli import access, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.decisions.training_run import costs
from pelagos_contract.cost import rounded
from pelagos_contract.text import shown

_ADDED = (("cpuHours", ""), ("gpuHours", ""), ("energy", " kWh"), ("co2", " g"))
"""Fields of status.cost that are summed, with their units."""


class CostError(Exception):
    """There is no cost to show; the message says why."""


def cost(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of TrainingRuns. Default: all in the namespace.")
    ] = None,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show what trainings took: processor and GPU time, energy, and its CO2 equivalent.

    Figures are measured where that is possible and estimated elsewhere; the method is shown. Sums include only what is known.

    Exit codes: 0 when there is a cost to show, 1 when not; JSON and YAML then give the reason as "error".
    """
    at = access.chosen(installed.settings(), context)
    namespace = access.namespace_of(at, namespace)
    try:
        if names:
            found = [access.find(at, TRAINING_RUN, name, namespace) for name in names]
        else:
            found = [one for _, one in sorted(access.listed(at, TRAINING_RUN, namespace).items())]
        known = _known(found, namespace)
    except (access.AskError, CostError) as error:
        raise outputs.failed(error, output, {"namespace": namespace}) from error
    total = {field: _sum([one[field] for one in known.values()]) + unit for field, unit in _ADDED}
    if output is not Output.TABLE:
        outputs.write({"namespace": namespace, "trainings": known, "total": total}, output)
        return
    _print(known, total)


def _known(found: Sequence[Mapping[str, Any]], namespace: str) -> dict[str, Mapping[str, Any]]:
    """The cost in each resource's status, by name. Raises CostError when none has any."""
    known = {one["metadata"]["name"]: one["status"]["cost"] for one in found if (one.get("status") or {}).get("cost")}
    if not known:
        raise CostError(
            f"no training that was asked for in the namespace {namespace} has ended and reported its cost; see kubectl get "
            f"trainingruns -n {namespace}"
        )
    return known


def _sum(figures: Sequence[object]) -> str:
    amounts = [costs.amount(one) for one in figures]
    is_all = all(amount is not None for amount in amounts) and not any(
        str(one).startswith("at least") for one in figures
    )
    return f"{'about' if is_all else 'at least'} {rounded(sum(amount or 0.0 for amount in amounts))}"


def _print(known: Mapping[str, Mapping[str, Any]], total: Mapping[str, str]) -> None:
    table = Table("TrainingRun", "Seconds", "CPU hours", "GPU hours", "Energy", "CO2", box=None, pad_edge=False)
    fields = ("durationSeconds", *(field for field, _ in _ADDED))
    for name, one in known.items():
        table.add_row(Text(shown(name)), *(Text(shown(str(one.get(field, "")))) for field in fields))
    if len(known) > 1:
        table.add_row("together", "", *total.values(), style="bold")
    installed.result_console().print(table)
    lines = dict.fromkeys(
        [
            *(f"energy: {one.get('energyMethod', '')}; CO2: {one.get('intensity', '')}" for one in known.values()),
            *(f"{name}: not counted: {words}" for name, one in known.items() for words in one.get("missing") or ()),
        ]
    )
    installed.progress_console().print(Text("\n".join(map(shown, lines))), soft_wrap=True)
