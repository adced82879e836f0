"""What every implementation of Registry promises, shown on the fake and on a real MLflow server."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.mlflow_registry import ALIAS_PENDING_TAG, MlflowRegistry
from pelagos.engines.mlflow_rest import AbsentError, MlflowRest, pairs
from pelagos.ports.errors import RejectedError
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.registry import ONNX_SHA256_TAG, RESOURCE_TAG, SHARED_TAG, ModelVersionWant
from pelagos.ports.tracking import UID_TAG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pelagos.ports.registry import Registry


@pytest.fixture
async def rest(mlflow_uri: str) -> AsyncIterator[MlflowRest]:
    rest = MlflowRest(mlflow_uri)
    yield rest
    await rest.close()


@pytest.fixture(params=["fake", "mlflow"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return RegistryFake() if request.param == "fake" else MlflowRegistry(request.getfixturevalue("rest"))


def want(model: str = "", uid: str = "", alias: str | None = "champion") -> ModelVersionWant:
    run = uuid.uuid4().hex
    return ModelVersionWant(
        uid=uid or str(uuid.uuid4()),
        model=model or f"detector-{uuid.uuid4()}",
        alias=alias,
        source=f"runs:/{run}/model",
        run_id=run,
        tags={ONNX_SHA256_TAG: "1" * 64},
    )


async def test_a_version_is_found_by_uid_alias_and_number(registry: Registry) -> None:
    asked = want()
    made = await registry.register(asked)
    assert made.version == "1"
    assert made.aliases == ("champion",)
    assert made.source == asked.source
    assert made.run_id == asked.run_id
    assert made.tags == {UID_TAG: asked.uid, ONNX_SHA256_TAG: "1" * 64}
    assert await registry.find_by_uid(asked.model, asked.uid) == made
    assert await registry.find_by_alias(asked.model, "champion") == made
    assert await registry.find_by_version(asked.model, "1") == made


async def test_what_is_unknown_is_not_found(registry: Registry) -> None:
    made = await registry.register(want(alias=None))
    for model in (made.model, "never heard of"):
        assert await registry.find_by_alias(model, "champion") is None
        assert await registry.find_by_version(model, "7") is None
        assert await registry.find_by_uid(model, "no such uid") is None


async def test_one_resource_registers_once(registry: Registry) -> None:
    asked = want()
    versions = await asyncio.gather(*(registry.register(asked) for _ in range(4)))
    assert {version.version for version in versions} == {"1"}


async def test_a_new_version_takes_the_alias(registry: Registry) -> None:
    first = await registry.register(want())
    second = await registry.register(want(first.model))
    assert second.version == "2"
    assert await registry.find_by_alias(first.model, "champion") == second
    old = await registry.find_by_version(first.model, "1")
    assert old is not None
    assert old.aliases == ()


async def test_an_alias_that_has_moved_on_is_left_where_it_is(registry: Registry) -> None:
    asked = want()
    await registry.register(asked)
    second = await registry.register(want(asked.model))
    again = await registry.register(asked)
    assert (again.version, again.aliases) == ("1", ())
    assert await registry.find_by_alias(asked.model, "champion") == second


async def test_the_uid_counts_within_its_model(registry: Registry) -> None:
    one = await registry.register(want(uid="shared"))
    other = await registry.register(want(uid="shared"))
    assert (await registry.find_by_uid(one.model, "shared")) == one
    assert (await registry.find_by_uid(other.model, "shared")) == other
    await registry.delete_version(one.model, "1")
    await registry.delete_version(other.model, "1")


@pytest.mark.parametrize("name", ["it's", 'the "best" one', 'it\'s "both"', "Größe %20"])
async def test_names_that_mlflow_allows_work(registry: Registry, name: str) -> None:
    asked = want(f"{name} {uuid.uuid4()}")
    made = await registry.register(asked)
    assert await registry.find_by_uid(asked.model, asked.uid) == made
    await registry.delete_version(asked.model, "1")
    assert await registry.find_by_uid(asked.model, asked.uid) is None


async def test_a_name_that_is_not_allowed_is_refused_with_the_reason(registry: Registry) -> None:
    with pytest.raises(RejectedError, match="cannot contain '/' or ':'"):
        await registry.register(want("a/b"))


def of(namespace: str, asked: ModelVersionWant) -> ModelVersionWant:
    return replace(asked, tags={**asked.tags, RESOURCE_TAG: f"trainingrun/{namespace}/detector"})


async def test_a_model_belongs_to_the_namespace_that_registered_first(registry: Registry) -> None:
    first = await registry.register(of("bay", want()))
    assert await registry.owner(first.model) == "bay"

    with pytest.raises(RejectedError, match="belongs to another namespace"):
        await registry.register(of("reef", want(first.model)))

    assert await registry.find_by_alias(first.model, "champion") == first
    assert (await registry.register(of("bay", want(first.model)))).version == "2"
    assert await registry.owner(first.model) == "bay"
    await registry.delete_version(first.model, "1")
    await registry.delete_version(first.model, "2")
    assert await registry.owner(first.model) is None


async def test_a_model_whose_versions_name_no_namespace_belongs_to_nobody(registry: Registry) -> None:
    first = await registry.register(want())
    assert await registry.owner(first.model) is None
    assert (await registry.register(of("reef", want(first.model)))).version == "2"


async def test_a_model_that_a_person_shares_is_open_to_all_namespaces(registry: Registry) -> None:
    first = await registry.register(of("bay", want()))
    if isinstance(registry, RegistryFake):
        await registry.share(first.model)
    else:
        rest: MlflowRest = registry._rest  # type: ignore[attr-defined]
        tag = {"name": first.model, "key": SHARED_TAG, "value": "true"}
        await rest.post("registered-models/set-tag", tag)

    second = await registry.register(of("reef", want(first.model)))

    assert await registry.find_by_alias(first.model, "champion") == second


async def test_the_model_goes_with_its_last_version(registry: Registry) -> None:
    first = await registry.register(want())
    second = await registry.register(want(first.model))
    await registry.delete_version(first.model, first.version)
    await registry.delete_version(first.model, first.version)
    assert await registry.find_by_alias(first.model, "champion") == second
    await registry.delete_version(first.model, second.version)
    await registry.delete_version(first.model, second.version)
    assert await registry.find_by_alias(first.model, "champion") is None
    assert (await registry.register(want(first.model))).version == "1"


async def test_an_empty_model_leaves_nothing_in_mlflow(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    made = await registry.register(want())
    await registry.delete_version(made.model, made.version)
    with pytest.raises(AbsentError):
        await rest.get("registered-models/get", name=made.model)


async def test_a_model_that_a_person_made_stays(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    asked = want()
    await rest.post("registered-models/create", {"name": asked.model})
    await registry.register(asked)
    await registry.delete_version(asked.model, "1")
    assert (await rest.get("registered-models/get", name=asked.model))["registered_model"]["name"] == asked.model


@pytest.mark.parametrize("look", ["register", "find"])
async def test_a_crash_before_the_alias_was_set_is_made_good(rest: MlflowRest, look: str) -> None:
    registry = MlflowRegistry(rest)
    asked = want()
    tags = {UID_TAG: asked.uid, ALIAS_PENDING_TAG: "champion"}
    await rest.post("registered-models/create", {"name": asked.model})
    body = {"name": asked.model, "source": asked.source, "run_id": asked.run_id, "tags": pairs(tags)}
    await rest.post("model-versions/create", body)
    made = await (registry.register(asked) if look == "register" else registry.find_by_uid(asked.model, asked.uid))
    assert made is not None
    assert made.aliases == ("champion",)
    assert made.tags == {UID_TAG: asked.uid}


async def test_who_does_not_lead_finds_a_version_and_leaves_its_alias_where_it_is(
    rest: MlflowRest, mlflow_uri: str
) -> None:
    asked = want()
    tags = {UID_TAG: asked.uid, ALIAS_PENDING_TAG: "champion"}
    await rest.post("registered-models/create", {"name": asked.model})
    body = {"name": asked.model, "source": asked.source, "run_id": asked.run_id, "tags": pairs(tags)}
    await rest.post("model-versions/create", body)

    def refuse(system: str, operation: str) -> None:
        raise NotLeadingError(f"{system}.{operation}")

    fenced = MlflowRest(mlflow_uri, guard=refuse)
    found = await MlflowRegistry(fenced).find_by_uid(asked.model, asked.uid)
    await fenced.close()

    assert found is not None
    assert (found.aliases, found.tags) == ((), tags)
    assert await MlflowRegistry(rest).find_by_alias(asked.model, "champion") is None


async def test_of_two_versions_of_one_resource_the_first_stays(rest: MlflowRest) -> None:
    """Two operators registered at the same time."""
    asked = want()
    registries = [MlflowRegistry(rest), MlflowRegistry(rest)]
    await asyncio.gather(*(registry.register(asked) for registry in registries))
    found = await registries[0].find_by_uid(asked.model, asked.uid)
    assert found is not None
    assert found.version == "1"
    assert await registries[0].find_by_version(asked.model, "2") is None
