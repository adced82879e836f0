"""Copies that were resized, cropped, mirrored or turned look alike, other images do not, and no search compares every pair."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pelagos_pipelines.preparation import alike, integrity, looks
from pelagos_pipelines.preparation.looks import KEPT, LENGTH
from pelagos_pipelines.sandbox.ceilings import Ceilings


def organism(seed: int, side: tuple[int, int] = (90, 70)) -> Image.Image:
    """A blob of a unique shape on a plain background."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (7, 9), np.uint8)
    blot = np.asarray(Image.fromarray(coarse).resize(side, Image.Resampling.BICUBIC), float)
    x: Any
    y: Any
    x, y = np.meshgrid(np.linspace(-1, 1, side[0]), np.linspace(-1, 1, side[1]))
    shown = np.clip(2 - 3 * np.hypot(x * generator.uniform(1, 1.6), y), 0, 1)
    return Image.fromarray((200 - shown * (60 + blot / 2)).astype(np.uint8)).convert("RGB")


def look_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes | None:
    file = io.BytesIO()
    image.save(file, kind, **options)
    inspector = integrity.inspector_for(Ceilings())
    return inspector.inspect(file.getvalue(), hashlib.sha256(file.getvalue()).hexdigest()).look


def known(image: Image.Image) -> bytes:
    look = look_of(image)
    assert look is not None
    assert len(look) == integrity.LOOK_BYTES == KEPT**2
    return look


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.resize((45, 35), Image.Resampling.BOX), id="half the size"),
        pytest.param(lambda image: image.resize((270, 210)), id="three times the size"),
        pytest.param(lambda image: image.crop((2, 2, 88, 68)), id="cut all around"),
        pytest.param(lambda image: image.crop((4, 0, 90, 66)), id="cut at two sides"),
        pytest.param(ImageOps.mirror, id="mirrored"),
        pytest.param(ImageOps.flip, id="upside down"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_90), id="turned to the left"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_270), id="turned to the right"),
        pytest.param(lambda image: image.transpose(Image.Transpose.TRANSPOSE), id="transposed"),
        pytest.param(lambda image: ImageOps.mirror(image).resize((45, 35)), id="mirrored and of half the size"),
        pytest.param(lambda image: image.point(lambda grey: grey + 20), id="brighter"),
        pytest.param(lambda image: image.point(lambda grey: 0.8 * grey), id="darker, of less contrast"),
    ],
)
def test_a_copy_looks_like_its_original(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [organism(seed) for seed in range(4)]
    looks = [*map(known, originals), *(known(change(image)) for image in originals)]

    assert alike.pairs(looks, 4) == {4 + number: [number] for number in range(4)}


def test_a_copy_that_was_saved_again_looks_like_its_original() -> None:
    again = look_of(organism(1), "JPEG", quality=50)
    assert again is not None
    assert alike.pairs([known(organism(1)), again], 2) == {1: [0]}


def test_other_images_do_not_look_alike() -> None:
    assert alike.pairs([known(organism(seed)) for seed in range(40)], 4) == {}


def test_a_plain_image_has_no_look() -> None:
    assert look_of(Image.new("RGB", (100, 100), (90, 90, 90))) is None


@pytest.mark.parametrize("side", [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_an_image_of_any_size_can_be_looked_at(side: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*side, 3), np.uint8)

    assert look_of(Image.fromarray(noise)) in {None, look_of(Image.fromarray(noise))}


def test_looks_are_those_that_stores_have_of_the_same_images() -> None:
    """Images of integer arithmetic only, so that only looks can differ. Changing looks raises MEMORY_VERSION and versions."""
    told = hashlib.sha256()
    for seed, (height, width) in enumerate([(40, 30), (160, 224), (300, 127), (90, 1500), (2600, 60), (700, 900)]):
        down, across = np.arange(height)[:, None], np.arange(width)
        grey = (down * across * (seed + 3) // 97 + np.random.default_rng(seed).integers(0, 40, (height, width))) % 256
        look = looks.look(grey.astype(np.uint8))
        assert look is not None
        told.update(look)

    assert told.hexdigest() == "91681f54edd5a0c2cc74347a058327ede350d812985f88d5489943bf5d6d3985"


def test_looks_that_are_found_together_are_those_that_are_found_alone() -> None:
    noise = np.random.default_rng(9)
    images: list[Any] = [noise.integers(0, 256, side, np.uint8) for side in [(1, 1), (5, 700), (300, 40), (2000, 129)]]
    images.insert(2, np.full((30, 40), 7, np.uint8))

    assert looks.of(images) == [looks.look(image) for image in images]
    assert looks.of(images)[2] is None
    assert looks.of(images[2:3]) == [None]
    assert looks.of([]) == []


def test_sums_over_the_places_of_pixels_are_exact_of_long_pictures_too() -> None:
    weights = np.random.default_rng(5).integers(0, 65026, (200, 5000)).astype(np.uint16)

    found = looks._moments(weights)

    many = weights.astype(object)
    across: Any = np.arange(5000).astype(object)
    down: Any = np.arange(200).astype(object)
    sums = [many.sum(axis=0), many.sum(axis=1)]
    assert found == (
        many.sum(),
        ((sums[0] * across).sum(), (sums[0] * across**2).sum()),
        ((sums[1] * down).sum(), (sums[1] * down**2).sum()),
    )


def drawn(count: int, seed: int = 0) -> Any:
    """Random looks, of no real image."""
    waves = np.random.default_rng(seed).standard_normal((count, KEPT, KEPT))
    return waves / np.linalg.norm(waves, axis=(1, 2), keepdims=True)


def written(waves: Any) -> list[bytes]:
    lengths = np.linalg.norm(waves, axis=(1, 2), keepdims=True)
    return [one.tobytes() for one in np.rint(waves / lengths * LENGTH).astype(np.int8)]


def test_the_search_finds_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    some = drawn(300)
    copies = some[:200] + drawn(200, seed=1) * np.linspace(0, 0.4, 200)[:, None, None]
    copies[::2, 1::2] *= -1
    copies[::3] = copies[::3].transpose(0, 2, 1)
    looks = written(np.concatenate((some, copies)))
    want = alike.pairs(looks, 4)
    monkeypatch.setattr(alike, "FEW", 0)

    found = alike.pairs(looks, 4)

    assert 100 < len(want) < 200
    assert found == want


@pytest.mark.parametrize("few", [0, 10_000])
def test_images_that_all_look_alike_are_not_all_paired(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(alike, "FEW", few)

    found = alike.pairs(written(drawn(1)) * 3_000, 4)

    assert len(found) == 2_999
    assert all(earlier[0] == 0 and len(earlier) <= alike.EARLIER for earlier in found.values())


def test_one_image_or_none_looks_like_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for few in (0, 10):
        monkeypatch.setattr(alike, "FEW", few)
        assert alike.pairs([], 4) == alike.pairs(written(drawn(1)), 4) == {}
