"""``pelagos evaluate``: evaluate a model package on the test split of a dataset version."""

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
from pelagos_contract.capture import SLICE_FIELDS
from pelagos_contract.imports import EvaluationRequest, Tracked
from pelagos_contract.metrics import of_slice, of_test
from pelagos_contract.tasks import AVERAGES, TASKS, averaged
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.steps.judging"
_RUN = "trainingrun/"
_TEST = "test/"


class EvaluateError(Exception):
    """The evaluation failed; the message says why, in one line."""


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
        str,
        typer.Option(help="sha256 of package.json, where MODEL is a folder or uri. Default: the name of the folder."),
    ] = "",
    by: Annotated[
        list[str] | None,
        typer.Option("--slice", help=f"Also measure the images of each value separately: {', '.join(SLICE_FIELDS)}."),
    ] = None,
    store: Annotated[
        str,
        typer.Option(help="Folder for packages of the namespace in the object store. Default: models/NAMESPACE there."),
    ] = "",
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Evaluate a model on the test split of a Dataset's version, in the same way as models trained here, and record the result.

    Metrics, figures, and the digests of package and version go to MLflow, and the version of a registered model gets the tag
    pelagos.dev/evaluated. Classes are compared by name. What the model predicted for each image is kept with the packages of
    the namespace; gates compare with it where they state its digest (champion.evidence).

    The object store and MLflow are set as for `pelagos model import`. Versions on S3-compatible storage are read with
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION.

    Exit codes: 0 when it was evaluated, 1 when not; JSON and YAML then give the reason as "error".
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
            slices=list(dict.fromkeys(by or ())),
            tracked=Tracked(uri=tracked.tracking_uri, namespace=inside),
        )
        login = tracking_server.login(tracked)
        text = request.model_dump_json(by_alias=True)
        done = data_plane.run(settings, _PROGRAM, versions=(uri,), text=text, environment=login)
    except (access.AskError, EvaluateError, tracking_server.NotReachedError, data_plane.DataPlaneError) as error:
        raise outputs.failed(error, output, {"model": named, "dataset": dataset}) from error
    except ValidationError as error:
        field = error.errors(include_url=False)[0]["loc"][0]
        sliced = EvaluateError(f"--slice must name fields by which images are grouped: {', '.join(SLICE_FIELDS)}")
        wrong = (
            sliced
            if field == "slices"
            else EvaluateError(f"--sha256 {sha256}: must be 64 hexadecimal digits in lower case")
        )
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
    installed.progress_console().print(Text(shown(f"{told}{sureness(done)}")), soft_wrap=True)
    installed.result_console().print(table(done))
    if evidence := done.get("evidence"):
        # In full, and on a separate line, because people copy it into a spec.
        told = f"Gates compare with it by champion.evidence: {evidence['sha256'].removeprefix('sha256:')}"
        installed.progress_console().print(Text(told), soft_wrap=True)
    if done.get("slices"):
        installed.result_console().print(sliced_table(done))


def _meant(at: access.Chosen, namespace: str, named: str, sha256: str) -> dict[str, Any]:
    """The fields of a request that identify the package."""
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
    """A table of metrics: the averages over all classes first, then those of each class."""
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


def sureness(done: Mapping[str, Any]) -> str:
    """The confidence interval of the primary metric in words, or why there is none; "" when the step does not report it."""
    how, primary = done.get("resampling"), TASKS[done["task"]].primary_metric
    if not how:
        return ""
    if how.get("why"):
        return f"; no intervals: {how['why']}"
    ends = _ends(done, of_test(primary))
    return f"; {primary} {ends}, by {how['samples']} draws of {how['groups']} groups ({how['by']})" if ends else ""


def sliced_table(done: Mapping[str, Any]) -> Table:
    """A table of the primary metric per slice, the worst ones of each field first."""
    found = Table(box=None, pad_edge=False)
    for name in ("slice", "", "images", TASKS[done["task"]].primary_metric, "interval"):
        found.add_column(name, justify="right" if name not in {"slice", ""} else "left")
    for field in done["slices"]:
        named = [(one, of_slice(field["field"], one["value"], field["metric"])) for one in field["slices"]]
        for one, name in sorted(named, key=lambda each: _last(done["metrics"].get(each[1]))):
            value = "not known" if one["value"] is None else shown(one["value"])
            look = "bold" if one["value"] is not None and one["value"] == field["worst"] else ""
            figures = (str(one["images"]), _number(done["metrics"].get(name)), _ends(done, name) or "-")
            found.add_row(field["field"], Text(value, look), *figures)
    return found


def _ends(done: Mapping[str, Any], name: str) -> str:
    ends = (done.get("intervals") or {}).get(name)
    return f"{ends['low']:.3f}–{ends['high']:.3f}" if ends else ""


def _last(value: Any) -> tuple[bool, float]:
    return (True, 0.0) if value is None else (False, float(value))


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
