"""``pelagos image``: a served model as a separate container image, and its description for OSCAR."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pelagos.api.kinds import MODEL_SERVICE, TRAINING_RUN
from pelagos.api.model_service import ModelServiceSpec, ServiceCard
from pelagos.cli import access, data_plane, installed, outputs
from pelagos.cli.container_engines import Engine, RefusedError, usable
from pelagos.cli.image import recipe
from pelagos.cli.image.recipe import Model
from pelagos.cli.outputs import Output
from pelagos.settings import Settings
from pelagos_contract import disk, fdl, model_image
from pelagos_contract.model_card import Card

BASE = "ghcr.io/pelagos/deepaas"
"""The base image for models; its tag is the release of this command."""
_MEMORY = re.compile(r"[1-9][0-9]{0,6}(Mi|Gi)")
_REFUSED = (access.AskError, RefusedError, data_plane.DataPlaneError)

app = typer.Typer(no_args_is_help=True, help="Served models as container images with the DEEPaaS API.")
Memory = Annotated[str, typer.Option(help="Memory that OSCAR gives a container, as Kubernetes writes it.")]
Cluster = Annotated[str, typer.Option(help="How OSCAR's clients call the cluster.")]


@app.callback()
def image() -> None:
    """Served models as container images with the DEEPaaS API."""


@app.command()
def build(  # noqa: PLR0913, PLR0917 - options of a command
    service: Annotated[str, typer.Argument(help="Name of a ModelService that is Ready.")],
    tag: Annotated[
        str, typer.Option(help="Name of the image. Default: pelagos/NAMESPACE-SERVICE with the package's digest.")
    ] = "",
    push: Annotated[bool, typer.Option("--push", help="Push it to the registry that --tag names.")] = False,
    base: Annotated[str, typer.Option(help=f"Base image. Default: {BASE} of this release.")] = "",
    engine: Annotated[str, typer.Option(help="docker, podman or buildah. Default: the first that works here.")] = "",
    description: Annotated[
        Path | None, typer.Option("--fdl", help="File for OSCAR's description of it, replacing what is there.")
    ] = None,
    memory: Memory = model_image.USUAL_MEMORY,
    cluster: Cluster = fdl.CLUSTER,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Build a container image that gives the answers of a ModelService by the DEEPaaS API, and print its digest.

    The package that the service serves is fetched, compared with the digest in status, and copied into the image, with the
    thresholds of spec and the card. It contains nothing else from the cluster.

    Packages on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when it is built, and pushed if asked to; 1 when not; JSON and YAML then give the reason as "error".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    where = access.namespace_of(at, namespace)
    told: dict[str, Any] = {"service": f"{where}/{service}"}
    try:
        if push and not tag:
            raise RefusedError(
                "--push needs --tag with the registry and the name there, like registry.example.org/marine/urchins:1"
            )
        begun = base or f"{BASE}:{metadata.version('pelagos')}"
        recipe.named(begun, "--base")
        _require_memory(memory)
        uri, model = served(at, where, service)
        name = tag or recipe.usual_name(model)
        repository = recipe.named(name, "--tag", with_digest=False)
        program = usable(engine, "--engine")
        with tempfile.TemporaryDirectory(prefix="pelagos-image-") as folder:
            written = _context(settings, Path(folder), uri, model, begun)
            builder = Engine(program, Path(folder))
            options = [f"--label={key}={value}" for key, value in recipe.labels(model).items()]
            told |= {
                "image": name,
                "id": builder.build(written, written / "Dockerfile", name, options, int(time.time())),
            }
            if push:
                told["digest"] = builder.push(repository, name)
                told["image"] = f"{repository}@{told['digest']}"
        if description is not None:
            disk.write_atomically(description, _described(model, told["image"], memory, cluster).encode())
            told["fdl"] = str(description)
    except _REFUSED as error:
        raise outputs.failed(error, output, told) from error
    except OSError as error:
        raise outputs.failed(
            RefusedError(f"{error.filename or ''}: {error.strerror or error}"), output, told
        ) from error
    if output is not Output.TABLE:
        outputs.write(told, output)
        return
    ending = "" if push else f" (not pushed; image {told['id']})"
    installed.result_console().print(f"{told['image']}{ending}", soft_wrap=True)


@app.command("fdl")
def fdl_(
    service: Annotated[str, typer.Argument(help="Name of a ModelService that is Ready.")],
    built: Annotated[
        str,
        typer.Option(
            "--image", help="The image that was built from it, as OSCAR is to pull it: preferably by its digest."
        ),
    ],
    memory: Memory = model_image.USUAL_MEMORY,
    cluster: Cluster = fdl.CLUSTER,
    namespace: access.Namespace = "",
    context: access.Context = "",
) -> None:
    """Print the description of an image for OSCAR, in its Functions Definition Language: oscar-cli apply FILE.

    The service is exposed with its API, and requires its token. Files sent to it produce NAME.json, and NAME.status.json with
    a state, because OSCAR itself reports every script as succeeded.

    Exit codes: 0, and 1 when there is no such ModelService that is Ready.
    """
    at = access.chosen(installed.settings(), context)
    where = access.namespace_of(at, namespace)
    try:
        recipe.named(built, "--image")
        _require_memory(memory)
        _, model = served(at, where, service)
    except _REFUSED as error:
        raise outputs.failed(error, Output.TABLE, {}) from error
    sys.stdout.write(_described(model, built, memory, cluster))


def served(at: access.Chosen, namespace: str, name: str) -> tuple[str, Model]:
    """The uri of the package that a ModelService serves, and a description of its model.

    Raises:
        AskError: it does not exist, or the API server does not answer.
        RefusedError: it is not Ready, or about to change.
    """
    found = access.find(at, MODEL_SERVICE, name, namespace)
    title, status = f"ModelService {namespace}/{name}", found.get("status") or {}
    ready = next((item for item in status.get("conditions") or () if item.get("type") == "Ready"), None)
    if ready is None:
        raise RefusedError(f"{title} has no status yet; does the operator run?")
    if ready.get("status") != "True":
        raise RefusedError(f"{title} is not Ready: {ready.get('reason')}: {ready.get('message')}")
    generation, answers = found["metadata"].get("generation"), status.get("servedGeneration")
    if generation and answers and answers != generation:
        raise RefusedError(f"{title} is about to change; try again when it serves what its spec says")
    model = status.get("model") or {}
    if not all(model.get(field) for field in ("uri", "onnxSha256", "manifestSha256")):
        raise RefusedError(
            f"{title}: its status does not say which package it serves, and by which digest; does the operator run?"
        )
    try:
        spec = ModelServiceSpec.model_validate(found.get("spec") or {})
    except ValidationError as error:
        raise RefusedError(f"{title}: this release does not understand its spec: {error.errors()[0]['msg']}") from error
    card = (spec.card or ServiceCard()).after(_trained_card(at, namespace, spec))
    return model["uri"], Model(namespace, name, spec, model["onnxSha256"], model["manifestSha256"], card)


def _trained_card(at: access.Chosen, namespace: str, spec: ModelServiceSpec) -> Card | None:
    """The model card in the TrainingRun's spec, if the service names an existing one; else None."""
    named = spec.model.training_run_ref
    run = access.listed(at, TRAINING_RUN, namespace).get(named.name) if named is not None else None
    given = (run or {}).get("spec", {}).get("card")
    try:
        return Card.model_validate(given) if given else None
    except ValidationError:  # written by another release; do without the card
        return None


def _context(settings: Settings, folder: Path, uri: str, model: Model, base: str) -> Path:
    """Prepare the folder that the image is built from, and return it. Raises DataPlaneError."""
    context = folder / "context"
    package = context / recipe.PACKAGE
    package.mkdir(parents=True)
    data_plane.fetch_package(settings, uri, model.manifest_sha256, package)
    card = model.card.written()
    (context / recipe.CARD).write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
    (context / "Dockerfile").write_text(recipe.dockerfile(model, base), encoding="utf-8")
    # This command's files are private to its user (umask), but another user reads them in the image.
    for each in (context, *context.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    return context


def _described(model: Model, built: str, memory: str, cluster: str) -> str:
    return model_image.description(model.name, built, model.onnx_sha256, str(model.spec.resources.cpu), memory, cluster)


def _require_memory(given: str) -> None:
    if not _MEMORY.fullmatch(given):
        raise RefusedError(f"--memory {given!r} is not an amount of memory, like 2Gi or 512Mi")
