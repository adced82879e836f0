"""The committed CRDs are rendered from the types; every API server since 1.20 accepts them and shows them well."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generators import definitions
from pelagos.api import crds, kinds, meta
from pelagos.api.kinds import Kind

ROOT = Path(__file__).parents[2]
CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
LOWER_CASE_NAMES = {"architecture"}
"""Fields whose values are names that others coined; their descriptions say so."""
PARAMETERS = [pytest.param(kind, id=kind.kind) for kind in kinds.KINDS]


def schema(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = crds.render(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below ``node`` with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from nodes(node[name], f"{path}[]")


def fields(kind: Kind, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of spec or status."""
    return nodes(schema(kind)["properties"][part], part)


def test_the_committed_files_are_up_to_date() -> None:
    rendered = definitions.rendered()
    crd_files = {f"manifests/crds/{path.name}" for path in (ROOT / "manifests/crds").glob("*.yaml")}

    assert crd_files <= rendered.keys(), "a CRD of a kind that is no more"
    for name, text in rendered.items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, "run `make generate` and commit what it writes"


@pytest.mark.parametrize("kind", PARAMETERS)
def test_every_field_is_described_in_a_sentence(kind: Kind) -> None:
    for part in ("spec", "status"):
        for path, node in fields(kind, part):
            if not path.endswith("[]"):
                assert node.get("description", "").endswith("."), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_every_field_has_a_type_that_structural_schemas_know(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        is_either = node.get("x-kubernetes-int-or-string", False)
        assert is_either or node.get("type") in {"string", "integer", "boolean", "array", "object"}, path
        assert not (is_either and "type" in node), path
        for forbidden in ("$ref", "anyOf", "oneOf", "allOf", "const", "title", "exclusiveMinimum"):
            assert forbidden not in node, path
        # A field that is reported even if it is empty, which a server of 1.20 takes for null.
        assert ("nullable" in node) == path.endswith("storagePrefix"), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_there_are_no_floats_and_integers_are_64_bit(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        assert node.get("type") != "number", path
        assert (node.get("type") == "integer") == (node.get("format") == "int64"), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_unknown_fields_are_pruned_and_not_forbidden(kind: Kind) -> None:
    """``additionalProperties: false`` is not allowed in a structural schema."""
    assert all(node.get("additionalProperties") is not False for _, node in nodes(schema(kind)))


def nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(nulls(child) for child in value.values())
    return value is None or (isinstance(value, list) and any(nulls(child) for child in value))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_defaults_are_complete_and_without_nulls(kind: Kind) -> None:
    for path, node in fields(kind, "spec"):
        if "default" in node:
            assert not nulls(node["default"]), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_required_fields_have_no_default_and_are_fields(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"


@pytest.mark.parametrize("kind", PARAMETERS)
def test_enums_are_in_camel_case(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        field = path.rsplit(".", 1)[-1]
        if "enum" in node and field not in LOWER_CASE_NAMES:
            acronyms_allowed = {"SGD", "AdamW"}
            assert all(CAMEL_CASE.fullmatch(value) for value in set(node["enum"]) - acronyms_allowed), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_strings_and_lists_of_users_are_bounded(kind: Kind) -> None:
    """Without bounds the API server refuses rules for their cost, and one object could fill etcd."""
    for path, node in fields(kind, "spec"):
        if node.get("type", "string") == "string":
            assert node.keys() & {"maxLength", "enum", "pattern"}, path
        if node.get("type") == "array":
            assert "maxItems" in node, path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_patterns_are_anchored(kind: Kind) -> None:
    for path, node in nodes(schema(kind)):
        if "pattern" in node:
            assert node["pattern"].startswith("^"), path
            assert node["pattern"].endswith("$"), path


@pytest.mark.parametrize("kind", PARAMETERS)
def test_status_is_a_subresource_and_conditions_merge_by_type(kind: Kind) -> None:
    version = crds.render(kind)["spec"]["versions"][0]
    conditions = schema(kind)["properties"]["status"]["properties"]["conditions"]

    assert version["subresources"]["status"] == {}
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    required = {"type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"}
    assert set(conditions["items"]["required"]) == required


def at(kind: Kind, path: str) -> dict[str, Any]:
    return functools.reduce(lambda node, name: node["properties"][name], path.split(".")[1:], schema(kind))


def test_what_has_replicas_can_be_scaled_and_nothing_else() -> None:
    scaled = {kind.kind: crds.render(kind)["spec"]["versions"][0]["subresources"].get("scale") for kind in kinds.KINDS}

    assert [name for name, found in scaled.items() if found] == ["ModelService"]
    paths = scaled["ModelService"]
    # Without replicas in spec a server answers with an error, so they have a default.
    asked = at(kinds.MODEL_SERVICE, paths["specReplicasPath"])
    assert (asked["type"], asked["default"]) == ("integer", 1)
    assert at(kinds.MODEL_SERVICE, paths["statusReplicasPath"])["type"] == "integer"
    assert at(kinds.MODEL_SERVICE, paths["labelSelectorPath"])["type"] == "string"


def test_names_are_distinct_and_in_one_category() -> None:
    names = [crds.render(kind)["spec"]["names"] for kind in kinds.KINDS]
    shorts = [short for name in names for short in name["shortNames"]]

    assert shorts == ["imgds", "trun", "msvc", "trial"]
    assert all(name["categories"] == ["pelagos"] for name in names)
    assert [name["plural"] for name in names] == [name["singular"] + "s" for name in names]


@pytest.mark.parametrize("kind", PARAMETERS)
def test_columns_show_fields_that_there_are(kind: Kind) -> None:
    columns = crds.render(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    paths = dict(nodes({"properties": schema(kind)["properties"]}))

    assert [column["name"] for column in columns][:2] == ["Ready", "Reason"]
    assert columns[-1]["name"] == "Age"
    for column in columns:
        if "conditions[?" in column["jsonPath"] or column["jsonPath"].startswith(".metadata"):
            continue
        assert paths[column["jsonPath"]]["type"] == column["type"], column


@pytest.mark.parametrize("kind", PARAMETERS)
def test_rules_across_fields_are_rendered_with_their_messages(kind: Kind) -> None:
    rendered = schema(kind)["properties"]["spec"].get("x-kubernetes-validations", [])

    for rule in kind.spec.rules():
        assert {"rule": rule.cel, "message": rule.message} in rendered
        assert rule.message.startswith("spec.")
        assert rule.message.startswith(rule.field)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_frozen_fields_carry_the_rule_of_immutability(kind: Kind) -> None:
    properties = schema(kind)["properties"]["spec"]["properties"]

    immutable = {
        name
        for name, node in properties.items()
        if any(rule["rule"] == "self == oldSelf" for rule in node.get("x-kubernetes-validations", ()))
    }
    assert immutable == set(kind.frozen)


def test_frozen_fields_that_are_optional_may_neither_come_nor_go() -> None:
    """``self == oldSelf`` is not evaluated for a field that exists in only one of the two."""
    spec = schema(kinds.TRAINING_RUN)["properties"]["spec"]
    optional = [
        name
        for name in kinds.TRAINING_RUN.frozen
        if name not in spec["required"] and "default" not in spec["properties"][name]
    ]

    assert optional == ["earlyStopping", "search"]
    rules = [rule["rule"] for rule in spec["x-kubernetes-validations"]]
    assert "has(self.earlyStopping) == has(oldSelf.earlyStopping)" in rules


def test_the_files_say_that_they_are_generated() -> None:
    for name, text in definitions.rendered().items():
        if name.endswith((".yaml", ".yml", ".md")) and Path(name).parent.name != "samples":  # the package's own
            assert "Generated by `make generate`" in "".join(text.splitlines()[:2])
        if name.startswith("manifests/crds/") and name.endswith(".yaml"):
            assert yaml.safe_load(text)["metadata"]["name"].endswith(meta.GROUP)
