"""``pelagos lineage NAME``, ``export`` and ``verify``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup
from typing_extensions import override

from pelagos.cli import access, data_plane, installed, outputs
from pelagos.cli.lineage import answers, bundle, gathering, records
from pelagos.cli.lineage.bundle import BundleError
from pelagos.cli.lineage.records import MANIFEST, Link, Record
from pelagos.cli.outputs import Output
from pelagos.settings import Settings
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.preparation.digesting"
_ERRORS = (access.AskError, BundleError, data_plane.DataPlaneError)


class _Group(TyperGroup):
    """``pelagos lineage NAME`` is ``pelagos lineage show NAME``."""

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See the class. A resource with the name of a command is shown by ``show``."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Where a model comes from: source, dataset version, inputs, run, package, service, each link by its digest.",
)
Kind = Annotated[
    str,
    typer.Option(
        help="ModelService, TrainingRun or Dataset. Default: the first of these that has a resource with the name."
    ),
]


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the resource.")],
    kind: Kind = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show the lineage of a resource, and whether each link of it holds: digests are computed again, here.

    Exit codes: 0 when all links that could be checked hold, 1 when one does not, or there is no lineage.
    """
    _shown(name, kind, namespace, context, output, None)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name of the resource.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write, replacing what is there. Default: NAME-lineage.zip.")
    ] = None,
    kind: Kind = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Write the lineage of a resource into a bundle: a zip file that is an RO-Crate, with W3C PROV, and can be verified offline.

    It contains the dataset version's manifest and annotations, the description of the model package, and what the resources
    say; no images, no weights, nothing secret.

    Exit codes: 0 when it is written and all links that could be checked hold, 1 otherwise; nothing is written then.
    """
    _shown(name, kind, namespace, context, output, to or Path(f"{name}-lineage.zip"))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A file that `pelagos lineage export` wrote.")],
    model: Annotated[
        str, typer.Option(help="Expected sha256 of the model package, as in status.model.manifestSha256.")
    ] = "",
    prediction: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file with the answer of a model that was asked with raw: true; may be given several times.",
        ),
    ] = None,
    output: outputs.Option = Output.TABLE,
) -> None:
    """Check a bundle offline: every digest is computed again, and the first link that does not hold is named.

    A bundle is not signed: if its links hold, it is complete, but that does not say who made it. Compare the digest of the
    model with that of your model, by --model, and your predictions, by the graph that they name, by --prediction.

    Exit codes: 0 when all links hold, 1 when one does not, or cannot be checked here.
    """
    with tempfile.TemporaryDirectory(prefix="pelagos-lineage-") as folder:
        try:
            bundle.unpack(file, Path(folder))
            record = bundle.read(Path(folder))
            found = [bundle.files_link(Path(folder)), *_links(installed.settings(), record, Path(folder))]
            found += [answers.link(record, each) for each in prediction or ()]
        except _ERRORS as error:
            raise outputs.failed(error, output, {"bundle": str(file)}) from error
    if model:
        found.append(_expected(record, model.removeprefix("sha256:")))
    _print(found, (), output, {"bundle": str(file)})
    broken = next((link for link in found if not link.holds), None)
    if broken is not None:
        raise typer.Exit(1)


def _shown(name: str, kind: str, namespace: str, context: str, output: Output, target: Path | None) -> None:
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    told: dict[str, Any] = {"resource": f"{namespace}/{name}"}
    with tempfile.TemporaryDirectory(prefix="pelagos-lineage-") as folder:
        try:
            gathered = gathering.gather(settings, at, namespace, name, kind, Path(folder))
            found = _links(settings, gathered.record, Path(folder))
            holds = all(link.holds is not False for link in found)
            if target is not None and holds:
                bundle.write(gathered.record, Path(folder), target)
                told["file"] = str(target)
        except _ERRORS as error:
            raise outputs.failed(error, output, told) from error
    _print(found, gathered.notes, output, told)
    if not holds:
        raise typer.Exit(1)
    if target is not None and output is Output.TABLE:
        installed.progress_console().print(
            Text(shown(f"The lineage of {namespace}/{name} is in {target}")), soft_wrap=True
        )


def _links(settings: Settings, record: Record, folder: Path) -> list[Link]:
    """All links that the record and the files in the folder give, in the order of the chain."""
    found = []
    if record.dataset is not None:
        digest, why = None, "the description of the version is missing"
        if bundle.has_version(folder):
            try:
                answer = data_plane.run(settings, _PROGRAM, (folder / MANIFEST).parent, versions=())
                digest = str(answer["digest"])
            except data_plane.DataPlaneError as error:
                why = str(error)
        found.append(records.dataset_link(record, digest, why))
    return [*found, *records.links(record, folder)]


def _expected(record: Record, model: str) -> Link:
    known = record.service or record.training
    stated = known.model.manifest_sha256 if known is not None else "none"
    holds = stated == model
    return Link("the model asked for", holds, model if holds else f"the bundle is of {stated}, not of {model}")


def _print(found: Sequence[Link], notes: Sequence[str], output: Output, told: dict[str, Any]) -> None:
    broken = next((link for link in found if link.holds is False), None)
    if output is not Output.TABLE:
        listed = [{"link": link.name, "holds": link.holds, "words": link.words} for link in found]
        first = {"broken": broken.name} if broken is not None else {}
        outputs.write({**told, "links": listed, "notes": list(notes), **first}, output)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("link", "holds", "by"):
        table.add_column(title, overflow="fold")
    for link in found:
        mark = {True: Text("yes", "green"), False: Text("NO", "bold red"), None: Text("not checked", "yellow")}[
            link.holds
        ]
        table.add_row(shown(link.name), mark, Text(shown(link.words)))
    installed.result_console().print(table)
    console = installed.progress_console()
    for note in notes:
        console.print(Text(f"Note: {shown(note)}"), soft_wrap=True)
    if broken is not None:
        console.print(
            Text.assemble(("The first link that does not hold: ", "bold red"), shown(f"{broken.name}: {broken.words}")),
            soft_wrap=True,
        )
