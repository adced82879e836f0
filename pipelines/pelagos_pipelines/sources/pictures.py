"""Fetches images that a service lists one by one, under names that we choose, or leaves them out with a reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pelagos_contract.beneath import Folder
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.fetching import (
    Credentials,
    Fetched,
    UnchangedError,
    UnexpectedStatusError,
    Validators,
    Wanted,
    download,
    shown_url,
)
from pelagos_pipelines.sources import fetched, services, volume
from pelagos_pipelines.sources.kept import Seen
from pelagos_pipelines.sources.place import Errand
from pelagos_pipelines.sources.services import Names

LARGEST_IMAGE = 2**32
Held = Callable[[Callable[[Credentials], Fetched]], Fetched]
"""Calls a function with valid credentials, and renews them if necessary."""
_AT = re.compile(r"https?://")


class LeftError(Exception):
    """An image cannot be fetched; the arguments are its name and the reason."""


@dataclass
class Pictures:
    """The images fetched into ``folder``, from the service at ``base`` with its login, and from elsewhere without.

    ``left`` has for each omitted image its entry and name, its number of annotations, and the reason.
    """

    base: str
    held: Held
    errand: Errand
    folder: Path
    names: Names = field(default_factory=Names)
    left: list[tuple[str, int, str]] = field(default_factory=list)
    images: int = 0
    done: int = 0

    def bring(
        self, url: str, wanted: str, mark: str, *, logs_in: bool = True, key: str = "", is_fixed: bool = False
    ) -> str:
        """Fetch the image at a URL; returns its name, which is similar to ``wanted``; for ``mark`` see Names.

        ``key`` identifies the image if its URL does not, for example because it is signed again each time. ``is_fixed``: the URL
        always leads to the same image.
        Raises LeftError, RefusedError for addresses that are not allowed, and FetchError.
        """
        if url.startswith("data:"):
            raise LeftError("an image within its task", "images that are written into tasks are not read")
        if _AT.match(url) is None:
            scheme = shown(url.partition("://")[0])[:20]
            why = f"{scheme}:// is storage that only its server can read" if "://" in url else "it is no address"
            raise LeftError(shown_url(url), f"{why}: have it served, or use the storage as the source")
        if not services.is_address(url):
            raise LeftError(shown_url(url), "its address cannot be read")
        kept, target, called = self.errand.kept, self.errand.scratch / "image", f"{self.base} {key or url}"
        seen = kept.find(called)
        if is_fixed and seen is not None and kept.bring(seen, target):
            validators = seen.validators
        else:
            validators = self._fetched(services.encoded(url), target, seen, logs_in=logs_in)
        name = self.names.claim(f"images/{services.image_name(wanted, target)}", mark)
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        target.rename(self.folder / name)
        kept.note(called, name, validators)
        self.images += 1
        self.errand.progress(self.done, 0)
        return name

    def _fetched(self, url: str, target: Path, seen: Seen | None, *, logs_in: bool) -> Validators:
        """Put the image at ``target``, from the store if the server reports it as unchanged; returns the server's validators."""
        try:
            unless = None if seen is None else seen.validators
            found = self.download(url, target, logs_in=logs_in, unless=unless)
        except UnchangedError:
            assert seen is not None
            if self.errand.kept.bring(seen, target):
                return seen.validators
            found = self.download(url, target, logs_in=logs_in)
        self.done += found.size
        return found.validators

    def download(self, url: str, target: Path, *, logs_in: bool = True, unless: Validators | None = None) -> Fetched:
        """Download a file, with the login only if the URL is the service's own. Raises as ``bring``, and UnchangedError."""
        client = self.errand.client

        def ask(login: Credentials) -> Fetched:
            return download(client, Wanted(url, target, login, limit=LARGEST_IMAGE, unless=unless))

        try:
            return self.held(ask) if logs_in and services.is_below(self.base, url) else ask(Credentials())
        except UnexpectedStatusError as error:
            raise LeftError(shown_url(url), f"its server answers with HTTP {error.status}") from error

    def leave(self, what: str, annotations: int, error: LeftError) -> None:
        """Record that the entry ``what`` is left out because its image cannot be fetched."""
        name, why = error.args
        self.left.append((shown(f"{what}: {name}")[:400], annotations, why))

    def collected(self, what: str, origin: Origin) -> tuple[SourceFiles, Origin]:
        """The fetched files, with those left out. Raises RefusedError when no image could be fetched."""
        field_named = self.errand.client.field
        if self.left and not self.images:
            raise RefusedError(Reason.SOURCE_INVALID, f"no image could be fetched: {self._said}", field_named)
        tree = volume.collected(what, Folder(self.folder), self.folder, field_named)
        excluded = Exclusion.of((name for name, _, _ in self.left), ExclusionReason.NOT_FETCHED)
        told = (f"images could not be fetched, and what they belong to is left out: {self._said}",) if self.left else ()
        tree = replace(tree, excluded=(*tree.excluded, *excluded), warnings=(*tree.warnings, *told))
        return tree, fetched.counted(origin.model_copy(update={"bytes": self.done}), tree)

    @property
    def _said(self) -> str:
        counts = Counter(why for *_, why in self.left).most_common(3)
        drawn = sum(count for _, count, _ in self.left)
        reasons = "; ".join(f"{count} since {why}" for why, count in counts)
        return f"{reasons} (with {drawn} annotations): {format_names(name for name, _, _ in self.left)}"
