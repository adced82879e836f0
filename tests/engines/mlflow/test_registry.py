"""What every implementation of Registry promises, shown on the fake and on a real MLflow server."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pelagos.engines.mlflow.notation import pairs
from pelagos.engines.mlflow.registry import ALIAS_PENDING_TAG, MlflowRegistry
from pelagos.engines.mlflow.rest import AbsentError, ExistsError, MlflowRest
from pelagos.ports.errors import ChangedError, RejectedError
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.registry import DesiredModelVersion, ModelVersion, namespace_in
from pelagos_contract.tags import ALIAS_TAG, INSTEAD_OF_TAG, NOBODY, ONNX_SHA256_TAG, RESOURCE_TAG, SEAL_TAG, UID_TAG

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


SEALED = {RESOURCE_TAG: "trainingrun/bay/detector", SEAL_TAG: "ours"}


def owned(version: ModelVersion) -> str | None:
    """The uid of a version's owner as the operator derives it, but without cryptography."""
    return namespace_in(version.tags) if version.tags.get(SEAL_TAG) == "ours" else None


async def plant(registry: Registry, model: str, tags: dict[str, str]) -> str:
    """Create a version as somebody else; returns its number."""
    if isinstance(registry, RegistryFake):
        return registry.plant(model, tags).version
    rest: MlflowRest = registry._rest  # type: ignore[attr-defined]
    with contextlib.suppress(ExistsError):
        await rest.post("registered-models/create", {"name": model})
    body = {"name": model, "source": "runs:/0/theirs", "run_id": "0", "tags": pairs(tags)}
    return str((await rest.post("model-versions/create", body))["model_version"]["version"])


def want(model: str = "", uid: str = "", alias: str | None = "champion") -> DesiredModelVersion:
    run = uuid.uuid4().hex
    return DesiredModelVersion(
        uid=uid or str(uuid.uuid4()),
        model=model or f"detector-{uuid.uuid4()}",
        alias=alias,
        source=f"runs:/{run}/model",
        run_id=run,
        tags={ONNX_SHA256_TAG: "1" * 64} | SEALED | ({ALIAS_TAG: alias} if alias else {}),
    )


async def test_a_version_is_found_by_uid_alias_and_number(registry: Registry) -> None:
    asked = want()
    made = await registry.register(asked, owned)
    assert made.version == "1"
    assert made.aliases == ("champion",)
    assert made.source == asked.source
    assert made.run_id == asked.run_id
    assert made.tags == {**asked.tags, UID_TAG: asked.uid}
    assert await registry.find_by_uid(asked.model, asked.uid, owned) == made
    assert await registry.find_by_alias(asked.model, "champion") == made
    assert await registry.find_by_version(asked.model, "1") == made


async def test_what_is_unknown_is_not_found(registry: Registry) -> None:
    made = await registry.register(want(alias=None), owned)
    for model in (made.model, "never heard of"):
        assert await registry.find_by_alias(model, "champion") is None
        assert await registry.find_by_version(model, "7") is None
        assert await registry.find_by_uid(model, "no such uid", owned) is None


async def test_one_resource_registers_once(registry: Registry) -> None:
    asked = want()
    versions = await asyncio.gather(*(registry.register(asked, owned) for _ in range(4)))
    assert {version.version for version in versions} == {"1"}


async def test_a_new_version_takes_the_alias(registry: Registry) -> None:
    first = await registry.register(want(), owned)
    second = await registry.register(want(first.model), owned)
    assert second.version == "2"
    assert await registry.find_by_alias(first.model, "champion") == second
    old = await registry.find_by_version(first.model, "1")
    assert old is not None
    assert old.aliases == ()


async def test_an_alias_that_has_moved_on_is_left_where_it_is(registry: Registry) -> None:
    asked = want()
    await registry.register(asked, owned)
    second = await registry.register(want(asked.model), owned)
    again = await registry.register(asked, owned)
    assert (again.version, again.aliases) == ("1", ())
    assert await registry.find_by_alias(asked.model, "champion") == second


