"""The step prepare, when it is asked to publish a version in a repository, or to discard its draft, instead of making one."""

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
"""Beside the result, the request that it answers."""
_MEANS = {
    Reason.SOURCE_NOT_ALLOWED: Reason.REPOSITORY_NOT_ALLOWED,
    Reason.SOURCE_ACCESS_DENIED: Reason.REPOSITORY_ACCESS_DENIED,
    Reason.SOURCE_SECRET_INCOMPLETE: Reason.REPOSITORY_SECRET_INCOMPLETE,
    Reason.SOURCE_INVALID: Reason.PUBLICATION_REFUSED,
    Reason.SOURCE_NOT_FOUND: Reason.PUBLICATION_REFUSED,
    Reason.TASK_MISMATCH: Reason.PUBLICATION_REFUSED,
}
"""What sources are refused for, of a repository."""


def is_asked(request: str) -> bool:
    """Whether a request of the flow dataset-preparation is one for a publication, or for the end of a draft."""
    try:
        found = json.loads(request)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and ("publish" in found or "discard" in found)


def publish(request: str, report: str) -> None:
    """Publish a version, or discard a draft, and write ``result.json`` or ``failure.json`` into ``report``.

    Args:
        request: JSON of publication.PublicationRequest or DiscardRequest.
        report: the folder of this run; a result that stands there and answers this very request is left as it is.

    Raises:
        RefusedError: a person must change something, or the repository is away.
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
        place.remove(reports.RESULT)  # of another request: whoever looks meanwhile must not take it for the answer
        with _repository(asked.publish) as repository:
            journal = publication.Journal(place, repository.url)
            result = publication.Publication(asked, repository, journal, scratch / "publication").run()
        # Before the result, which counts only beside the request that it answers.
        disk.write_atomically(place.folder / REQUEST, text, parents=True)
        runs.leave(place, result)


def _discard(asked: DiscardRequest, place: Place) -> None:
    with _repository(asked.discard) as repository:
        gone = publication.discard(repository, asked)
    runs.leave(place, DiscardResult(discarded=gone))


@contextmanager
def _repository(asked: Repository) -> Iterator[inveniordm.Repository]:
    """The repository, with the token of this step; what goes wrong there is told in the words of a publication."""
    name = repository_name(asked.url)
    try:
        with Client(Policy.read(), FIELD) as client:
            yield inveniordm.Repository(client, asked.url, _login(asked.key))
    except UnexpectedStatusError as error:
        raise inveniordm.refusal(error, name) from error
    except FetchError as error:
        raise RefusedError(
            Reason.REPOSITORY_AWAY, f"{name}: {error}. It is tried again; what was done there is gone on with", FIELD
        ) from error
    except RefusedError as error:
        failure = error.failure
        if failure.reason not in _MEANS:
            raise
        field = "publish.format" if failure.reason is Reason.TASK_MISMATCH else failure.field
        raise RefusedError(_MEANS[failure.reason], failure.message, field) from error


def _login(key: str) -> Credentials:
    """Raises RefusedError: REPOSITORY_SECRET_INCOMPLETE. The token goes to the repository alone, and into no message."""
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
    """The result of this request, when an attempt of this run left it."""
    try:
        if (report / REQUEST).read_text(encoding="utf-8") != asked:
            return None
        return PublicationResult.model_validate(sealing.opened(sealing.document(report / reports.RESULT)))
    except (OSError, ValueError):
        return None
