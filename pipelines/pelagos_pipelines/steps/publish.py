"""The step prepare when its request is to publish a version in a repository, or to discard its draft."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pelagos_contract import disk, reports, sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.publication import (
    FIELD,
    DiscardRequest,
    DiscardResult,
    PublicationRequest,
    PublicationResult,
    Repository,
    repository_name,
)
from pelagos_pipelines.fetching import Client, Credentials, FetchError, Policy, UnexpectedStatusError
from pelagos_pipelines.publishing import inveniordm, publication
from pelagos_pipelines.sources import fetched
from pelagos_pipelines.steps import runs
from pelagos_pipelines.storage import Place

REQUEST = ".request.json"
"""The file with the request, beside the result that answers it."""
_MEANS = {
    Reason.SOURCE_NOT_ALLOWED: Reason.REPOSITORY_NOT_ALLOWED,
    Reason.SOURCE_ACCESS_DENIED: Reason.REPOSITORY_ACCESS_DENIED,
    Reason.SOURCE_SECRET_INCOMPLETE: Reason.REPOSITORY_SECRET_INCOMPLETE,
    Reason.SOURCE_INVALID: Reason.PUBLICATION_REFUSED,
    Reason.SOURCE_NOT_FOUND: Reason.PUBLICATION_REFUSED,
    Reason.TASK_MISMATCH: Reason.PUBLICATION_REFUSED,
}
"""Reasons of sources, each with the corresponding reason of repositories."""


def is_asked(request: str) -> bool:
    """Whether a request of the flow dataset-preparation asks to publish a version, or to discard a draft."""
    try:
        found = json.loads(request)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and ("publish" in found or "discard" in found)


def publish(request: str, report: str) -> None:
    """Publish a version, or discard a draft, and write ``result.json`` or ``failure.json`` into ``report``.

    Args:
        request: JSON of publication.PublicationRequest or DiscardRequest.
        report: the folder of this run; an existing result of the same request is kept.

    Raises:
        RefusedError: a person must change something, or the repository is unavailable.
    """
    with runs.scratch_for(report) as scratch, runs.reporting(report, scratch) as place:
        if "discard" in json.loads(request):
            _discard(runs.understood(DiscardRequest, request), place)
            return
        asked = runs.understood(PublicationRequest, request)
        text = asked.model_dump_json(by_alias=True)
        place.pull()
        done = _done(place.folder, text)
        if done is not None:
            runs.confirm(place, done)
            return
        place.remove(reports.RESULT)  # of another request; readers must not take it for the answer
        with _repository(asked.publish) as repository:
            journal = publication.Journal(place, repository.url)
            result = publication.Publication(asked, repository, journal, scratch / "publication").run()
        # Written before the result, which counts only beside the request that it answers.
        disk.write_atomically(place.folder / REQUEST, text, parents=True)
        runs.leave(place, result)


def _discard(asked: DiscardRequest, place: Place) -> None:
    with _repository(asked.discard) as repository:
        gone = publication.discard(repository, asked)
    runs.leave(place, DiscardResult(discarded=gone))


@contextmanager
def _repository(asked: Repository) -> Iterator[inveniordm.Repository]:
    """The repository, with this step's token. Errors in the block are translated into those of publications."""
    name = repository_name(asked.url)
    try:
        with Client(Policy.read(), FIELD) as client:
            yield inveniordm.Repository(client, asked.url, _login(asked.key))
    except UnexpectedStatusError as error:
        raise inveniordm.refusal(error, name) from error
    except FetchError as error:
        raise RefusedError(
            Reason.REPOSITORY_AWAY, f"{name}: {error}. It is tried again; what was done there is continued", FIELD
        ) from error
    except RefusedError as error:
        failure = error.failure
        if failure.reason not in _MEANS:
            raise
        field = "publish.format" if failure.reason is Reason.TASK_MISMATCH else failure.field
        raise RefusedError(_MEANS[failure.reason], failure.message, field) from error


def _login(key: str) -> Credentials:
    """The token from the Secret, which is sent only to the repository. Raises RefusedError: REPOSITORY_SECRET_INCOMPLETE."""
    found = fetched.secret_content()
    why = "it was not given to this step" if found is None else f"it has no key {key}" if not found.get(key) else ""
    if not why:
        try:
            return Credentials.bearer((found or {})[key])
        except ValueError as error:
            why = str(error)
    raise RefusedError(
        Reason.REPOSITORY_SECRET_INCOMPLETE, f"the Secret with the token cannot be used: {why}", f"{FIELD}.secretRef"
    )


def _done(report: Path, asked: str) -> PublicationResult | None:
    """The result of this request if an attempt of this run has left one."""
    try:
        if (report / REQUEST).read_text(encoding="utf-8") != asked:
            return None
        return PublicationResult.model_validate(sealing.opened(sealing.document(report / reports.RESULT)))
    except (OSError, ValueError):
        return None
