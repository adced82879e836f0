"""Whether an image can be used is determined by decoding all of it, and remembered under the digest of its bytes."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import untrusted_images
from image_sources import photo, tree_of
from pelagos_contract import looks
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.sandbox.ceilings import Ceilings


def look_at(content: bytes) -> Inspection:
    inspector = integrity.inspector_for(Ceilings())
    return inspector.inspect(content, hashlib.sha256(content).hexdigest())


def encoded(suffix: str, **options: object) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, suffix, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_a_whole_image_is_measured(suffix: str) -> None:
    content = encoded(suffix)

    found = look_at(content)

    assert found.problem is None
    assert (found.width, found.height, found.size) == (64, 48, len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.99])
def test_a_truncated_file_is_found_wherever_it_ends(suffix: str, share: float) -> None:
    content = encoded(suffix)

    assert look_at(content[: int(len(content) * share)]).problem is not None


def test_pillows_verify_alone_would_not_find_a_truncated_jpeg() -> None:
    """This is why images are decoded completely."""
    content = encoded("JPEG")
    cut = content[: int(len(content) * 0.4)]

    with Image.open(io.BytesIO(cut)) as image:
        image.verify()

    assert look_at(cut).problem is not None


def test_a_progressive_jpeg_is_decoded_to_its_end() -> None:
    content = encoded("JPEG", progressive=True)

    assert look_at(content).problem is None
    assert look_at(content[: int(len(content) * 0.6)]).problem is not None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="nothing"),
        pytest.param(lambda whole: b"<html>404</html>", id="an error page"),
        pytest.param(lambda whole: whole[: len(whole) // 2] + bytes(len(whole) // 2), id="zeros, as after a power cut"),
        pytest.param(lambda whole: b"GIF89a" + whole, id="another format under this name"),
    ],
)
def test_what_is_no_image_is_refused_in_words(damage: Callable[[bytes], bytes]) -> None:
    assert look_at(damage(encoded("PNG"))).problem


def scenery(**options: object) -> bytes:
    """A JPEG of 512 x 384 pixels with the variety of a photograph."""
    drawn = np.random.default_rng(2)
    coarse = Image.fromarray(drawn.integers(0, 256, (24, 32, 3), np.uint8)).resize((512, 384), Image.Resampling.BICUBIC)
    fine = np.asarray(coarse).astype(int) + drawn.integers(-12, 13, (384, 512, 3))
    file = io.BytesIO()
    Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("place", [0.3, 0.45, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("filled", [True, False], ids=["zeros", "cut out"])
def test_a_lost_sector_of_a_jpeg_with_restart_markers_is_found(place: float, *, filled: bool) -> None:
    """Most cameras write restart markers, at which a decoder recovers."""
    whole = scenery(quality=75, restart_marker_rows=1)
    assert look_at(whole).problem is None
    start = int(len(whole) * place)

    assert look_at(whole[:start] + bytes(512 * filled) + whole[start + 512 :]).problem is not None


def test_a_jpeg_that_was_sent_as_text_is_found() -> None:
    whole = scenery(quality=75)
    assert look_at(whole).problem is None

    problem = look_at(whole.replace(b"\n", b"\r\n")).problem

    assert problem is not None
    assert "send it again, in binary mode" in problem


@pytest.mark.parametrize("name", untrusted_images.TAILS)
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_an_image_with_bytes_behind_its_end_is_whole_and_nothing_is_odd_about_it(suffix: str, name: str) -> None:
    whole = scenery() if suffix == "JPEG" else encoded(suffix)

    found = look_at(whole + untrusted_images.TAILS[name]())

    assert (found.problem, found.remarks) == (None, ())
    assert found.pixels == look_at(whole).pixels


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    problem = look_at(png_header(60_000, 60_000)).problem

    assert problem is not None
    assert "60000 x 60000 pixels" in problem
    assert "50 megapixels" in problem
    assert "PELAGOS_MAX_IMAGE_MEGAPIXELS" in problem


def test_sizes_are_upright(tmp_path: Path) -> None:
    content = photo(tmp_path / "turned.jpg", 40, 30, orientation=6).read_bytes()

    found = look_at(content)

    assert (found.width, found.height) == (30, 40)


def test_one_picture_in_two_encodings_has_the_same_pixels() -> None:
    packed, loose = encoded("PNG", compress_level=9), encoded("PNG", compress_level=0)

    assert packed != loose
    assert look_at(packed).pixels == look_at(loose).pixels


def test_pictures_of_other_shape_have_other_pixels() -> None:
    """Four white pixels in a row are not a square of four white pixels."""
    row, square = (io.BytesIO(), io.BytesIO())
    Image.new("RGB", (4, 1), "white").save(row, "PNG")
    Image.new("RGB", (2, 2), "white").save(square, "PNG")

    assert look_at(row.getvalue()).pixels != look_at(square.getvalue()).pixels


def of_pixels(pixels: object, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG", **options)
    return file.getvalue()


def test_a_jpeg_of_twelve_bits_is_refused_in_words() -> None:
    eight = encoded("JPEG")
    place = eight.index(b"\xff\xc0") + 4

    problem = look_at(eight[:place] + b"\x0c" + eight[place + 1 :]).problem

    assert problem == "it is a JPEG of 12 bits a sample, and 8 are read; save it as PNG of 16 bits"


class TestIdentity:
    """Images are the same if everything their files show is the same."""

    rows: Any = np.arange(48, dtype=np.uint16).reshape(6, 8)

    @pytest.mark.parametrize("shift", [0, 4, 8])
    def test_pictures_that_differ_in_their_lower_bits_differ(self, shift: int) -> None:
        one, other = self.rows << shift, self.rows << shift
        other[2, 3] += 1

        assert look_at(of_pixels(one)).pixels != look_at(of_pixels(other)).pixels

    def test_a_picture_of_other_depth_is_another(self) -> None:
        assert look_at(of_pixels(self.rows)).pixels != look_at(of_pixels(self.rows.astype(np.uint8))).pixels

    @pytest.mark.parametrize("channels", [2, 4])
    def test_pictures_that_are_transparent_elsewhere_differ(self, channels: int) -> None:
        one: Any = np.zeros((6, 8, channels), np.uint8)
        other = one.copy()
        other[2, 3, -1] = 200

        first, second = look_at(of_pixels(one)), look_at(of_pixels(other))

        assert first.pixels != second.pixels
        assert first.remarks == second.remarks == ("transparent",)

    def test_a_picture_that_could_be_transparent_is_the_one_that_could_not(self) -> None:
        colours = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8)
        opaque = np.dstack((colours, np.full((6, 8), 255, np.uint8)))

        found = look_at(of_pixels(opaque))

        assert (found.pixels, found.remarks) == (look_at(of_pixels(colours)).pixels, ())


class TestRemarks:
    """Oddities of files that are used nevertheless."""

    def test_a_jpeg_that_lacks_its_end_marker_alone(self) -> None:
        whole = encoded("JPEG")

        found = look_at(whole[:-2])

        assert (found.problem, found.remarks) == (None, ("no end marker",))
        assert found.pixels == look_at(whole).pixels

    def test_what_follows_the_end_marker_is_nothing_odd(self) -> None:
        assert look_at(encoded("JPEG") + bytes(50)).remarks == ()

    def test_bytes_in_front_of_the_end_marker(self) -> None:
        assert look_at(encoded("JPEG")[:-2] + bytes(50) + b"\xff\xd9").remarks == ("stray bytes",)

    def test_a_progressive_jpeg_that_lacks_its_end_marker_alone(self) -> None:
        assert look_at(encoded("JPEG", progressive=True)[:-2]).remarks == ("no end marker",)

    @pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
    @pytest.mark.parametrize(
        ("orientation", "remark"), [(2, "flipped"), (3, "flipped"), (4, "flipped"), (5, "turned"), (8, "turned")]
    )
    def test_a_photo_that_its_exif_turns(self, suffix: str, orientation: int, remark: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation

        assert look_at(encoded(suffix, exif=exif)).remarks == (remark,)
        assert look_at(encoded(suffix)).remarks == ()

    def test_a_child_cannot_remark_what_it_likes(self) -> None:
        measured = {"grey": 9, "grey2": 81, "clipped": 0, "edges": 0, "edges2": 0, "among": 1}
        told = {"width": 1, "height": 1, "pixels": "0" * 64, "remarks": ["<b>", "turned"], "measures": measured}
        found = integrity._inspection("", 1, told)

        assert found.remarks == ("turned",)


class TestMemory:
    def test_images_that_were_seen_are_not_decoded_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, memory = tmp_path / "source", tmp_path / "inspections.json"
        photo(source / "1.png", seed=1)
        first = integrity.inspect_tree(tree_of(source), memory)
        photo(source / "2.png", seed=2)
        decoded: list[str] = []
        real = integrity.Inspector.inspect

        def count(inspector: integrity.Inspector, content: bytes, digest: str, *rest: Any) -> Inspection:
            decoded.append(digest)
            return real(inspector, content, digest, *rest)

        monkeypatch.setattr(integrity.Inspector, "inspect", count)

        second = integrity.inspect_tree(tree_of(source), memory)

        assert second["1.png"] == first["1.png"]
        assert decoded == [second["2.png"].sha256]
        told = looks.read(memory.read_bytes())
        assert {digest: seen.look for digest, seen in told.items()} == {
            each.sha256: each.look for each in second.values()
        }
        one = second["1.png"]
        assert one.measures is not None
        assert told[one.sha256].figures[1:3] == (one.measures.brightness, one.measures.contrast)
        assert told[one.sha256].figures[4:] == (math.log(one.width * one.height), math.log(one.width / one.height))

    def test_what_was_found_by_other_rules_is_not_believed(self, tmp_path: Path) -> None:
        photo(tmp_path / "source" / "1.png")
        memory = tmp_path / "inspections.json"
        found = integrity.inspect_tree(tree_of(tmp_path / "source"), memory)
        content = json.loads(memory.read_text())
        content["inspections"][0][4] = "0" * 64
        memory.write_text(
            json.dumps(content | {"version": content["version"].replace(str(integrity.MEMORY_VERSION), "2", 1)})
        )

        assert integrity.inspect_tree(tree_of(tmp_path / "source"), memory) == found

    def test_remarks_are_remembered(self, tmp_path: Path) -> None:
        photo(tmp_path / "source" / "1.jpg", orientation=6)
        memory = tmp_path / "inspections.json"

        found = [integrity.inspect_tree(tree_of(tmp_path / "source"), memory)["1.jpg"] for _ in range(2)]

        assert found[0] == found[1]
        assert found[0].remarks == ("turned",)

    def test_a_damaged_look_is_not_believed(self, tmp_path: Path) -> None:
        photo(tmp_path / "source" / "1.png")
        memory = tmp_path / "inspections.json"
        found = integrity.inspect_tree(tree_of(tmp_path / "source"), memory)
        content = json.loads(memory.read_text())
        content["inspections"][0][5] = "00"
        memory.write_text(json.dumps(content))

        assert integrity.inspect_tree(tree_of(tmp_path / "source"), memory) == found

    @pytest.mark.parametrize("content", ["", "{", '{"version": 1}', '{"version": "x", "inspections": [[1]]}'])
    def test_a_damaged_memory_costs_time_only(self, tmp_path: Path, content: str) -> None:
        photo(tmp_path / "source" / "1.png")
        memory = tmp_path / "inspections.json"
        memory.write_text(content)

        found = integrity.inspect_tree(tree_of(tmp_path / "source"), memory)

        assert found["1.png"].problem is None
        assert len(json.loads(memory.read_text())["inspections"]) == 1
