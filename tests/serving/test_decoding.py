"""Only whole images within the ceilings reach a model. A child decodes them, and returns the pixels that a model sees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import untrusted_images
from child_memory import Watched
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import geometry, images, tasks
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
SECONDS = 1


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELAGOS_MAX_IMAGE_SECONDS", str(SECONDS))
        one = Decoder("Detection", 64, 32)
    yield one
    one.close()


def encoded(suffix: str, image: geometry.Pixels = IMAGE, options: tuple[int, ...] = ()) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1].tobytes())


def refusal(decoder: Decoder, content: bytes) -> str:
    """The reason of the refusal. Fails if there is none, if the ceilings were exceeded, or if the next, good image is refused."""
    with Watched(decoder.pool) as watched, pytest.raises(ImageRefusedError) as caught:
        decoder.decode(content)
    assert watched.peak() < (Ceilings().image_memory + 150) * MEBIBYTE
    assert watched.seconds() < SECONDS + 3
    assert decoder.decode(encoded(".png")).width == 60
    return str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", ()),
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    ],
)
@pytest.mark.parametrize("task", ["Detection", "Classification"])
@pytest.mark.parametrize("side", [(60, 40), (700, 300), (5, 200)])
def test_the_canvas_is_the_one_that_this_process_would_make(
    task: str, side: tuple[int, int], suffix: str, options: tuple[int, ...], decoders: dict[str, Decoder]
) -> None:
    content = encoded(suffix, cv2.resize(IMAGE, side), options)

    got = decoders[task].decode(content)
    want = tasks.named(task).fitted(images.decode_known(content), 64, 32)

    assert (got.width, got.height) == side
    assert np.array_equal(got.canvas, want.canvas)


@pytest.fixture(scope="module")
def decoders() -> Iterator[dict[str, Decoder]]:
    found = {task: Decoder(task, 64, 32) for task in ("Detection", "Classification")}
    yield found
    for one in found.values():
        one.close()


def test_grey_images_become_colour(decoder: Decoder) -> None:
    assert decoder.decode(encoded(".png", IMAGE[..., 0])).canvas.shape == (64, 64, 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a" + bytes(50), b"RIFF" + bytes(100), b"8BPS" + bytes(50)],
)
def test_other_formats_are_refused_in_words(decoder: Decoder, content: bytes) -> None:
    assert "is not JPEG, PNG, TIFF" in refusal(decoder, content)


@pytest.mark.parametrize("name", untrusted_images.DAMAGED)
def test_an_image_of_which_a_part_is_missing_is_refused(decoder: Decoder, name: str) -> None:
    assert "damaged" in refusal(decoder, untrusted_images.DAMAGED[name]())


@pytest.mark.parametrize("name", untrusted_images.BOMBS)
def test_a_bomb_is_refused_by_name_and_within_the_ceilings(decoder: Decoder, name: str) -> None:
    words = refusal(decoder, untrusted_images.BOMBS[name]())

    assert "PELAGOS_MAX_IMAGE_" in words or "wider" in name or "two frames" in name


@pytest.mark.parametrize("name", untrusted_images.ODD)
def test_whatever_else_an_image_carries_takes_no_more_than_the_ceilings(decoder: Decoder, name: str) -> None:
    with Watched(decoder.pool) as watched:
        try:
            decoder.decode(untrusted_images.ODD[name]())
        except ImageRefusedError as error:
            assert "image" in str(error)  # noqa: PT017 - either is right
    assert watched.peak() < (Ceilings().image_memory + 150) * MEBIBYTE


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEBIBYTES", "1")
    decoder = Decoder("Detection", 64, 32)
    with pytest.raises(ImageRefusedError, match=r"at most 1048576 are accepted .*PELAGOS_MAX_IMAGE_MEBIBYTES"):
        decoder.decode(encoded(".png") + bytes(MEBIBYTE))


def test_a_decoder_that_crashes_refuses_that_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pelagos_pipelines.serving.decoder._TASKS", "crashing_images")
    decoder = Decoder("Detection", 64, 32)
    decoder.start()
    assert "SIGSEGV" in refusal(decoder, b"crash")
    decoder.close()


STEPS: Any = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize(
    ("stored", "brightest"),
    [
        pytest.param(STEPS // 16, 255, id="8 bits of 16"),
        pytest.param(STEPS, 255, id="12 bits of 16"),
        pytest.param(STEPS // 8, 31, id="9 bits of 16"),
        pytest.param(STEPS * 15, 239, id="16 bits"),
        pytest.param(np.dstack((STEPS, STEPS // 2, STEPS // 3)), 255, id="12 bits of 16 in colour"),
    ],
)
def test_images_of_sixteen_bits_keep_the_upper_eight_of_those_that_they_use(
    stored: geometry.Pixels, brightest: int, decoders: dict[str, Decoder]
) -> None:
    content = encoded(".png", stored)

    got = decoders["Detection"].decode(content).canvas

    assert got.max() == brightest
    assert np.array_equal(got, images.decode_known(content))
    shift = 0 if stored.max() < 256 else 4 if stored.max() < 4096 else 8
    assert np.array_equal(got, np.broadcast_to((stored >> shift).reshape(64, 64, -1), (64, 64, 3)))


def test_a_jpeg_that_lacks_its_end_marker_alone_is_served(decoder: Decoder) -> None:
    whole = encoded(".jpg")

    assert np.array_equal(decoder.decode(whole[:-2]).canvas, decoder.decode(whole).canvas)


@pytest.mark.parametrize("name", untrusted_images.TAILS)
@pytest.mark.parametrize(
    "options", [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True})], ids=["PNG", "JPEG", "progressive"]
)
def test_what_stands_behind_the_end_of_an_image_changes_nothing(
    decoder: Decoder, name: str, options: tuple[str, dict[str, Any]]
) -> None:
    whole = untrusted_images.photo(options[0], side=(48, 32), **options[1])

    got = decoder.decode(whole + untrusted_images.TAILS[name]())

    assert np.array_equal(got.canvas, decoder.decode(whole).canvas)


@pytest.mark.parametrize("damaged", untrusted_images.DAMAGED)
@pytest.mark.parametrize("name", ["a preview", "padding"])
def test_what_stands_behind_a_damaged_image_makes_it_no_whole_one(decoder: Decoder, damaged: str, name: str) -> None:
    with pytest.raises(ImageRefusedError, match="damaged"):
        decoder.decode(untrusted_images.DAMAGED[damaged]() + untrusted_images.TAILS[name]())


def test_what_the_server_copies_is_enough_to_decode(tmp_path: Path) -> None:
    """Run without anything else of Pelagos, as in a server's repository."""
    import os
    import subprocess

    from pelagos_pipelines.serving import packages

    packages.install_code(tmp_path)
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "from pelagos_pipelines.serving.decoder import Decoder\n"
        "import pelagos_pipelines; assert pelagos_pipelines.__path__[0].startswith(sys.path[0])\n"
        "import hashlib; canvas = Decoder('Detection', 64, 32).decode(sys.stdin.buffer.read()).canvas\n"
        "print(canvas.shape, hashlib.sha256(canvas.data).hexdigest())"
    )
    content = encoded(".png", STEPS)  # another OpenCV decodes there, and must give the same pixels
    triton = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[2] / ".venvs")) / "triton"
    done = subprocess.run(
        [triton / "bin" / "python", "-c", code], input=content, capture_output=True, check=False, cwd=tmp_path
    )
    digest = hashlib.sha256(images.decode_known(content).data).hexdigest()
    assert (done.stdout.decode().strip(), done.stderr.decode()) == (f"(64, 64, 3) {digest}", "")
