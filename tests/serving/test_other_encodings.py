"""TIFF, BMP, WebP and JPEG 2000 are decoded as Pillow decodes them, or refused by name; in a child, within the ceilings."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import other_images
from child_memory import Watched
from other_images import DEEP, DRAWN, GREY, saved, tiff, with_alpha
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import images
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError

SECONDS = 1
PACKINGS = ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits")


@pytest.fixture(autouse=True)
def _no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests decode in their own process, where no file collects a child's complaints."""
    monkeypatch.setattr("pelagos_pipelines.sandbox.child.complaints", lambda: "")
    monkeypatch.setattr("pelagos_pipelines.sandbox.child.took_share", lambda: 0.0)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELAGOS_MAX_IMAGE_SECONDS", str(SECONDS))
        one = Decoder("Detection", 64, 32)
    yield one
    one.close()


def refusal(decoder: Decoder, content: bytes) -> str:
    """The reason of the refusal. Fails if there is none, if the ceilings were exceeded, or if the next, good image is refused."""
    with Watched(decoder.pool) as watched, pytest.raises(ImageRefusedError) as caught:
        decoder.decode(content)
    assert watched.peak() < (Ceilings().image_memory + 150) * MEBIBYTE
    assert watched.seconds() < SECONDS + 3
    assert decoder.decode(saved(GREY, "PNG")).width == 60
    return str(caught.value)


