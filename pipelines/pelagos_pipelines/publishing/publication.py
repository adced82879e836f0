"""Publishes a version crash-safely: finds, creates or continues its record, uploads its files, publishes it.

Our records name the Dataset and the version (description), so that they are found again. A Dataset has at most one unpublished
draft: that of an earlier version is reused for the present one. A published version is never changed. The repository's search
index lags behind. Therefore the intent to create a record is written first (Journal). A later attempt that finds the intent waits
until the search would find the record. Once its number is known, the record is requested without a search.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pelagos_contract import disk, sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Metadata, Related
from pelagos_contract.publication import DRAFT, PUBLISHED, DiscardRequest, PublicationRequest, PublicationResult
from pelagos_pipelines.fetching import FetchError, FileBody
from pelagos_pipelines.publishing import description, inveniordm, packing
from pelagos_pipelines.publishing.inveniordm import GoneError, Record, Repository, UncertainError
from pelagos_pipelines.storage import Place

JOURNAL, STEP = "publication.json", "publication"
SETTLES = 60.0
"""Seconds after which a search is assumed to find earlier records."""
_TRIES = 3
"""Number of attempts with drafts that vanish while they are filled."""
_PAUSE = 3.0


class Journal:
    """The record of the draft that this Dataset has begun in a repository. Beside its run's report; all versions share it."""

    def __init__(self, place: Place, server: str) -> None:
        """Read what an earlier attempt wrote; entries for another repository are ignored."""
        self._place, self._server = place, server
        # Others may be able to write there, so only content sealed by this run is trusted.
        found = sealing.opened(sealing.document(place.folder / JOURNAL), sealing.STATE, step=STEP) or {}
        mine = found.get("server") == server
        self.is_intended = mine and found.get("intended") is True
        self.number = str(found.get("record") or "") if mine else ""

    def intend(self) -> None:
        """Record that a draft is about to be created."""
        self.is_intended, self.number = True, ""
        self._write()

    def made(self, number: str) -> None:
        """Record that the draft exists, with its number."""
        if (self.is_intended, self.number) != (False, number):
            self.is_intended, self.number = False, number
            self._write()

    def _write(self) -> None:
        told = {"server": self._server, "intended": self.is_intended, "record": self.number}
        text = json.dumps(sealing.sealed(told, sealing.STATE, step=STEP)) + "\n"
        disk.write_atomically(self._place.folder / JOURNAL, text, parents=True)
        if self._place.bucket is not None:
            self._place.write(JOURNAL, text.encode())


