"""Only whole JPEG and PNG images of bounded size are decoded; the header is judged before any pixel is."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from pelagos_pipelines.serving import predictor

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def encoded(suffix: str, image: predictor.Pixels = IMAGE) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1].tobytes())


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims a huge size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_png_keeps_its_pixels() -> None:
    assert np.array_equal(predictor.decode(encoded(".png")), IMAGE)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_every_kind_of_jpeg_is_read(options: list[int]) -> None:
    data = cv2.imencode(".jpg", IMAGE, options)[1].tobytes()
    assert predictor.dimensions(data) == (60, 40)
    assert predictor.decode(data).shape == (40, 60, 3)


def test_grey_images_become_colour() -> None:
    assert predictor.decode(encoded(".png", IMAGE[..., 0])).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "neither JPEG nor PNG"),
        (b"GIF89a" + bytes(50), "neither JPEG nor PNG"),
        (encoded(".bmp"), "neither JPEG nor PNG"),
        (encoded(".jpg")[:-200], "truncated"),
        (encoded(".png")[:-200], "truncated"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (bomb(60_000, 60_000), "60000 x 60000 pixels"),
        (bomb(0, 10), "0 x 10 pixels"),
        (bomb(100, 100), "cannot be decoded"),
    ],
)
def test_anything_else_is_refused_in_words(data: bytes, complaint: str) -> None:
    with pytest.raises(predictor.ImageRefusedError, match=complaint):
        predictor.decode(data)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "MAX_BYTES", 100)
    with pytest.raises(predictor.ImageRefusedError, match="at most 100"):
        predictor.decode(encoded(".png"))