def instead_of(number: str, asked: DesiredModelVersion) -> DesiredModelVersion:
    """The desired version for a model that was compared with the version that had the alias."""
    return replace(asked, instead_of=number, tags={**asked.tags, INSTEAD_OF_TAG: number})


async def test_of_two_that_were_compared_with_the_same_one_the_second_takes_nothing(registry: Registry) -> None:
    first = await registry.register(instead_of(NOBODY, want()), owned)
    second = await registry.register(instead_of("1", want(first.model)), owned)
    late = instead_of("1", want(first.model))

    for _ in range(2):
        with pytest.raises(ChangedError, match=r"the alias champion of .* now belongs to version 2"):
            await registry.register(late, owned)

    assert await registry.find_by_alias(first.model, "champion") == second
    assert await registry.find_by_uid(first.model, late.uid, owned) is None
    assert (await registry.register(replace(late, instead_of="2"), owned)).version == "3"


async def test_of_two_at_once_one_takes_the_alias(registry: Registry) -> None:
    first = await registry.register(want(), owned)
    racing = [instead_of("1", want(first.model)) for _ in range(4)]

    made = await asyncio.gather(*(registry.register(each, owned) for each in racing), return_exceptions=True)

    assert sorted(type(each).__name__ for each in made) == ["ChangedError"] * 3 + ["ModelVersion"]
    assert await registry.find_by_version(first.model, "3") is None


async def left_pending(rest: MlflowRest, asked: DesiredModelVersion) -> None:
    """Leave a version as an operator does that dies before it moves the alias."""
    tags = {**asked.tags, UID_TAG: asked.uid, ALIAS_PENDING_TAG: asked.alias or ""}
    body = {"name": asked.model, "source": asked.source, "run_id": asked.run_id, "tags": pairs(tags)}
    await rest.post("model-versions/create", body)


