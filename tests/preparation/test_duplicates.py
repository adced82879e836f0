"""Images that show the same: the first by path is kept, whatever order the files are listed in."""

from __future__ import annotations

import math

import pytest

from pelagos_pipelines.preparation import duplicates
from pelagos_pipelines.preparation.integrity import LOOK_BYTES, Inspection


def look(degrees: float) -> bytes:
    """A look from a series that turns from one wave into another; 8 degrees give a distance of 2."""
    waves = [0] * LOOK_BYTES
    waves[2], waves[22] = (round(127 * part(math.radians(degrees))) for part in (math.cos, math.sin))
    return bytes(one & 0xFF for one in waves)


def seen(pixels: str, degrees: float | None = None) -> Inspection:
    shown = None if degrees is None else look(degrees)
    return Inspection(sha256=pixels, size=1, width=64, height=64, pixels=pixels, look=shown)


def test_without_a_distance_only_equal_content_counts() -> None:
    found = duplicates.find({"a": seen("1", 0), "b": seen("2", 0), "c": seen("1", 0)}, max_distance=0)

    assert found.exact == {"c": "a"}
    assert found.near == {}


def test_the_first_by_path_is_kept_in_any_order() -> None:
    images = {"b": seen("1"), "c": seen("1"), "a": seen("1")}

    assert duplicates.find(images, 0).exact == {"b": "a", "c": "a"}
    assert duplicates.find(dict(reversed(images.items())), 0).exact == {"b": "a", "c": "a"}


@pytest.mark.parametrize(("distance", "near"), [(2, {}), (3, {"b": "a"}), (16, {"b": "a"})])
def test_near_means_at_most_so_far(distance: int, near: dict[str, str]) -> None:
    assert duplicates.find({"a": seen("1", 0), "b": seen("2", 10)}, distance).near == near


def test_a_slowly_changing_series_keeps_one_frame_per_step() -> None:
    """Only frames close to a kept frame are dropped, not those that are close to a dropped one."""
    series = {f"{n}": seen(f"{n}", 3.6 * n) for n in range(9)}

    near = duplicates.find(series, 2).near

    assert sorted(set(series) - set(near)) == ["0", "3", "6"]
    assert near["2"] == "0"
    assert near["8"] == "6"


def test_a_copy_of_a_near_duplicate_points_at_the_kept_image() -> None:
    found = duplicates.find({"a": seen("1", 0), "b": seen("2", 3), "c": seen("2", 3)}, 2)

    assert found.first_of == {"b": "a", "c": "a"}
    assert (set(found.exact), set(found.near)) == ({"c"}, {"b"})


def test_plain_images_are_never_near_duplicates() -> None:
    assert duplicates.find({"a": seen("1", None), "b": seen("2", None)}, 16).near == {}
