"""Settings that the engine cannot work with are reported before anything is served, with what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pelagos.engines.oscar import options
from pelagos.settings import Settings

GIVEN: dict[str, Any] = {
    "serving_engine": "oscar",
    "oscar_url": "https://oscar.example/",
    "oscar_token_file": Path("/etc/pelagos/oscar/token"),
    "objects_uri": "s3://bucket/objects",
}


def test_a_url_a_login_and_object_storage_are_enough() -> None:
    settings = Settings(**GIVEN)
    assert options.contradiction(settings) is None
    assert options.access(settings).url == "https://oscar.example"
    assert options.Options.from_settings(settings).keys() == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oscar_url": ""}, "PELAGOS_OSCAR_URL must be the address of the cluster"),
        ({"oscar_url": "https://user:secret@oscar.example"}, "PELAGOS_OSCAR_URL must be the address"),
        ({"oscar_url": "https://oscar.example?a=b"}, "PELAGOS_OSCAR_URL must be the address"),
        ({"oscar_url": "http://oscar.example"}, "use https"),
        ({"oscar_url": "file:///etc/passwd"}, "PELAGOS_OSCAR_URL must be the address"),
        ({"oscar_token_file": None}, "it needs a login"),
        ({"oscar_token_file": None, "oscar_username_file": Path("/user")}, "it needs a login"),
        ({"objects_uri": ""}, "PELAGOS_OBJECTS_URI must be s3://"),
        ({"oscar_storage_access_key_file": Path("/key")}, "belong together"),
    ],
)
def test_what_contradicts_is_named(changes: dict[str, Any], words: str) -> None:
    found = options.contradiction(Settings(**(GIVEN | changes)))
    assert found is not None
    assert words in found
    assert "secret" not in found


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://oscar.oscar.svc:8080", "https://10.0.0.1"])
def test_what_nobody_reads_on_its_way_need_not_be_encrypted(url: str) -> None:
    assert options.contradiction(Settings(**(GIVEN | {"oscar_url": url}))) is None
