"""How often served schemas are read: often until they fit, and rarely afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pelagos.api import crds, kinds
from pelagos.engines.kubernetes import served_kinds
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest


class Definitions(KubernetesRest):
    """Serves definitions from memory and counts requests."""

    def __init__(self) -> None:
        super().__init__("https://nowhere", tls=None)
        self.bodies: dict[str, Mapping[str, Any]] = {kind.crd: crds.render(kind) for kind in kinds.KINDS}
        self.asked = 0

    async def get(self, path: str, *, timeout: float = 10.0) -> Answer:
        self.asked += 1
        found = self.bodies.get(path.rsplit("/", 1)[1])
        return Answer(200, found) if found else Answer(403, {"message": "forbidden"})


async def test_schemas_that_fit_are_looked_at_again_after_ten_minutes() -> None:
    api, now = Definitions(), [0.0]
    served = served_kinds.Served(api, clock=lambda: now[0])

    for second in (0, 10, 599):
        now[0] = second
        assert await served.outdated() is None
    assert api.asked == len(kinds.KINDS)

    now[0] = 601
    assert await served.outdated() is None
    assert api.asked == 2 * len(kinds.KINDS)


async def test_schemas_that_do_not_fit_are_looked_at_every_time() -> None:
    api = Definitions()
    whole = api.bodies["datasets.pelagos.dev"]
    api.bodies["datasets.pelagos.dev"] = {"spec": {"versions": []}}
    served = served_kinds.Served(api, clock=lambda: 0.0)

    first = await served.outdated()
    assert first is not None
    assert "datasets.pelagos.dev belongs to another version of Pelagos: its schema lacks apiVersion, kind" in first
    api.bodies["datasets.pelagos.dev"] = whole
    assert await served.outdated() is None


async def test_definitions_that_may_not_be_read_are_taken_for_right() -> None:
    api = Definitions()
    api.bodies.clear()

    assert await served_kinds.outdated(api) == {}


def test_fields_deep_inside_are_compared_and_more_than_ours_is_no_fault() -> None:
    definition = crds.render(kinds.DATASET)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"]["properties"]["later"] = {"type": "string"}
    assert served_kinds.lacking_fields(kinds.DATASET, definition) == []

    del schema["status"]["properties"]["conditions"]["items"]["properties"]["observedGeneration"]
    del schema["spec"]["properties"]["source"]["properties"]["volume"]

    assert served_kinds.lacking_fields(kinds.DATASET, definition) == [
        "spec.source.volume",
        "status.conditions[].observedGeneration",
    ]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.kind)
def test_the_fields_that_are_compared_are_those_of_the_definitions(kind: kinds.Kind) -> None:
    rendered = crds.render(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    assert fields(crds.outline(kind)) == fields(rendered)


def fields(schema: Mapping[str, Any], path: str = "") -> set[str]:
    """Paths of all fields in a schema."""
    found = {f"{path}.{name}" for name in schema.get("properties", {})}
    found |= {each for name, child in schema.get("properties", {}).items() for each in fields(child, f"{path}.{name}")}
    below = [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
    return found.union(*(fields(child, f"{path}[]") for child in below))
