"""The real images are taken out of the wheel unchanged, and only if they are the expected ones."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pelagos_pipelines.samples import wheel as wheels
from sample_wheels import make_wheel


def test_every_image_is_read_with_its_class_and_its_bytes(wheel: Path) -> None:
    crops = wheels.read(wheel).crops

    assert Counter(crop.label for crop in crops) == wheels.EXPECTED
    with zipfile.ZipFile(wheel) as archive:
        assert all(archive.read(f"{wheels.FOLDER}/{crop.label}/{crop.name}") == crop.encoded for crop in crops)


def test_a_wheel_with_other_numbers_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wheels.SamplesError, match=r"'Tripos': 12.*use planktonclas 0\.2\.4"):
        wheels.read(make_wheel(tmp_path / "w.whl", {"Tripos/3": None}))


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    with pytest.raises(wheels.SamplesError, match=r"crop-Ciliophora-5\.jpg does not decode"):
        wheels.read(make_wheel(tmp_path / "w.whl", {"Ciliophora/5": b"\xff\xd8\xff no image"}))


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wheels.SamplesError, match="larger than"):
        wheels.read(make_wheel(tmp_path / "w.whl", {"Ciliophora/5": bytes(wheels.LARGEST_MEMBER + 1)}))


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "w.whl"
    file.write_bytes(content)

    with pytest.raises(wheels.SamplesError, match="download it again"):
        wheels.read(file)
