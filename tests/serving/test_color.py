"""Colour corrections: their effect, that they are exact in whole numbers, and that every path to a model applies them."""

from __future__ import annotations

import typing
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

import untrusted_images
from pelagos_contract.preprocessing import Color
from pelagos_pipelines.serving import color, images, packages, tasks
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.geometry import Pixels

METHODS = ("GrayWorld", "Clahe")


def underwater(height: int = 60, width: int = 80) -> Pixels:
    """Noise with the colour cast of water: much blue and green, little red."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return (noise * (0.9, 0.6, 0.2)).astype(np.uint8)


def test_specs_packages_and_code_know_the_same_methods() -> None:
    assert typing.get_args(Color) == tuple(color.METHODS) == packages.COLORS == METHODS


def test_without_a_method_an_image_stays_as_it_is() -> None:
    image = underwater()

    assert color.corrected(image, None) is image


def test_another_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'Retinex'; there are GrayWorld, Clahe"):
        color.corrected(underwater(), "Retinex")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 3), (60, 80)])
def test_an_image_of_any_shape_is_corrected_and_left_alone(method: str, shape: tuple[int, int]) -> None:
    image = underwater(*shape)
    before = image.copy()

    found = color.corrected(image, method)

    assert (found.shape, found.dtype) == (image.shape, np.dtype(np.uint8))
    assert np.array_equal(image, before)


def test_grey_world_gives_all_channels_one_mean() -> None:
    image = underwater()

    found = color.corrected(image, "GrayWorld")

    assert image.mean((0, 1)).std() > 30
    assert found.mean((0, 1)) == pytest.approx([image.mean()] * 3, abs=2)


def test_grey_world_is_the_rounded_product_with_its_gains() -> None:
    image = underwater()
    gains = image.mean() / image.mean((0, 1))

    found = color.corrected(image, "GrayWorld")

    assert np.abs(found - np.minimum(image * gains, 255)).max() <= 0.5 + 1e-9


def test_grey_world_does_not_make_noise_of_what_is_nearly_black() -> None:
    image = underwater()
    image[..., 2] //= 25
    image[0, 0] = (9, 9, 2)

    found = color.corrected(image, "GrayWorld")

    assert found[0, 0, 2] == 2 * color.MOST_GAIN


@pytest.mark.parametrize("level", [0, 255])
def test_grey_world_leaves_what_has_no_cast(level: int) -> None:
    image: Pixels = np.full((4, 5, 3), level, np.uint8)
    image[..., 0] = 0 if level == 0 else 255

    assert np.array_equal(color.corrected(image, "GrayWorld"), image)


def test_grey_world_of_a_channel_that_is_black_keeps_it_black() -> None:
    image = underwater()
    image[..., 2] = 0

    assert not color.corrected(image, "GrayWorld")[..., 2].any()


def test_clahe_raises_contrast_and_keeps_hues() -> None:
    image: Pixels = cv2.GaussianBlur(underwater(), (9, 9), 0)

    found = color.corrected(image, "Clahe")

    before, after = (cv2.cvtColor(one, cv2.COLOR_BGR2Lab) for one in (image, found))
    assert after[..., 0].std() > 1.5 * before[..., 0].std()
    assert after.mean((0, 1))[1:] == pytest.approx(before.mean((0, 1))[1:], abs=3)


@pytest.fixture(scope="module", params=METHODS)
def decoder(request: pytest.FixtureRequest) -> Iterator[tuple[str, Decoder]]:
    found = Decoder("Detection", 64, 32, color=request.param)
    yield request.param, found
    found.close()


def test_a_server_decodes_to_what_training_sees(decoder: tuple[str, Decoder]) -> None:
    method, one = decoder
    content = untrusted_images.photo(side=(90, 70))

    got = one.decode(content).canvas

    want = color.corrected(images.decode_known(content), method)
    assert np.array_equal(got, tasks.named("Detection").fitted(want, 64, 32).canvas)
