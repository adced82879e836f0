"""The published version of a Dataset, as last reported. It is about one version, until another one is published. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from pelagos.api.dataset import DatasetVersion, Publication
from pelagos.decisions.dataset.observed import Observed
from pelagos_contract.publication import PUBLISHED, PublicationResult


def current(seen: Observed) -> Publication | None:
    """The content of the repository: by the run's result or, while there is none, as known before."""
    told = result(seen)
    if told is None:
        return recorded(seen.publishing.known)
    return Publication(
        version=told.version,
        state=told.state,
        doi=told.doi,
        concept_doi=told.concept_doi,
        url=told.url,
        record=told.record,
        server=told.server,
        at=told.at,
        note=told.note,
    )


def result(seen: Observed) -> PublicationResult | None:
    """The publishing run's result; None when there is none, or it is not valid."""
    try:
        return PublicationResult.model_validate(seen.publishing.report.result)
    except ValidationError:
        return None


def recorded(known: Publication | None) -> Publication | None:
    """The part of ``known`` that goes on record: without the run and since when it has been stuck. None: nothing."""
    if known is None or known.record is None:
        return None
    return known.model_copy(update={"run": None, "stuck_since": None})


def is_out(known: Publication | None, version: str, url: str) -> bool:
    """Whether the version is published at ``url``. Nothing is left to do then, even if spec.publish asks for more."""
    return known is not None and (known.version, known.state, known.server) == (version, PUBLISHED, url)


def named(seen: Observed, versions: Sequence[DatasetVersion]) -> list[DatasetVersion]:
    """The versions, the published one with its DOI."""
    known = current(seen)
    if known is None or known.state != PUBLISHED or not known.doi:
        return list(versions)
    return [each.model_copy(update={"doi": known.doi}) if each.version == known.version else each for each in versions]
