"""A version of a Roboflow project: exported, downloaded from the URL that Roboflow returns, and unpacked.

Source: roboflow 1.7.3, ``core/version.py`` and ``adapters/rfapi.py``. The key is in the query, as Roboflow requires, and is only
sent to its API; the archive's URL needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from pelagos_contract.annotation_tools import RoboflowFormat, RoboflowSource
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import ROBOFLOW
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import Credentials, Wanted, download, shown_url
from pelagos_pipelines.sources import fetched, services
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

_PAUSES = (0.2, 15.0)
_NAMES: Mapping[RoboflowFormat, str] = {
    "Coco": "coco",
    "CocoSegmentation": "coco-segmentation",
    "YoloV8": "yolov8",
    "YoloV8Obb": "yolov8-obb",
}
"""Roboflow's names of the export formats."""


class _Version(Told):
    id: Annotated[str, Field(max_length=1000)]
    images: Annotated[int, Field(ge=0)] = 0
    created: float | str | None = None


class _About(Told):
    version: _Version


class _Link(Told):
    link: Annotated[str, Field(min_length=1, max_length=8192)]


class _Export(Told):
    """The state of an export; without ``export`` it is in progress."""

    export: _Link | None = None


def look(source: RoboflowSource, errand: Errand) -> Origin:
    """Check that the version exists; it never changes."""
    about = _asked(source, errand, "", _About).version
    return Origin(
        url=shown_url(source.url),
        version=shown(about.id)[:500],
        state=services.state_of(about.id, about.created, about.images, source.export),
    )


def fetch(source: RoboflowSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the export; missing images of the version are reported."""
    link = errand.client.poll(
        lambda: _asked(source, errand, f"/{_NAMES[source.export]}", _Export).export,
        f"waiting for the export of version {source.version} of Roboflow's {source.project}",
        _PAUSES,
    ).link
    found = download(errand.client, Wanted(link, errand.scratch / "archive"), errand.progress)
    name = f"version {source.version} of {source.project}"
    tree = fetched.unpacked(name, found.path, errand)
    expected = _asked(source, errand, "", _About).version.images
    if len(tree.images) < expected:
        warning = f"Roboflow says that {name} has {expected} images, and exported {len(tree.images)}"
        tree = replace(tree, warnings=(*tree.warnings, warning))
    told = {"sha256": found.sha256, "bytes": found.size}
    return tree, fetched.counted(origin.model_copy(update=told), tree)


def _asked(source: RoboflowSource, errand: Errand, path: str, model: type[services.Model]) -> services.Model:
    url = services.address(source.url, f"/{source.workspace}/{source.project}/{source.version}{path}")
    login = fetched.login(errand.secret, _credentials, errand)
    params: dict[str, Any] = {"nocache": "true"} if path else {}
    return services.understood(errand.client, url, model, errand.client.json(url, login=login, params=params))


def _credentials(secret: Mapping[str, str]) -> Credentials:
    return Credentials.parameter("api_key", secret["token"])


PLACE = RemotePlace(ROBOFLOW, look, fetch)
