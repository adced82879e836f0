"""Masks as strings of runs equal those of COCO's own tools, byte for byte, and nothing else is accepted as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from pelagos_contract import run_lengths
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.annotations import masks


def make_mask(seed: int, height: int, width: int, share: float = 0.5) -> Any:
    """A mask of blobs, of specks, or uniformly set or empty."""
    generator = np.random.default_rng(seed)
    grain = int(generator.integers(1, 9))
    coarse = generator.random((height // grain + 1, width // grain + 1)) < share
    return np.kron(coarse, np.ones((grain, grain), bool))[:height, :width]


masks_of_any_size = st.builds(
    make_mask,
    st.integers(0, 2**32 - 1),
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.9, 1.0]),
)


@settings(max_examples=60)
@given(masks_of_any_size, st.data())
def test_a_part_of_an_image_is_written_as_cocos_tools_write_the_whole(inside: Any, data: st.DataObject) -> None:
    rows, columns = inside.shape
    top, left = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
    size = (top + rows + data.draw(st.integers(0, 5)), left + columns + data.draw(st.integers(0, 5)))
    whole: Any = np.zeros(size, np.uint8, order="F")
    whole[top : top + rows, left : left + columns] = inside
    want = coco.encode(whole)

    text = run_lengths.encoded(Part(left, top, inside), size)

    assert text.encode() == want["counts"]
    assert run_lengths.area(text, size) == int(coco.area(want)) == inside.sum()
    assert text == masks.compressed(masks.columns_of(whole))
    part = run_lengths.part_of(text, size)
    again: Any = np.zeros(size, bool)
    again[part.top : part.top + part.inside.shape[0], part.left : part.left + part.inside.shape[1]] = part.inside
    assert np.array_equal(again, whole != 0)
    assert not part.inside.size or (part.inside.any(axis=0)[[0, -1]].all())


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_what_two_masks_share_is_what_their_pixels_say(seed: int, height: int, width: int, share: float) -> None:
    one, other = make_mask(seed, height, width, share), make_mask(seed + 1, height, width)
    texts = [run_lengths.encoded(Part(0, 0, mask), (height, width)) for mask in (one, other)]

    assert run_lengths.shared(texts[0], texts[1], (height, width)) == ((one & other).sum(), (one | other).sum())


def test_runs_of_a_large_image_are_written_as_cocos_tools_write_them() -> None:
    whole: Any = np.zeros((6_000, 9_000), np.uint8, order="F")
    whole[5_000:5_990, 8_000:8_990] = 1
    text = run_lengths.encoded(Part(8_000, 5_000, np.ones((990, 990), bool)), whole.shape)

    assert text.encode() == coco.encode(whole)["counts"]
    assert run_lengths.area(text, whole.shape) == 990 * 990


@pytest.mark.parametrize(
    "text",
    ["", "é", "\x00", " ", "P", "PPPPPPPPPPPPPPP0", "1", "0", "O", "99", "~", "ooooooo0", "5" * 999],
    ids=repr,
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a mask "):
        run_lengths.runs_of(text, (10, 10))


def test_runs_that_add_up_to_an_image_in_64_bits_alone_are_refused() -> None:
    runs: Any = np.arange(92_682) // 2 * 2**33
    left = 2**64 + 100 - sum(runs.tolist())
    runs += left // len(runs)
    runs[-1] += left % len(runs)
    assert runs.sum() == 100
    with pytest.raises(ValueError, match="runs that do not fit an image"):
        run_lengths.part_of(run_lengths.compressed(runs), (10, 10))


@settings(max_examples=200)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30))
def test_no_text_is_read_otherwise_than_by_cocos_tools(text: str) -> None:
    size = (7, 5)
    try:
        runs = run_lengths.runs_of(text, size)
    except ValueError:
        return
    assert runs.sum() == 35
    assert run_lengths.area(text, size) == int(coco.area({"size": list(size), "counts": text.encode()}))


def test_a_part_that_reaches_beyond_its_image_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches beyond"):
        run_lengths.encoded(Part(5, 0, np.ones((2, 2), bool)), (2, 6))
