"""``pelagos logs``: finds the resource, and the run or servers that it has."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.api import kinds
from pelagos.api.kinds import Kind
from pelagos.cli import access, installed
from pelagos.cli.logs import files, pods
from pelagos.cli.logs.lines import Line, LogError, Wish
from pelagos.ports.pipelines import FINISHED
from pelagos_contract.text import shown

_INTERRUPTED = 130
_PERIOD = 2.0
"""Seconds between two reads of the resource while its log is followed."""


class KindName(Enum):
    """Kinds by their singular names, as in kubectl."""

    DATASET = kinds.DATASET.singular
    TRAINING_RUN = kinds.TRAINING_RUN.singular
    MODEL_SERVICE = kinds.MODEL_SERVICE.singular


def logs(  # noqa: PLR0913, PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the Dataset, TrainingRun or ModelService.")],
    namespace: access.Namespace = "",
    kind: Annotated[
        KindName | None,
        typer.Option("--kind", "-k", help="Kind of the resource; needed when several resources have the name."),
    ] = None,
    step: Annotated[
        str, typer.Option("--step", "-s", help="Only this step, or the one with this stage, for example train.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also print new lines, until the run ends.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="The attempt, or the server's process, before the latest.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, help="Number of lines of each step or server, from its end. Default: all.")
    ] = None,
    context: access.Context = "",
) -> None:
    """Print the log of a resource: of its pipeline run, step by step, or of its model servers.

    The API server is that of KUBECONFIG, or the embedded one. On a cluster the logs of pods are read, which requires the right
    to list pods and to read their logs in the namespace. What steps print is not trusted: control characters are escaped,
    and long lines are cut. The origin of lines goes to standard error.

    Exit codes: 0 when the log could be read, 1 when not, 130 when --follow was interrupted.
    """
    try:
        if follow and previous:
            raise LogError("a log that has ended cannot be followed: use either --follow or --previous")
        at = access.chosen(installed.settings(), context)
        # Trials are left out: everything that runs for one runs for its ModelService.
        known = [each for each in kinds.KINDS if each is not kinds.TRIAL]
        wanted = known if kind is None else [each for each in known if each.singular == kind.value]
        found, body = _find(at, wanted, name, access.namespace_of(at, namespace))
        _print(_lines(at, found, body, Wish(step, tail, previous, follow)))
    except (access.AskError, LogError) as error:
        installed.progress_console().print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _find(
    at: access.Chosen, wanted: tuple[Kind, ...] | list[Kind], name: str, namespace: str
) -> tuple[Kind, Mapping[str, Any]]:
    if len(wanted) == 1:
        return wanted[0], access.find(at, wanted[0], name, namespace)
    found = [(each, body) for each in wanted if (body := access.listed(at, each, namespace).get(name)) is not None]
    if not found:
        named = ", ".join(each.kind for each in wanted)
        raise LogError(
            f"there is nothing of ours named {namespace}/{name} ({named}); see kubectl get pelagos -n {namespace}"
        )
    if len(found) > 1:
        options = " or ".join(f"--kind {each.singular}" for each, _ in found)
        raise LogError(f"{namespace}/{name} is the name of several resources; add {options}")
    return found[0]


def _lines(at: access.Chosen, kind: Kind, body: Mapping[str, Any], wish: Wish) -> Iterator[Line]:
    settings, metadata = installed.settings(), body["metadata"]
    is_service = kind is kinds.MODEL_SERVICE
    if is_service and wish.step:
        raise LogError(f"--step is {wish.step}, but a ModelService has no steps; leave it out")
    run = "" if is_service else _run(kind, body)
    is_over = _watch(at, kind, body, run)
    if access.is_embedded(settings, at):
        if is_service:
            return files.of_server(settings.home, str(metadata["uid"]), wish, is_over)
        return files.of_run(settings.home, run, wish, is_over)
    found = pods.Pods(access.core_objects(at), str(metadata["uid"]), metadata["namespace"], _say)
    if is_service:
        return found.of_service(wish, is_over)
    if place := _place((body.get("status") or {}).get("queue") or {}):
        _say(f"{kind.kind} {metadata['namespace']}/{metadata['name']} waits {place}")
    return found.of_run(settings.kubeflow_namespace or metadata["namespace"], run, wish, is_over)


def _run(kind: Kind, body: Mapping[str, Any]) -> str:
    """The name of the resource's pipeline run. Raises LogError when there is none yet."""
    status, metadata = body.get("status") or {}, body["metadata"]
    if run := (status.get("pipelineRun") or {}).get("id"):
        return str(run)
    ready: Mapping[str, Any] = next((each for each in status.get("conditions", ()) if each["type"] == "Ready"), {})
    why = f"{ready['reason']}: {ready['message']}" if ready else "it has no status yet; does the operator run?"
    raise LogError(f"{kind.kind} {metadata['namespace']}/{metadata['name']} has no pipeline run yet: {why}")


def _place(queue: Mapping[str, Any]) -> str:
    """Words about the queue that a run waits in; "" when it does not wait."""
    if not queue or "admittedAt" in queue:
        return ""
    position = f" at place {queue['position']}" if "position" in queue else ""
    since = f" since {queue['since']}" if "since" in queue else ""
    why = f": {queue['reason']}" if "reason" in queue else ""
    return shown(f"in the queue {queue.get('name')}{position}{since}{why}")


def _watch(at: access.Chosen, kind: Kind, body: Mapping[str, Any], run: str) -> Callable[[], bool]:
    """A function that says whether the log is complete; it asks the API server at most every two seconds."""
    metadata = body["metadata"]
    looked = 0.0

    def is_over() -> bool:
        nonlocal looked
        if time.monotonic() - looked < _PERIOD:
            return False
        looked = time.monotonic()
        try:
            now = access.listed(at, kind, metadata["namespace"]).get(metadata["name"])
        except access.AskError:
            return False  # Pods keep running without the API server.
        return now is None or now["metadata"]["uid"] != metadata["uid"] or _has_ended(now, run)

    return is_over


def _has_ended(body: Mapping[str, Any], run: str) -> bool:
    """Whether nothing runs for the resource any more; a failed run that will be retried has not ended."""
    if body["spec"].get("suspend") or "deletionTimestamp" in body["metadata"]:
        return True
    if not run:
        return False
    status = body.get("status") or {}
    stated = status.get("pipelineRun") or {}
    is_stalled = any(each["type"] == "Stalled" for each in status.get("conditions", ()))
    # A run may fail after its result was complete; it is not retried then either.
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    is_done = stated.get("state") == "Succeeded" or (
        is_ready and stated.get("state") in {state.value for state in FINISHED}
    )
    return stated.get("id") != run or is_done or is_stalled


def _print(found: Iterator[Line]) -> None:
    origin = ""
    for line in found:
        if line.origin != origin:
            _say(f"--- {line.origin}")
            origin = line.origin
        sys.stdout.write(line.text + "\n")
        sys.stdout.flush()


def _say(words: str) -> None:
    installed.progress_console().print(Text(words, "dim"), soft_wrap=True)
