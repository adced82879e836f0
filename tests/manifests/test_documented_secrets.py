"""Runs docs/sources.md, its resources and commands verbatim and in order, on a real API server.

The Secrets that it has people create are those from which the sources above or below them take their keys.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import rendering
from installed import Site
from pelagos_contract.sources import SOURCES

PAGE = (rendering.ROOT / "docs/sources.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|yaml)\n(.*?)^```$", PAGE, re.M | re.S)
CREATING = re.findall(r"^kubectl create secret generic (\S+)", PAGE, re.M)


def _sources(site: Site) -> dict[str, tuple[str, Any]]:
    """The source of each Dataset by the Secret that it names: the kind of place, and its fields."""
    items = yaml.safe_load(site.kubectl("get", "datasets", "--output=yaml"))["items"]
    places = [place for item in items for place in item["spec"]["source"].items()]
    return {fields["secretRef"]["name"]: (kind, fields) for kind, fields in places if "secretRef" in fields}


@pytest.fixture(scope="module")
def site_of_the_page(site: Site) -> Iterator[Site]:
    site.kubectl("apply", "--validate=false", "-k", str(rendering.MANIFESTS / "crds"))
    for language, block in BLOCKS:
        if block.startswith("apiVersion: "):  # parts of a spec are examples
            site.kubectl("create", "--validate=false", "-f", "-", text=block)
        for command in block.splitlines() if language == "sh" else ():
            program, *arguments = shlex.split(command, comments=True) or [""]
            if program:
                assert program == "kubectl"
                site.kubectl(*arguments)
    yield site
    site.kubectl("delete", "secret", *CREATING)
    site.kubectl("delete", "datasets", "--all")
    site.kubectl("delete", "-k", str(rendering.MANIFESTS / "crds"), "--wait=false")
    site.until_gone("pelagos")


@pytest.mark.parametrize("name", CREATING)
def test_a_secret_that_the_page_has_people_make_has_all_keys_of_its_source(site_of_the_page: Site, name: str) -> None:
    kind, fields = _sources(site_of_the_page)[name]
    data = yaml.safe_load(site_of_the_page.kubectl("get", "secret", name, "--output=yaml"))["data"]

    place = SOURCES.named(kind)
    place.fields.model_validate(fields)
    assert tuple(sorted(data)) in [tuple(sorted(keys)) for keys in place.keys]
    assert all(base64.b64decode(value) for value in data.values())