async def test_one_that_a_crash_left_without_its_alias_comes_before_others(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    first = await registry.register(want(), owned)
    crashed = instead_of("1", want(first.model))
    await left_pending(rest, crashed)

    with pytest.raises(ChangedError, match="now belongs to version 2"):
        await registry.register(instead_of("1", want(first.model)), owned)

    found = await registry.find_by_uid(first.model, crashed.uid, owned)
    assert found is not None
    assert (found.version, found.aliases) == ("2", ("champion",))


async def test_one_that_a_crash_delayed_takes_the_alias_from_no_other_than_it_was_compared_with(
    rest: MlflowRest,
) -> None:
    registry = MlflowRegistry(rest)
    first = await registry.register(want(), owned)
    crashed = instead_of("1", want(first.model))
    await left_pending(rest, crashed)
    await rest.delete("registered-models/alias", {"name": first.model, "alias": "champion"})

    found = await registry.find_by_uid(first.model, crashed.uid, owned)

    assert found is not None
    assert (found.version, found.aliases) == ("2", ())
    assert await registry.find_by_alias(first.model, "champion") is None


async def test_the_uid_counts_within_its_model(registry: Registry) -> None:
    one = await registry.register(want(uid="shared"), owned)
    other = await registry.register(want(uid="shared"), owned)
    assert (await registry.find_by_uid(one.model, "shared", owned)) == one
    assert (await registry.find_by_uid(other.model, "shared", owned)) == other
    await registry.delete_version(one.model, "1")
    await registry.delete_version(other.model, "1")


@pytest.mark.parametrize("name", ["it's", 'the "best" one', 'it\'s "both"', "Größe %20"])
async def test_names_that_mlflow_allows_work(registry: Registry, name: str) -> None:
    asked = want(f"{name} {uuid.uuid4()}")
    made = await registry.register(asked, owned)
    assert await registry.find_by_uid(asked.model, asked.uid, owned) == made
    await registry.delete_version(asked.model, "1")
    assert await registry.find_by_uid(asked.model, asked.uid, owned) is None


async def test_a_name_that_is_not_allowed_is_refused_with_the_reason(registry: Registry) -> None:
    with pytest.raises(RejectedError, match="cannot contain '/' or ':'"):
        await registry.register(want("a/b"), owned)


def of(namespace: str, asked: DesiredModelVersion) -> DesiredModelVersion:
    return replace(asked, tags={**asked.tags, RESOURCE_TAG: f"trainingrun/{namespace}/detector"})


async def test_a_model_belongs_to_the_namespace_that_registered_first(registry: Registry) -> None:
    first = await registry.register(of("bay", want()), owned)
    assert await registry.owner(first.model, owned) == "bay"

    with pytest.raises(RejectedError, match="belongs to another namespace"):
        await registry.register(of("reef", want(first.model)), owned)

    assert await registry.find_by_alias(first.model, "champion") == first
    assert (await registry.register(of("bay", want(first.model)), owned)).version == "2"
    assert await registry.owner(first.model, owned) == "bay"
    await registry.delete_version(first.model, "1")
    await registry.delete_version(first.model, "2")
    assert await registry.owner(first.model, owned) is None


async def test_a_model_with_versions_of_others_alone_belongs_to_nobody(registry: Registry) -> None:
    """Even if their tags name a namespace."""
    model = f"detector-{uuid.uuid4()}"
    assert await plant(registry, model, {RESOURCE_TAG: "trainingrun/bay/detector"}) == "1"
    assert await registry.owner(model, owned) is None
    assert (await registry.register(of("reef", want(model)), owned)).version == "2"
    assert await registry.owner(model, owned) == "reef"


async def test_a_namespace_that_shares_lets_others_register(registry: Registry) -> None:
    first = await registry.register(of("bay", want()), owned)

    asked = replace(of("reef", want(first.model)), sharing=("bay",))
    second = await registry.register(asked, owned)

    assert await registry.find_by_alias(first.model, "champion") == second


async def test_a_strangers_version_with_our_uid_is_neither_adopted_nor_deleted(registry: Registry) -> None:
    asked = want()
    tags = {**asked.tags, UID_TAG: asked.uid, SEAL_TAG: "theirs"}
    assert await plant(registry, asked.model, tags) == "1"
    assert await registry.find_by_uid(asked.model, asked.uid, owned) is None

    assert (await registry.register(asked, owned)).version == "2"

    assert await registry.find_by_version(asked.model, "1") is not None
    found = await registry.find_by_uid(asked.model, asked.uid, owned)
    assert found is not None
    assert found.version == "2"


async def test_an_alias_that_a_stranger_marks_as_pending_is_not_moved(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    made = await registry.register(want(alias=None), owned)
    tag = {"name": made.model, "version": "1", "key": ALIAS_PENDING_TAG, "value": "champion"}
    await rest.post("model-versions/set-tag", tag)
    assert await registry.find_by_uid(made.model, made.tags[UID_TAG], owned) is not None
    assert await registry.find_by_alias(made.model, "champion") is None


async def test_the_model_goes_with_its_last_version(registry: Registry) -> None:
    first = await registry.register(want(), owned)
    second = await registry.register(want(first.model), owned)
    await registry.delete_version(first.model, first.version)
    await registry.delete_version(first.model, first.version)
    assert await registry.find_by_alias(first.model, "champion") == second
    await registry.delete_version(first.model, second.version)
    await registry.delete_version(first.model, second.version)
    assert await registry.find_by_alias(first.model, "champion") is None
    assert (await registry.register(want(first.model), owned)).version == "1"


async def test_an_empty_model_leaves_nothing_in_mlflow(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    made = await registry.register(want(), owned)
    await registry.delete_version(made.model, made.version)
    with pytest.raises(AbsentError):
        await rest.get("registered-models/get", name=made.model)


async def test_a_model_that_a_person_made_stays(rest: MlflowRest) -> None:
    registry = MlflowRegistry(rest)
    asked = want()
    await rest.post("registered-models/create", {"name": asked.model})
    await registry.register(asked, owned)
    await registry.delete_version(asked.model, "1")
    assert (await rest.get("registered-models/get", name=asked.model))["registered_model"]["name"] == asked.model


@pytest.mark.parametrize("look", ["register", "find"])
async def test_a_crash_before_the_alias_was_set_is_made_good(rest: MlflowRest, look: str) -> None:
    registry = MlflowRegistry(rest)
    asked = want()
    tags = {**asked.tags, UID_TAG: asked.uid, ALIAS_PENDING_TAG: "champion"}
    await rest.post("registered-models/create", {"name": asked.model})
    body = {"name": asked.model, "source": asked.source, "run_id": asked.run_id, "tags": pairs(tags)}
    await rest.post("model-versions/create", body)
    made = await (
        registry.register(asked, owned) if look == "register" else registry.find_by_uid(asked.model, asked.uid, owned)
    )
    assert made is not None
    assert made.aliases == ("champion",)
    assert made.tags == {**asked.tags, UID_TAG: asked.uid}


async def test_who_does_not_lead_finds_a_version_and_leaves_its_alias_where_it_is(
    rest: MlflowRest, mlflow_uri: str
) -> None:
    asked = want()
    tags = {**asked.tags, UID_TAG: asked.uid, ALIAS_PENDING_TAG: "champion"}
    await rest.post("registered-models/create", {"name": asked.model})
    body = {"name": asked.model, "source": asked.source, "run_id": asked.run_id, "tags": pairs(tags)}
    await rest.post("model-versions/create", body)

    def refuse(system: str, operation: str) -> None:
        raise NotLeadingError(f"{system}.{operation}")

    fenced = MlflowRest(mlflow_uri, guard=refuse)
    found = await MlflowRegistry(fenced).find_by_uid(asked.model, asked.uid, owned)
    await fenced.close()

    assert found is not None
    assert (found.aliases, found.tags) == ((), tags)
    assert await MlflowRegistry(rest).find_by_alias(asked.model, "champion") is None


async def test_of_two_versions_of_one_resource_the_first_stays(rest: MlflowRest) -> None:
    """Two operators registered at the same time."""
    asked = want()
    registries = [MlflowRegistry(rest), MlflowRegistry(rest)]
    await asyncio.gather(*(registry.register(asked, owned) for registry in registries))
    found = await registries[0].find_by_uid(asked.model, asked.uid, owned)
    assert found is not None
    assert found.version == "1"
    assert await registries[0].find_by_version(asked.model, "2") is None


class OvertakenRest(MlflowRest):
    """Between a search and the next request, another operator deletes the second of the two versions found."""

    async def get(self, operation: str, **parameters: str) -> dict[str, Any]:
        answer = await super().get(operation, **parameters)
        found = answer.get("model_versions", ())
        if len(found) > 1:
            second = max(found, key=lambda version: int(version["version"]))
            await super().delete("model-versions/delete", {"name": second["name"], "version": second["version"]})
        return answer


async def test_a_version_that_another_operator_deletes_meanwhile_is_passed_over(
    rest: MlflowRest, mlflow_uri: str
) -> None:
    asked = want()
    first = await MlflowRegistry(rest).register(asked, owned)
    await plant(MlflowRegistry(rest), asked.model, {**asked.tags, UID_TAG: asked.uid})
    overtaken = OvertakenRest(mlflow_uri)

    again = await MlflowRegistry(overtaken).register(asked, owned)
    await overtaken.close()

    assert again == first


async def test_all_versions_with_a_uid_are_listed_and_others_are_not(registry: Registry) -> None:
    made = [await registry.register(want(), owned) for _ in range(2)]
    await plant(registry, made[0].model, {"of": "somebody"})

    found = {(version.model, version.version): version for version in await registry.owned()}

    for version in made:
        assert found[version.model, version.version].tags == version.tags
    assert (made[0].model, "2") not in found
