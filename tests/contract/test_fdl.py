"""Services of OSCAR in its Functions Definition Language."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from pelagos_contract import fdl

WANTED = fdl.Service("urchins", "registry.example/urchins@sha256:0", "#!/bin/sh\nexec true\n", cpu="2", memory="2Gi")


def test_a_service_says_what_is_asked_for_and_nothing_else() -> None:
    assert fdl.service(WANTED) == {
        "name": "urchins",
        "cpu": "2",
        "memory": "2Gi",
        "image": "registry.example/urchins@sha256:0",
        "script": "#!/bin/sh\nexec true\n",
    }


def test_what_is_exposed_names_its_port_and_where_it_says_that_it_is_well() -> None:
    exposed = fdl.Exposed(5000, "/v2/models/", max_scale=3)

    found = fdl.service(replace(WANTED, exposed=exposed))["expose"]

    assert found["api_port"] == [5000]
    assert found["health_path"] == "/v2/models/"
    assert (found["min_scale"], found["max_scale"]) == (1, 3)
    assert found["set_auth"] is True


def test_variables_labels_and_secrets_have_the_shape_of_oscar() -> None:
    wanted = replace(
        WANTED,
        environment={"A": "1"},
        secrets={"B": "2"},
        labels={"c": "3"},
        annotations={"d": "4"},
        pull_secrets=["e"],
    )

    found = fdl.service(wanted)

    assert found["environment"] == {"variables": {"A": "1"}, "secrets": {"B": "2"}}
    assert (found["labels"], found["annotations"], found["image_pull_secrets"]) == ({"c": "3"}, {"d": "4"}, ["e"])


def test_a_document_puts_each_service_under_its_cluster_and_keeps_the_texts_that_look_like_numbers() -> None:
    document = fdl.document([WANTED, replace(WANTED, name="corals", cpu="1.0")], "marine")

    read = yaml.safe_load(yaml.safe_dump(document))

    assert read == json.loads(json.dumps(document))
    assert [each["marine"]["name"] for each in read["functions"]["oscar"]] == ["urchins", "corals"]
    assert [each["marine"]["cpu"] for each in read["functions"]["oscar"]] == ["2", "1.0"]


@pytest.mark.parametrize("name", ["", "Urchins", "9-urchins", "urchins-", "u" * 40, "u_rchins", "u\nrchins"])
def test_a_name_that_oscar_does_not_take_is_refused_before_it_is_asked(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name for an OSCAR service"):
        fdl.service(replace(WANTED, name=name))


@pytest.mark.parametrize(
    ("wanted", "field"),
    [(replace(WANTED, image=" "), "image"), (replace(WANTED, script="\n"), "script")],
    ids=["image", "script"],
)
def test_a_service_without_image_or_script_is_refused(wanted: fdl.Service, field: str) -> None:
    with pytest.raises(ValueError, match=f"needs {field}"):
        fdl.service(wanted)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("urchins", "urchins"),
        ("urchins.of.the-north", "urchins-of-the-north"),
        ("9-urchins", "s-9-urchins"),
        ("u" * 38 + "-north", "u" * 38),
    ],
)
def test_a_name_of_kubernetes_becomes_one_of_oscar(wanted: str, name: str) -> None:
    assert fdl.name_of(wanted) == name
    assert fdl.service(replace(WANTED, name=name))["name"] == name
