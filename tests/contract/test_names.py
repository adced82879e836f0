"""Names that extensions register hide none of ours, and are valid in specs and digests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pelagos_contract import families, formats, sources
from pelagos_contract.base import Strict


@pytest.mark.parametrize("name", ["", "a b", "ü", "7seas", "Auto", "preparation", "splitting"])
def test_a_format_whose_name_would_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"a format cannot be called {name!r}"):
        formats.FORMATS.register(replace(formats.COCO, name=name, view="other"))


@pytest.mark.parametrize("name", ["export", "Detection", "Classification"])
def test_a_family_whose_version_would_hide_that_of_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"a family cannot be called {name!r}"):
        families.FAMILIES.register(replace(families.YOLOV8, name=name, architectures=("other",)))


def test_the_architectures_and_views_of_others_are_theirs_too() -> None:
    with pytest.raises(ValueError, match="family 'Mine': 'yolov8n' already belongs to the family 'YOLOv8'"):
        families.FAMILIES.register(replace(families.YOLOV8, name="Mine", architectures=("mine", "yolov8n")))
    with pytest.raises(ValueError, match="format 'Mine': 'coco' already belongs to the format 'Coco'"):
        formats.FORMATS.register(replace(formats.COCO, name="Mine"))
    assert "Mine" not in (*families.FAMILIES.names, *formats.FORMATS.names)


@pytest.mark.parametrize("name", ["", "a b", "Bucket", "my_bucket", "place", "model_dump", "copy", "_set", "__class__"])
def test_a_source_that_cannot_be_a_field_leaves_sources_as_they_were(name: str) -> None:
    before = sources.SOURCES.names
    with pytest.raises(ValueError, match=f"a source cannot be called {name!r}"):
        sources.register(sources.SourceDescription(name, Strict, "nothing"))

    assert before[0] == "volume"
    assert sources.SOURCES.names == before
    assert sources.Source.model_validate({"volume": {"path": "frames"}}).place == "volume"
