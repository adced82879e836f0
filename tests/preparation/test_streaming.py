"""Images that are read one band of rows at a time: the same pixels as when decoded whole, and the same refusals."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from other_images import DEEP, DRAWN, GREY, saved, tiff, with_alpha
from pelagos_pipelines.preparation import measuring, streaming
from pelagos_pipelines.serving import images

NOISE: Any = np.random.default_rng(8).integers(0, 256, (300, 211, 3), np.uint8)
PALETTE = Image.fromarray(NOISE).convert("P")


def png(image: Any, **options: Any) -> bytes:
    return saved(image, "PNG", **options)


def filtered(samples: Any, kind: int, filters: int) -> bytes:
    """An 8-bit PNG, all rows of which use the filter method with this number."""
    height, width, channels = samples.shape
    rows = samples.reshape(height, -1).astype(int)
    left = np.pad(rows, ((0, 0), (channels, 0)))[:, : width * channels]
    above = np.pad(rows, ((1, 0), (0, 0)))[:height]
    corner = np.pad(above, ((0, 0), (channels, 0)))[:, : width * channels]
    guess = left + above - corner
    far = [abs(guess - one) for one in (left, above, corner)]
    nearest = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
    taken = [0 * rows, left, above, (left + above) // 2, nearest][filters]
    body = b"".join(bytes([filters]) + row.tobytes() for row in ((rows - taken) % 256).astype(np.uint8))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), (b"IDAT", zlib.compress(body)))
    written = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (*parts, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


ENCODED = {
    "grey": png(NOISE[..., 0]),
    "colours": png(NOISE),
    "opacity": png(with_alpha(NOISE)),
    "grey and opacity": png(Image.fromarray(with_alpha(NOISE)).convert("LA")),
    "16 bits": png(np.arange(300 * 211, dtype=np.uint16).reshape(300, 211)),
    "16 bits in colours": bytes(cv2.imencode(".png", NOISE.astype(np.uint16) * 131)[1]),
    "palette": png(PALETTE),
    "palette of 16": png(Image.fromarray(NOISE).quantize(16), bits=4),
    "palette of 4": png(Image.fromarray(NOISE).quantize(4), bits=2),
    "one bit": png(Image.fromarray(NOISE[..., 0]).convert("1")),
    "interlaced": png(NOISE),
    **{f"filter {number}": filtered(NOISE, 2, number) for number in range(5)},
    **{f"filter {number} of grey": filtered(NOISE[..., :1], 0, number) for number in range(5)},
    "JPEG": saved(DRAWN, "JPEG"),
    "grey JPEG": saved(GREY, "JPEG"),
    "WebP": saved(DRAWN, "WEBP", lossless=True),
    "TIFF": tiff(NOISE, 2),
    "grey TIFF": tiff(NOISE[..., 0]),
    "white is zero": tiff(NOISE[..., 0], 0),
    "TIFF of 16 bits, big end first": tiff(DEEP, order=">"),
    "TIFF in tiles": tiff(NOISE, 2, tile=64),
    "TIFF in tiles, deflated": tiff(NOISE, 2, tile=64, deflate=True),
    "TIFF in planes": tiff(NOISE, 2, planes=2),
    "deflated TIFF": tiff(NOISE, 2, deflate=True),
    "BigTIFF": tiff(NOISE[..., 0], large=True),
    "LZW": saved(NOISE, "TIFF", compression="tiff_lzw"),
    "rows one by one": saved(NOISE, "TIFF", compression="tiff_lzw", tiffinfo={278: 1}),
    "PackBits": saved(NOISE, "TIFF", compression="packbits"),
    "TIFF of one bit": saved(NOISE[..., 0], "TIFF", mode="1"),
    "TIFF with a palette": saved(NOISE, "TIFF", mode="P"),
}


def read(content: bytes, tmp_path: Path) -> tuple[streaming.Scan, Any]:
    file = tmp_path / "image"
    file.write_bytes(content)
    with file.open("rb") as opened:
        scan = streaming.opened(opened)
        return scan, np.concatenate([colours for colours, _ in scan.bands()])


@pytest.mark.parametrize("at_once", [700, 1 << 22])
@pytest.mark.parametrize("name", ENCODED)
def test_bands_have_the_pixels_of_the_whole(
    name: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_AT_ONCE", at_once)
    monkeypatch.setattr("pelagos_pipelines.serving.tiff._AT_ONCE", at_once)
    whole = images.decode(ENCODED[name]).stored

    scan, found = read(ENCODED[name], tmp_path)

    assert found.dtype == whole.dtype
    assert found.shape == (scan.height, scan.width, scan.channels)
    assert (np.broadcast_to(found, whole.shape) == whole).all()
    assert scan.bits == 8 * whole.dtype.itemsize


@pytest.mark.parametrize(("width", "height"), [(211, 300), (50, 40_000), (5_000, 700), (40, 1)])
@pytest.mark.parametrize("rows", [1, 7, 64, 1_000])
def test_measures_of_rows_that_come_one_after_another_are_those_of_the_whole(
    width: int, height: int, rows: int
) -> None:
    grey: Any = np.random.default_rng(width).integers(0, 256, (height, width), np.uint8)
    found = measuring.Measuring(width, height)

    for top in range(0, height, rows):
        found.add(grey[top : top + rows])

    assert found.sums() == measuring.measure(grey)