def by_pillow(content: bytes) -> Any:
    """Pixels by Pillow: blue first, upright, at full depth."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if image.mode.startswith("I;16"):
            return np.dstack([np.asarray(image)] * 3)
        return np.asarray(image.convert("RGB"))[..., ::-1]


READ: dict[str, Callable[[], bytes]] = {
    **{
        f"TIFF {mode} {packing}": partial(saved, DRAWN, "TIFF", mode=mode, compression=packing)
        for mode in ("1", "L", "P", "RGB")
        for packing in PACKINGS
    },
    **{f"TIFF of 16 bits, {packing}": partial(saved, DEEP, "TIFF", compression=packing) for packing in PACKINGS},
    "BMP grey": lambda: saved(GREY, "BMP"),
    "BMP palette": lambda: saved(DRAWN, "BMP", mode="P"),
    "BMP of one bit": lambda: saved(DRAWN, "BMP", mode="1"),
    "BMP": lambda: saved(DRAWN, "BMP"),
    "WebP": lambda: saved(DRAWN, "WEBP"),
    "WebP without loss": lambda: saved(DRAWN, "WEBP", lossless=True),
    "JPEG 2000": lambda: saved(DRAWN, "JPEG2000"),
    "JPEG 2000 with loss": lambda: saved(DRAWN, "JPEG2000", irreversible=True),
    "JPEG 2000 grey": lambda: saved(GREY, "JPEG2000"),
    "JPEG 2000 of 16 bits": lambda: saved(DEEP, "JPEG2000"),
    "JPEG 2000 without a header": lambda: saved(DRAWN, "JPEG2000", no_jp2=True),
    "grey JPEG 2000 without a header": lambda: saved(GREY, "JPEG2000", no_jp2=True),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_an_image_is_seen_as_pillow_sees_it(name: str) -> None:
    content = READ[name]()

    found = images.decode(content)

    assert np.array_equal(found.stored, by_pillow(content))
    assert found.remarks == ()


def colours(samples: Any) -> Any:
    return np.dstack([samples] * 3) if samples.ndim == 2 else samples[..., 2::-1]


WIDE = np.random.default_rng(5).integers(0, 65536, (44, 60, 4), np.uint16)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options", [{}, {"tile": 16}, {"deflate": True}, {"tile": 32, "deflate": True}, {"large": True}]
)
@pytest.mark.parametrize(
    ("samples", "photometric", "planes"),
    [
        (GREY, 1, 1),
        (DEEP, 1, 1),
        (DRAWN, 2, 1),
        (DRAWN, 2, 2),
        (WIDE[..., :3], 2, 1),
        (WIDE[..., :3], 2, 2),
        (WIDE, 2, 1),
        (WIDE[..., :2], 1, 1),
    ],
    ids=["grey", "deep", "colour", "planes", "deep colour", "deep planes", "deep alpha", "deep grey alpha"],
)
def test_samples_of_a_tiff_come_out_as_they_went_in(
    samples: Any, photometric: int, planes: int, options: dict[str, Any], order: str
) -> None:
    content = tiff(samples, photometric, planes=planes, order=order, **options)

    want = colours(samples[..., 0] if photometric == 1 and samples.ndim == 3 else samples)
    assert np.array_equal(images.decode(content).stored, want)


def test_a_tiff_in_which_zero_is_white_is_turned_about() -> None:
    assert np.array_equal(images.decode(tiff(GREY, 0)).stored, colours(255 - GREY))


@pytest.mark.parametrize(
    "content",
    [
        lambda: tiff(with_alpha(), 2, more={338: [2]}),
        lambda: tiff(with_alpha(), 2, more={338: [1]}),
        lambda: saved(with_alpha(), "WEBP", lossless=True, exact=True),
        lambda: saved(with_alpha(), "JPEG2000"),
    ],
    ids=["TIFF", "TIFF of mixed colours", "WebP", "JPEG 2000"],
)
def test_transparency_is_left_out_and_the_colours_stay_as_they_are(content: Callable[[], bytes]) -> None:
    found = images.decode(content())

    assert np.array_equal(found.stored, DRAWN[..., ::-1])
    assert found.opacity is not None
    assert np.array_equal(found.opacity, with_alpha()[..., 3])


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    found = images.decode(other_images.turned(kind, orientation))

    ways = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
    way = (ways | {7: "TRANSVERSE", 8: "ROTATE_90"})[orientation]
    upright = Image.fromarray(DRAWN)
    want = np.asarray(upright if way is None else upright.transpose(Image.Transpose[way]))
    assert np.array_equal(found.stored, want[..., ::-1])
    assert found.remarks == (() if orientation == 1 else ("flipped",) if orientation < 5 else ("turned",))


def test_a_picture_with_smaller_copies_behind_it_is_one_page() -> None:
    smaller = Image.fromarray(np.ascontiguousarray(GREY[::2, ::2]))
    smaller.encoderinfo = {"tiffinfo": {254: 1}}
    content = saved(GREY, "TIFF", save_all=True, append_images=[smaller])

    assert np.array_equal(images.decode(content).stored, colours(GREY))


@pytest.mark.parametrize(
    ("told", "pages"), [("images=50\nslices=50", 50), ("unit=um\nimages=2", 2), ("images=1\n", 0), ("", 0)]
)
def test_a_stack_of_imagej_that_has_one_directory_is_of_several_pages(told: str, pages: int) -> None:
    content = saved(GREY, "TIFF", tiffinfo={270: f"ImageJ=1.54f\n{told}\nloop=false\n"})

    if not pages:
        assert np.array_equal(images.decode(content).stored, colours(GREY))
        return
    with pytest.raises(ImageRefusedError, match=f"a TIFF of {pages} pages"):
        images.decode(content)


@pytest.mark.parametrize("name", other_images.REFUSED)
def test_what_is_not_read_is_refused_by_name(name: str, decoder: Decoder) -> None:
    words = refusal(decoder, other_images.REFUSED[name]())

    assert name in words
    assert "save" in words


@pytest.mark.parametrize("name", other_images.BOMBS)
def test_a_bomb_names_the_ceiling_and_takes_no_more(name: str, decoder: Decoder) -> None:
    assert "PELAGOS_MAX_IMAGE_MEGAPIXELS" in refusal(decoder, other_images.BOMBS[name]())


@pytest.mark.parametrize("name", other_images.HOSTILE)
def test_what_is_meant_to_harm_is_refused_within_the_ceilings(name: str, decoder: Decoder) -> None:
    assert "damaged" in refusal(decoder, other_images.HOSTILE[name]())


WHOLE = {
    "TIFF": lambda: saved(DRAWN, "TIFF"),
    "TIFF of LZW": lambda: saved(DRAWN, "TIFF", compression="tiff_lzw"),
    "TIFF of deflate": lambda: tiff(DRAWN, 2, deflate=True),
    "BMP": lambda: saved(DRAWN, "BMP"),
    "WebP": lambda: saved(DRAWN, "WEBP"),
    "JPEG 2000": lambda: saved(DRAWN, "JPEG2000"),
}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_ends_too_early_is_refused(name: str, share: float) -> None:
    content = WHOLE[name]()

    with pytest.raises(ImageRefusedError):
        images.decode(content[: int(len(content) * share)])


@pytest.mark.parametrize("name", ["TIFF of LZW", "TIFF of deflate"])
def test_damage_in_the_middle_of_packed_samples_is_found(name: str) -> None:
    """OpenCV alone returns the part before the damage, and reports nothing."""
    content = bytearray(WHOLE[name]())
    content[len(content) // 2 : len(content) // 2 + 60] = b"\xff" * 60

    with pytest.raises(ImageRefusedError, match="damaged"):
        images.decode(bytes(content))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 1), (1, 7), (7, 5), (8, 5), (7, 6), (3, 2)])
@pytest.mark.parametrize("packing", ["tiff_lzw", "packbits"])
def test_packed_samples_of_any_number_come_out(width: int, height: int, packing: str) -> None:
    samples = np.random.default_rng(6).integers(0, 256, (height, width), np.uint8)

    assert np.array_equal(images.decode(saved(samples, "TIFF", compression=packing)).stored, colours(samples))


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_not_in_a_version_is_not_decoded_outside_of_a_child(name: str) -> None:
    with pytest.raises(ImageRefusedError, match="neither JPEG nor PNG"):
        images.decode_known(WHOLE[name]())


def test_the_servers_opencv_sees_the_same(tmp_path: Path) -> None:
    """Another OpenCV and another numpy decode there."""
    from hashlib import sha256

    from pelagos_pipelines.serving import packages

    packages.install_code(tmp_path)
    made = {name: make() for name, make in READ.items()}
    made |= {
        f"{kind} {number}": other_images.turned(kind, number) for kind in ("TIFF", "WEBP") for number in range(2, 9)
    }
    for number, content in enumerate(made.values()):
        (tmp_path / f"{number}.image").write_bytes(content)
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "import pathlib, hashlib\n"
        "from pelagos_pipelines.sandbox import child\n"
        "child.complaints, child.took_share = (lambda: ''), (lambda: 0)\n"
        "from pelagos_pipelines.serving import images\n"
        f"for number in range({len(made)}):\n"
        f"    content = pathlib.Path({str(tmp_path)!r}, f'{{number}}.image').read_bytes()\n"
        "    print(hashlib.sha256(images.decode(content).stored.data).hexdigest())\n"
    )
    triton = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[2] / ".venvs")) / "triton"
    done = subprocess.run([triton / "bin" / "python", "-c", code], capture_output=True, check=True, cwd=tmp_path)

    here = {name: sha256(images.decode(content).stored.data).hexdigest() for name, content in made.items()}
    assert dict(zip(made, done.stdout.decode().split(), strict=True)) == here
