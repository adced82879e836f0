"""``pelagos evaluate``: judge a model package on the untouched test split of a dataset version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import DATASET, TRAINING_RUN
from pelagos.cli import access, data_plane, installed, model, outputs, tracking_server
from pelagos.cli.outputs import Output
from pelagos_contract.imports import EvaluationRequest, Tracked
from pelagos_contract.tasks import AVERAGES, TASKS, averaged
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.steps.judging"
_RUN = "trainingrun/"
_TEST = "test/"


class EvaluateError(Exception):
    """There are no metrics; the message says why, in one line."""


def evaluate(  # noqa: PLR0913, PLR0917 - options of a command
    named: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A registered model (NAME, NAME/VERSION or NAME@ALIAS), trainingrun/NAME, or the folder or uri of a package.",
        ),
    ],
    dataset: Annotated[
        str, typer.Option(help="Dataset, or NAME@VERSION with the digest of a version, or its beginning.")
    ],
    sha256: Annotated[
        str, typer.Option(help="Of package.json, where MODEL is a folder or uri. Default: the name of the folder.")
    ] = "",
    store: Annotated[
        str,
        typer.Option(help="Folder for packages of the namespace in the object store. Default: models/NAMESPACE there."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Judge a model on the test split of a Dataset's version, as models that are trained here are, and put it on record.

    Metrics, figures, and the digests of package and version go to MLflow, and the version of a registered model gets the tag
    pelagos.dev/evaluated. Classes are compared by name.

    Where the object store and MLflow are is said as for `pelagos model import`. Versions on S3-compatible storage are read with
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION.

    Exit codes: 0 when it was judged, 1 when not; JSON and YAML have the reason as "error" then.
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    inside = access.namespace_of(at, namespace)
    name, _, version = dataset.partition("@")
    try:
        tracked = tracking_server.reached(settings, at)
        status = access.find(at, DATASET, name, inside).get("status", {})
        uri = data_plane.version_uri(f"{inside}/{name}", status, version, f"--dataset {dataset}")
        request = EvaluationRequest(
            **_meant(at, inside, named, sha256),
            packages=store or model.packages_of(settings, inside),
            dataset=name,
            dataset_uri=uri,
            dataset_version=f"sha256:{uri.rpartition('/')[2]}",
            tracked=Tracked(uri=tracked.tracking_uri, namespace=inside),
        )
        login = tracking_server.login(tracked)
        text = request.model_dump_json(by_alias=True)
        done = data_plane.run(settings, _PROGRAM, versions=(uri,), text=text, environment=login)
    except (access.AskError, EvaluateError, tracking_server.NotReachedError, data_plane.DataPlaneError) as error:
        raise outputs.failed(error, output, {"model": named, "dataset": dataset}) from error
    except ValidationError as error:
        wrong = EvaluateError(f"--sha256 {sha256}: must be 64 hexadecimal digits in lower case")
        raise outputs.failed(wrong, output, {"model": named, "dataset": dataset}) from error
    if output is not Output.TABLE:
        outputs.write({"dataset": f"{inside}/{name}", "datasetVersion": request.dataset_version, **done}, output)
        return
    for warning in done.get("warnings", ()):
        installed.progress_console().print(Text.assemble(("Note: ", "bold yellow"), shown(warning)), soft_wrap=True)
    told = (
        f"{done['model']} on the {done['images']} images of the test split of {inside}/{name}, version"
        f" {request.dataset_version[:19]}; MLflow run {done['run']}"
    )
    installed.progress_console().print(Text(shown(told)), soft_wrap=True)
    installed.result_console().print(table(done))


def _meant(at: access.Chosen, namespace: str, named: str, sha256: str) -> dict[str, Any]:
    """The fields of a request that say which package."""
    if named.startswith(_RUN):
        name = named.removeprefix(_RUN)
        found = access.find(at, TRAINING_RUN, name, namespace).get("status", {}).get("model") or {}
        if not found.get("uri") or not found.get("manifestSha256"):
            raise EvaluateError(
                f"TrainingRun {namespace}/{name} has no model yet; see kubectl describe trainingrun {name}"
            )
        return {"package": found["uri"], "manifest_sha256": found["manifestSha256"]}
    if named.startswith("/") or "://" in named:
        return {"package": named, "manifest_sha256": sha256 or None}
    return {"model": named}


def table(done: Mapping[str, Any]) -> Table:
    """The metrics of all classes: their mean and other averages; beneath those of each class."""
    metrics = {name.removeprefix(_TEST): value for name, value in done["metrics"].items()}
    per_class = TASKS[done["task"]].metrics
    averages = averaged(*per_class)
    overall = [name for name in metrics if "/" not in name and name not in (*per_class, *averages)]
    found = Table(box=None, pad_edge=False)
    found.add_column("class")
    for name in per_class:
        found.add_column(name, justify="right")
    found.add_row(Text("all", "bold"), *(_number(metrics.get(name)) for name in per_class))
    for kind in AVERAGES if metrics.keys() & set(averages) else ():
        found.add_row(Text(f"all, {kind}", "bold"), *(_number(metrics.get(f"{name}-{kind}")) for name in per_class))
    for label in done["labels"]:
        found.add_row(Text(shown(label)), *(_number(metrics.get(f"{name}/{label}")) for name in per_class))
    if overall:
        words = ", ".join(f"{name} {_number(metrics[name])}" for name in overall)
        found.caption, found.caption_justify = words, "left"
    return found


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
