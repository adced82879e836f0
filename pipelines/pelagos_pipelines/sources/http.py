"""An archive at a URL: checked for changes by ETag or date, downloaded, verified by its SHA-256, and unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from pelagos_contract.remote_sources import HttpSource, Origin
from pelagos_contract.sources import HTTP
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import Credentials, Wanted, download, shown_url, validators
from pelagos_pipelines.sources import fetched
from pelagos_pipelines.sources.place import Errand, RemotePlace


def look(source: HttpSource, errand: Errand) -> Origin:
    """The state by the SHA-256 in the spec, without a request, else by what the server reports."""
    told = Origin(url=shown_url(source.url), sha256=source.sha256 or "", state=source.sha256 or "")
    if source.sha256:
        return told
    found = validators(errand.client, source.url, _login(source, errand))
    return told.model_copy(update={"modified": found.modified or None, "bytes": found.size, "state": found.state})


def fetch(source: HttpSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the files in the archive."""
    wanted = Wanted(source.url, errand.scratch / "archive", _login(source, errand), sha256=source.sha256 or "")
    found = download(errand.client, wanted, errand.progress)
    tree = fetched.unpacked(_name(source.url), found.path, errand)
    state = origin.state and (source.sha256 or found.validators.state)
    if not source.sha256:
        warning = f"source.http.sha256 is not set, so that whatever stands there is taken; it was {found.sha256} now"
        tree = replace(tree, warnings=(*tree.warnings, warning))
    told = {"sha256": found.sha256, "bytes": found.size, "modified": found.validators.modified or None, "state": state}
    return tree, fetched.counted(origin.model_copy(update=told), tree)


def _name(url: str) -> str:
    """The archive's name for messages."""
    return shown(PurePosixPath(unquote(urlsplit(url).path)).name)[:200] or "the archive"


def _login(source: HttpSource, errand: Errand) -> Credentials:
    del source
    return fetched.login(errand.secret, _credentials, errand)


def _credentials(secret: Mapping[str, str]) -> Credentials:
    if "token" in secret:
        return Credentials.bearer(secret["token"])
    if "username" in secret:
        return Credentials.basic(secret["username"].strip(), secret["password"].strip())
    return Credentials.header(secret["header"].strip(), secret["value"])


PLACE = RemotePlace(HTTP, look, fetch)