@dataclass
class Publication:
    """The publication of one version. ``scratch`` holds the uploaded files; ``progress`` gets sent and total bytes."""

    asked: PublicationRequest
    repository: Repository
    journal: Journal
    scratch: Path
    progress: Callable[[int, int], None] = lambda done, total: None
    _vanished: set[str] = field(default_factory=set)

    def run(self) -> PublicationResult:
        """Publish, or update the draft; returns the state in the repository.

        Raises:
            RefusedError: as packing.pack and the repository.
            FetchError: the repository does not answer; a later attempt continues.
        """
        for _ in range(_TRIES):
            try:
                return self._run()
            except GoneError as error:
                # Somebody discarded or published the draft: search again for the present state.
                self._vanished.add(str(error))
        raise RefusedError(
            Reason.PUBLICATION_REFUSED,
            f"the draft in {self.repository.name} disappeared {_TRIES} times while it was filled: somebody else is working on "
            "it. Ask the owner of the account, then set the annotation pelagos.dev/retry to a new value",
            self.repository.client.field,
        )

    def _run(self) -> PublicationResult:
        published = self._known()
        there = next((each for each in published if each.is_version(self.asked.version)), None)
        if there is not None:
            return self._result(self._proposed(there))
        draft = self._draft(published)
        self.journal.made(draft.number)
        draft = self._filled(draft)
        if self.asked.publish.state == DRAFT:
            return self._result(draft)
        return self._result(self._proposed(self._publish(draft)))

    def _known(self) -> list[Record]:
        """All published records of the Dataset, of any attempt and version, newest first."""
        found = self.repository.published(self.asked.owners)
        number = self.journal.number
        if number and all(each.number != number for each in found):
            # If it was published just now, the search may not find it yet.
            known = self.repository.record(number)
            if known is not None and known.is_published and known.is_of(self.asked.owners):
                return [known, *found]
        return found

    def _is_it(self, record: Record) -> bool:
        return record.is_of(self.asked.owners) and record.is_version(self.asked.version)

    def _draft(self, published: list[Record]) -> Record:
        """The draft to fill: an existing one of ours, that of a new version, or a new one."""
        known = self.repository.draft(self.journal.number) if self.journal.number else None
        if known is not None and not known.is_published and known.is_of(self.asked.owners):
            return self._ours(known)
        there = self._unpublished(published)
        if there is not None:
            return self._ours(there)
        if published:
            return self._ours(self.repository.new_version(published[0].number))
        return self._created()

    def _unpublished(self, published: list[Record]) -> Record | None:
        drafts = self.repository.drafts(self.asked.owners)
        parents = {each.parent for each in published}
        # The search may still list drafts that no longer exist, so those found missing in this attempt are skipped.
        fit = (each for each in drafts if not parents or each.parent in parents)
        return next((each for each in fit if each.number not in self._vanished), None)

    def _created(self) -> Record:
        """Create the draft of a new record, but never a second one, even if the outcome of the first attempt is unknown."""
        doubt = self.journal.is_intended
        for _ in range(_TRIES):
            found = self._settled() if doubt else None
            if found is not None:
                return found
            # Written before the call: if this process dies in between, the next attempt knows that a draft may exist.
            self.journal.intend()
            try:
                made = self.repository.create(self._document(None))
            except UncertainError:
                doubt = True
                continue
            self.journal.made(made.number)
            self._require_valid(made)
            return made
        raise FetchError(f"{self.repository.name} does not say whether it created a draft, {_TRIES} times")

    def _settled(self) -> Record | None:
        """The draft of an earlier attempt, after waiting until a search would find it; None without one."""
        end = time.monotonic() + SETTLES
        while True:
            found = self._unpublished([])
            left = end - time.monotonic()
            if found is not None or left <= 0:
                return found
            self.repository.client.deadline.pause(min(_PAUSE, left), "waiting for the search of the repository")

    def _ours(self, draft: Record) -> Record:
        """The draft, unless people work on it, which is refused: a new version started by hand is a copy of our record."""
        names = [each.name for each in self.repository.files(draft.number)]
        strange = [name for name in names if not packing.is_ours(name, self.asked.dataset)]
        if strange:
            raise RefusedError(
                Reason.PUBLICATION_REFUSED,
                f"the draft {self.repository.page(draft)} contains files that are not from this Dataset "
                f"({', '.join(strange[:3])}): somebody is working on it. Publish or discard it there, then set the annotation "
                "pelagos.dev/retry to a new value",
                self.repository.client.field,
            )
        return draft

    def _filled(self, draft: Record) -> Record:
        """Fill the draft with the version's metadata, a DOI and its files; files that it has already are not sent again."""
        # The identifiers first, so that a later attempt recognises the draft by them.
        draft = self.repository.update(draft.number, self._document(draft))
        self._require_valid(draft)
        if draft.doi is None:
            draft = self.repository.reserve(draft.number)
        files = packing.pack(self.asked, self._said(draft), draft.doi, self.scratch)
        self._send(draft, files)
        draft = self.repository.update(draft.number, self._document(draft))
        if draft.errors:
            raise self._incomplete(draft)
        return draft

    def _said(self, draft: Record) -> Metadata:
        """The metadata for the documents, with the record's DOI; another DOI of the dataset becomes a related one."""
        said, doi = self.asked.metadata, draft.doi
        if doi is None or said.identifier == doi:
            return said
        other = said.identifier if said.identifier != draft.concept_doi else None
        same = [Related(identifier=other, relation="IsIdenticalTo", kind="Dataset")] if other else []
        return said.model_copy(update={"identifier": doi, "related": [*said.related, *same]})

    def _send(self, draft: Record, files: list[packing.Packed]) -> None:
        there = {each.name: each for each in self.repository.files(draft.number)}
        wanted = {file.name for file in files}
        for name in there.keys() - wanted:
            self.repository.remove_file(draft.number, name)
        total, done = sum(file.size for file in files), 0
        for file in files:
            known = there.get(file.name)
            # An upload is not continued within a file: an incomplete one is removed and sent from the beginning.
            if known is None or not inveniordm.is_whole(known, file):
                if known is not None:
                    self.repository.remove_file(draft.number, file.name)
                self._send_one(draft, file, done, total)
            done += file.size
            self.progress(done, total)

    def _send_one(self, draft: Record, file: packing.Packed, before: int, total: int) -> None:
        body = FileBody(file.path, file.size, lambda done: self.progress(before + done, total))
        for _ in range(2):
            self.repository.begin_file(draft.number, file.name)
            self.repository.send_file(draft.number, body, file.name)
            found = self.repository.complete_file(draft.number, file.name)
            if inveniordm.is_whole(found, file):
                return
            self.repository.remove_file(draft.number, file.name)
        raise RefusedError(
            Reason.PUBLICATION_REFUSED,
            f"{self.repository.name} has the file {file.name} with a checksum other than the sent one, twice; nothing is "
            "published. Set the annotation pelagos.dev/retry to a new value, and tell the people who run the repository",
            self.repository.client.field,
        )

    def _publish(self, draft: Record) -> Record:
        for _ in range(_TRIES):
            try:
                return self.repository.publish(draft.number)
            except (UncertainError, GoneError) as error:
                # The draft may be published although the answer was lost; a published draft no longer exists either.
                found = self._looked_for(draft.number)
                if found is not None:
                    return found
                if isinstance(error, GoneError):
                    raise
        raise FetchError(f"{self.repository.name} does not say whether it published {draft.number}, {_TRIES} times")

    def _looked_for(self, number: str) -> Record | None:
        """The record, if it was published although the call failed; None otherwise."""
        client = self.repository.client
        client.deadline.pause(min(client.patience.first_pause, SETTLES), "waiting for the repository")
        found = self.repository.record(number)
        return found if found is not None and found.is_published and self._is_it(found) else None

    def _proposed(self, record: Record) -> Record:
        """Propose the record to the community. A failure is only reported, since the publication itself is done."""
        community = self.asked.publish.community
        why = self.repository.propose(record.number, community) if community else None
        return (
            replace(record, errors=(f"not in the community {community}: {why}",)) if why else replace(record, errors=())
        )

    def _document(self, draft: Record | None) -> dict[str, Any]:
        dois = [doi for doi in (draft.doi, draft.concept_doi) if doi] if draft is not None else []
        return {
            "access": description.access(self.asked.metadata),
            "files": {"enabled": True},
            "metadata": description.described(
                self.asked.metadata,
                url=self.repository.url,
                version=self.asked.version,
                owner=self.asked.owners[-1],
                day=datetime.now(UTC).date().isoformat(),
                dois=dois,
            ),
            # Without pids, some releases of InvenioRDM drop the reserved DOI.
            "pids": dict(draft.pids) if draft is not None else {},
        }

    def _require_valid(self, draft: Record) -> None:
        """Refuse metadata that the repository rejects, before large files are sent. Errors about missing files are expected."""
        if [each for each in draft.errors if not each.startswith("files")]:
            raise self._incomplete(draft)

    def _incomplete(self, draft: Record) -> RefusedError:
        told = "; ".join(draft.errors)
        return RefusedError(
            Reason.PUBLICATION_REFUSED,
            f"{self.repository.name} rejects what spec.metadata says: {told}. Correct it; the draft "
            f"{self.repository.page(draft)} is continued",
            self.repository.client.field,
        )

    def _result(self, record: Record) -> PublicationResult:
        return PublicationResult(
            version=self.asked.version,
            state=PUBLISHED if record.is_published else DRAFT,
            server=self.repository.url[:500],
            record=record.number,
            url=self.repository.page(record)[:500],
            doi=record.doi,
            concept_doi=record.concept_doi,
            at=_moment(record.at),
            retry=self.asked.retry,
            note=record.errors[0][:500] if record.errors else None,
        )


def discard(repository: Repository, asked: DiscardRequest) -> list[str]:
    """Discard the unpublished drafts of a deleted Dataset, except those that people work on; returns their numbers."""
    gone = []
    for draft in repository.drafts(asked.owners):
        try:
            names = [each.name for each in repository.files(draft.number)]
        except GoneError:
            continue
        if all(packing.is_ours(name, asked.dataset) for name in names):
            repository.discard(draft.number)
            gone.append(draft.number)
    return gone


def _moment(text: str) -> str:
    """A server's time in the form of Kubernetes; the present time if it cannot be parsed."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = datetime.now(UTC)
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
