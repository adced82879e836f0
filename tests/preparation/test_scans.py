"""Images beyond the usual ceilings, in sources that are cut into tiles: read in little memory, or refused by name."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import other_images
import untrusted_images
from child_memory import Watched
from image_sources import tree_of
from other_images import tiff
from pelagos_contract.preprocessing import Tile
from pelagos_contract.tiles import Place, starts
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.preparation.scanner import IncompleteError, scanner_for
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings

TILE = Tile(size=1024, overlap=128)
NOISE: Any = np.random.default_rng(5).integers(0, 256, (1_000, 1_500), np.uint8)
"""More than one megapixel."""
MEMORY = 200


@pytest.fixture(autouse=True)
def _ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "IMAGE_MEGAPIXELS": 1,
        "SCAN_MEGAPIXELS": 120,
        "SCAN_MEBIBYTES": 200,
        "IMAGE_MEMORY": MEMORY,
    }.items():
        monkeypatch.setenv(f"PELAGOS_MAX_{name}", str(value))


def look(folder: Path, tile: Tile | None = TILE) -> dict[str, Inspection]:
    return integrity.inspect_tree(tree_of(folder), folder / ".memory", tile=tile)


def problem(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return look(folder)[name].problem or "accepted"


def png(image: Any) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def test_the_limit_on_pixels_is_raised_where_tiles_are_asked_for_alone(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(png(NOISE))

    assert "at most 1 megapixels" in (look(tmp_path, None)["scan.png"].problem or "")
    assert look(tmp_path)["scan.png"].problem is None
    assert "at most 1 megapixels" in (look(tmp_path, None)["scan.png"].problem or "")


@pytest.mark.parametrize(
    "content", [png(NOISE), tiff(NOISE), tiff(NOISE, deflate=True), tiff(NOISE.astype(np.uint16) * 9)]
)
def test_a_scan_is_found_to_be_what_a_usual_image_with_its_pixels_is(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan.any").write_bytes(content)
    (tmp_path / "scan.any").rename(tmp_path / ("scan.png" if content.startswith(b"\x89") else "scan.tif"))
    (found,) = look(tmp_path).values()
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEGAPIXELS", "2")
    (usual,) = look(tmp_path).values()

    assert (found.width, found.height, found.sha256) == (usual.width, usual.height, usual.sha256)
    assert (found.measures, found.look, found.remarks) == (usual.measures, usual.look, usual.remarks)


def test_a_scan_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scan.png").write_bytes(png(NOISE))
    first = look(tmp_path)
    monkeypatch.setattr("pelagos_pipelines.preparation.scanner.Scanner.inspect", None)

    assert look(tmp_path) == first


def test_an_image_that_fits_in_a_tile_keeps_to_the_usual_ceilings(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(NOISE))

    assert "at most 1 megapixels" in (look(tmp_path, Tile(size=1500, overlap=0))["image.png"].problem or "")


@pytest.mark.parametrize("packing", ["plain", "deflate", "PNG"])
def test_a_scan_is_read_and_cut_in_less_memory_than_its_pixels_take(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEMORY", "64")
    file = tmp_path / ("scan.png" if packing == "PNG" else "scan.tif")
    wide, high = 10_000, 8_000
    if packing == "plain":
        head = tiff(
            np.zeros((1, 1), np.uint8), more={256: [wide], 257: [high], 278: [high], 273: [4096], 279: [wide * high]}
        )
        with file.open("wb") as written:
            written.write(head.ljust(4096, b"\0"))
            written.truncate(4096 + wide * high)
    elif packing == "deflate":
        file.write_bytes(other_images.tiff_of(wide, high, _deflated(wide * high)))
    else:
        file.write_bytes(untrusted_images.png(wide, high, _rows(wide, high), kind=0))
    scanner = scanner_for(Ceilings.read())
    found = look(tmp_path)[file.name]
    assert found.problem is None
    scanner.cut(
        tree_of(tmp_path),
        file.name,
        found.sha256,
        (wide, high),
        Tile(size=4096, overlap=0),
        lambda place, png: None,
    )


def _rows(wide: int, high: int) -> bytes:
    return bytes((wide + 1) * high)


def _deflated(size: int) -> bytes:
    return zlib.compress(bytes(size), 1)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a truncated TIFF": (lambda: tiff(NOISE)[:-500_000], "damaged"),
    "a TIFF whose deflate is damaged": (lambda: _flipped(tiff(NOISE, deflate=True)), "damaged"),
    "a truncated PNG": (lambda: png(NOISE)[:700_000], "damaged"),
    "a PNG with a wrong checksum": (lambda: _flipped(png(NOISE)), "damaged"),
    "a PNG of fewer rows": (lambda: untrusted_images.png(1_500, 1_000, bytes(1_501 * 999), kind=0), "damaged"),
    "a PNG of an unknown filter": (lambda: untrusted_images.png(1_500, 1_000, b"\7" * 1_501_000, kind=0), "damaged"),
    "a TIFF of 60000 x 60000": (other_images.BOMBS["a TIFF of 60000 x 60000"], "PELAGOS_MAX_SCAN_MEGAPIXELS"),
    "a TIFF with tiles of 60000 x 60000": (
        other_images.BOMBS["a TIFF with tiles of 60000 x 60000"],
        "PELAGOS_MAX_SCAN_MEGAPIXELS",
    ),
    "a BMP of 60000 x 60000": (other_images.BOMBS["a BMP of 60000 x 60000"], "PELAGOS_MAX_SCAN_MEGAPIXELS"),
    "a PNG of 12000 x 12000": (lambda: untrusted_images.blank(12_000, 12_000), "PELAGOS_MAX_SCAN_MEGAPIXELS"),
    "a WebP of 10000 x 10000": (lambda: _webp(10_000), "PELAGOS_MAX_IMAGE_MEMORY"),
    "a TIFF of LZW in one strip": (lambda: other_images.tiff_of(11_000, 10_000, bytes(50), 5), "damaged|MEMORY"),
    "a TIFF of tiles without a side": (lambda: tiff(NOISE, tile=64, more={322: [0]}), "damaged"),
    "a TIFF without pixels": (lambda: tiff(NOISE, more={256: [0]}), "damaged"),
}


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def _webp(side: int) -> bytes:
    return bytes(cv2.imencode(".webp", np.zeros((side, side, 3), np.uint8))[1])


@pytest.mark.parametrize("name", BAD)
def test_what_was_made_to_hurt_is_refused_by_name_and_within_the_ceilings(name: str, tmp_path: Path) -> None:
    made, words = BAD[name]
    suffix = {"TIFF": "tif", "PNG": "png", "BMP": "bmp", "WebP": "webp"}[re.findall("TIFF|PNG|BMP|WebP", name)[0]]
    with Watched(scanner_for(Ceilings.read()).pool) as watched:
        found = problem(tmp_path, f"scan.{suffix}", made())

    assert re.search(words, found), found
    assert watched.peak() < (MEMORY + 150) * MEBIBYTE


def test_a_file_of_more_bytes_than_the_ceiling_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "scan.tif").open("wb") as file:
        file.truncate(10**12)

    assert "PELAGOS_MAX_SCAN_MEBIBYTES" in (look(tmp_path)["scan.tif"].problem or "")


def test_strips_of_one_row_each_are_read(tmp_path: Path) -> None:
    found = problem(tmp_path, "scan.tif", other_images.saved(NOISE, "TIFF", compression="tiff_lzw", tiffinfo={278: 1}))

    assert found == "accepted"


def test_a_file_that_changed_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(png(NOISE))
    scanner = scanner_for(Ceilings.read())

    with pytest.raises(IncompleteError, match="changed"):
        scanner.cut(tree_of(tmp_path), "scan.png", "0" * 64, (1_500, 1_000), TILE, lambda place, png: None)
    sha256 = look(tmp_path)["scan.png"].sha256
    with pytest.raises(IncompleteError, match="another image"):
        scanner.cut(tree_of(tmp_path), "scan.png", sha256, (1_000, 1_500), TILE, lambda place, png: None)


def test_a_full_disk_ends_the_cutting_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(png(NOISE))
    sha256 = look(tmp_path)["scan.png"].sha256

    def full(place: Place, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        scanner_for(Ceilings.read()).cut(tree_of(tmp_path), "scan.png", sha256, (1_500, 1_000), TILE, full)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 456, 457, 10_000])
@pytest.mark.parametrize("overlap", [0, 56, 128])
def test_tiles_cover_a_side_and_have_at_least_the_overlap_in_common(length: int, overlap: int) -> None:
    found = starts(length, 256, overlap)

    ends = [start + 256 for start in found]
    assert found[0] == 0
    assert max(ends) >= length
    assert all(after <= end - overlap for end, after in zip(ends, found[1:], strict=False))
    assert len(found) == 1 or ends[-1] == length
