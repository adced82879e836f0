"""Images that show the same: the first by path is kept, whatever the order in which files are listed."""

from __future__ import annotations

import numpy as np
import pytest

from pelagos_pipelines.preparation import duplicates
from pelagos_pipelines.preparation.integrity import Inspection


def seen(pixels: str, phash: int | None = None) -> Inspection:
    return Inspection(sha256=pixels, size=1, width=64, height=64, pixels=pixels, phash=phash)


def test_without_a_distance_only_equal_content_counts() -> None:
    found = duplicates.find({"a": seen("1", 0), "b": seen("2", 0), "c": seen("1", 0)}, max_distance=0)

    assert found.exact == {"c": "a"}
    assert found.near == {}


def test_the_first_by_path_is_kept_in_any_order() -> None:
    images = {"b": seen("1"), "c": seen("1"), "a": seen("1")}

    assert duplicates.find(images, 0).exact == {"b": "a", "c": "a"}
    assert duplicates.find(dict(reversed(images.items())), 0).exact == {"b": "a", "c": "a"}


@pytest.mark.parametrize(("distance", "near"), [(2, {}), (3, {"b": "a"}), (16, {"b": "a"})])
def test_near_means_at_most_so_many_bits(distance: int, near: dict[str, str]) -> None:
    assert duplicates.find({"a": seen("1", 0), "b": seen("2", 0b111)}, distance).near == near


def test_a_slowly_changing_series_keeps_one_frame_per_step() -> None:
    """Each frame differs from the one before in a bit; only frames within two bits of a kept one are dropped."""
    series = {f"{n}": seen(f"{n}", (1 << n) - 1) for n in range(9)}

    near = duplicates.find(series, 2).near

    assert sorted(set(series) - set(near)) == ["0", "3", "6"]
    assert near["2"] == "0"
    assert near["8"] == "6"


def test_a_copy_of_a_near_duplicate_points_at_the_kept_image() -> None:
    found = duplicates.find({"a": seen("1", 0), "b": seen("2", 1), "c": seen("2", 1)}, 2)

    assert found.first_of == {"b": "a", "c": "a"}
    assert (set(found.exact), set(found.near)) == ({"c"}, {"b"})


def test_plain_images_are_never_near_duplicates() -> None:
    assert duplicates.find({"a": seen("1", None), "b": seen("2", None)}, 16).near == {}


def test_the_search_finds_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BATCH", 64)
    generator = np.random.default_rng(5)
    hashes = [int(value) for value in generator.integers(0, 2**63, 150)]
    hashes += [value ^ (1 << int(generator.integers(64))) for value in hashes[:100]]
    images = {f"{n:03d}": seen(f"{n}", value) for n, value in enumerate(hashes)}

    found = duplicates.find(images, 4).near

    kept: list[str] = []
    want: dict[str, str] = {}
    for path in sorted(images):
        first = next((k for k in kept if (hashes[int(k)] ^ hashes[int(path)]).bit_count() <= 4), None)
        if first is None:
            kept.append(path)
        else:
            want[path] = first
    assert found == want
    assert len(found) == 100
