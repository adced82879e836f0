"""Images that are neither JPEG nor PNG are PNG with the same pixels in versions, converted once, with their origin recorded."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dataset_versions
import image_sources
import other_images
from other_images import DEEP, DRAWN, GREY, saved, tiff, with_alpha
from pelagos_contract.beneath import ChangedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.preparation import blobs, integrity, pictures, versions
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.sandbox import Answer
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import images

FILES: dict[str, Callable[[], bytes]] = {
    "a.tif": lambda: tiff(DRAWN, 2, tile=16, deflate=True),
    "b.tiff": lambda: saved(DEEP, "TIFF", compression="tiff_lzw"),
    "c.bmp": lambda: saved(np.ascontiguousarray(DRAWN[::-1]), "BMP"),
    "d.webp": lambda: other_images.turned("WEBP", 6),
    "e.jp2": lambda: saved(np.ascontiguousarray(DRAWN[:, ::-1]), "JPEG2000"),
    "f.j2k": lambda: saved(np.ascontiguousarray(GREY[::-1]), "JPEG2000", no_jp2=True),
    "g.tif": lambda: saved(with_alpha(np.ascontiguousarray(DRAWN[:30])), "TIFF"),
    "h.jpg": lambda: tiff(GREY[:20]),
}


def look_at(content: bytes) -> Inspection:
    return integrity.inspector_for(Ceilings()).inspect(content, hashlib.sha256(content).hexdigest())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, (name, make) in enumerate(FILES.items()):
        file = tmp_path / "source" / ("cod", "eel")[number % 2] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make())
    return tmp_path / "source"


def _decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> images.Decoded:
    with monkeypatch.context() as patch:
        patch.setattr("pelagos_pipelines.sandbox.child.complaints", lambda: "")
        return images.decode(content)


def test_versions_hold_the_pixels_that_a_server_would_see(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)

    for path, blob in version.blobs.items():
        content = blob.read_bytes()
        assert content.startswith(b"\x89PNG")
        served = images.seen(_decoded((source / path).read_bytes(), monkeypatch).stored)
        assert np.array_equal(images.decode_known(content), served), path
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).size), served.shape[1::-1])
    versions.verify(version)


def test_the_manifest_says_what_a_converted_image_was_made_of(tmp_path: Path, source: Path) -> None:
    image_sources.photo(source / "cod" / "z.png")
    version = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)

    manifest = json.loads((version.folder / "manifest.json").read_bytes())
    for entry in manifest["images"]:
        content = (source / entry["path"]).read_bytes()
        original = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        if entry["path"] == "cod/z.png":
            assert "original" not in entry
            assert entry["sha256"] == original["sha256"]
        else:
            assert entry["original"] == original
            assert entry["sha256"] != original["sha256"]


def test_views_have_png_files_that_are_called_so(tmp_path: Path, source: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)

    versions.materialise(version.folder, "imagefolder", tmp_path / "view")

    found = [file for file in (tmp_path / "view").rglob("*") if file.suffix in {".png", ".jpg"}]
    assert len(found) == len(FILES)
    assert {file.suffix for file in found if "_h" not in file.name} == {".png"}
    for file in found:
        with Image.open(file) as image:
            assert image.format == "PNG"


def test_a_source_that_is_prepared_again_decodes_nothing_and_is_the_same_version(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)
    monkeypatch.setattr(integrity.Inspector, "inspect", None)

    assert dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION) == first


def test_a_picture_that_the_store_has_lost_is_made_again(tmp_path: Path, source: Path) -> None:
    first = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)
    blob = first.blobs["cod/a.tif"]
    blob.unlink()

    assert dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION) == first
    versions.verify(first)


def test_pictures_are_made_while_images_are_inspected(tmp_path: Path, source: Path) -> None:
    kept: dict[str, bytes] = {}
    tree = image_sources.tree_of(source)

    found = integrity.inspect_tree(
        tree, tmp_path / "memory", keep=lambda one, content: kept.update({one.sha256: content})
    )

    assert {one.blob.sha256 for one in found.values()} == set(kept)
    assert all(hashlib.sha256(content).hexdigest() == sha256 for sha256, content in kept.items())


def test_a_file_that_is_another_one_by_now_is_no_version(tmp_path: Path, source: Path) -> None:
    tree = image_sources.tree_of(source)
    inspections = integrity.inspect_tree(tree, tmp_path / "memory")
    (source / "cod" / "a.tif").write_bytes(tiff(GREY))
    content = inspections["cod/a.tif"]

    with pytest.raises((blobs.SourceChangedError, ChangedError)):
        blobs.write(tmp_path / "blobs", tree, {content.blob: "cod/a.tif"}, inspections)


def test_one_picture_in_any_encoding_without_loss_is_the_same() -> None:
    encoded = [
        saved(DRAWN, "PNG"),
        saved(DRAWN, "TIFF"),
        saved(DRAWN, "TIFF", compression="tiff_lzw"),
        saved(DRAWN, "BMP"),
        saved(DRAWN, "WEBP", lossless=True),
        saved(DRAWN, "JPEG2000"),
    ]

    assert len({look_at(content).pixels for content in encoded}) == 1
    assert len({look_at(content).look for content in encoded}) == 1


def test_what_is_odd_about_other_encodings_is_remarked_as_of_png() -> None:
    assert look_at(other_images.turned("TIFF", 6)).remarks == ("turned",)
    assert look_at(other_images.turned("WEBP", 3)).remarks == ("flipped",)
    for content in (saved(with_alpha(), "TIFF"), saved(with_alpha(), "WEBP"), saved(with_alpha(), "PNG")):
        assert look_at(content).remarks == ("transparent",)
    opaque = np.dstack((DRAWN, np.full(GREY.shape, 255, np.uint8)))
    assert look_at(saved(opaque, "TIFF")).remarks == ()
    assert look_at(tiff(with_alpha(seed=4), 2)).pixels != look_at(tiff(with_alpha(seed=5), 2)).pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("largest", "remarks"),
    [
        (255, ("8 bits of 16",)),
        (4095, ("12 bits of 16",)),
        (1023, ("dim", "12 bits of 16")),
        (65535, ("16 bits of 16",)),
        (8191, ("dim", "16 bits of 16")),
        (50, ("dim", "8 bits of 16")),
    ],
)
def test_which_bits_of_sixteen_are_shown_is_remarked_and_when_that_is_dark(
    kind: str, largest: int, remarks: tuple[str, ...]
) -> None:
    samples = (GREY.astype(np.uint32) * largest // int(GREY.max())).astype(np.uint16)

    assert look_at(saved(samples, kind)).remarks == remarks


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (2100, 2000), (3, 1, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_png_has_the_samples_that_it_was_made_of(shape: tuple[int, ...], kind: Any) -> None:
    import cv2

    samples = np.random.default_rng(1).integers(0, np.iinfo(kind).max + 1, shape, kind)
    written = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">")).tobytes()

    made = pictures.png(written, shape[1], shape[0], 3 if len(shape) == 3 else 1, 8 * samples.itemsize)

    read = cv2.imdecode(np.frombuffer(made, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read[..., ::-1] if read.ndim == 3 else read, samples)
    with Image.open(io.BytesIO(made)) as image:
        image.verify()
    assert made == pictures.png(written, shape[1], shape[0], 3 if len(shape) == 3 else 1, 8 * samples.itemsize)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"samples": 2, "bits": 8},
        {"samples": 1, "bits": 12},
        {"samples": 3, "bits": 16},
        {"channels": [1], "bits": [8]},
    ],
)
def test_a_child_cannot_have_any_picture_kept(told: dict[str, Any]) -> None:
    seen = Inspection("0" * 64, 10, 6, 4, "0" * 64)
    kept = list[bytes]()

    found = integrity._converted(seen, Answer(told, bytes(24)), lambda one, content: kept.append(content))

    assert "hostile" in (found.problem or "")
    assert not kept
