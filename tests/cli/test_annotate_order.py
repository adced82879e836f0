"""Images are ordered by how much a model can learn from them: least certain, and least similar to its training images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import label_studio_server
import pushed_datasets
from label_studio_server import PAT
from pelagos.cli.annotating import ordering
from pelagos_contract import looks
from pelagos_contract.looks import Seen
from pushed_datasets import push
from resource_servers import ApiServer, api

__all__ = ["api"]


FIGURES = (5.0, 100.0, 40.0, 0.0, 12.0, 0.0)


def look(seed: int, *, near: float = 0.0, to: Seen | None = None, brightness: float = 100.0) -> Seen:
    """A random look, or one ``near`` another: 0 is the same, 1 has nothing in common with it."""
    waves = np.random.default_rng(seed).normal(size=100)
    waves /= np.linalg.norm(waves)
    if to is not None and to.look is not None:
        other = np.frombuffer(to.look, np.int8).astype(float)
        waves = near * waves + (1 - near) * other / np.linalg.norm(other)
        waves /= np.linalg.norm(waves)
    return Seen(bytes(np.rint(waves * 127).astype(np.int8)), (FIGURES[0], brightness, *FIGURES[2:]))


KNOWN = [look(number) for number in range(5)]


def test_the_least_sure_go_first_where_nothing_is_known_of_the_training() -> None:
    assert ordering.by_both([0.9, 0.2, 0.5, 0.2], None) == [1, 3, 2, 0]


def test_what_looks_least_like_the_training_is_most_novel() -> None:
    seen = [look(10, near=0.2, to=KNOWN[0]), look(11), look(12, near=0.5, to=KNOWN[1]), KNOWN[2]]

    assert ordering.novel_first(seen, KNOWN) == [2, 0, 1, 3]


def test_of_frames_that_look_alike_one_is_novel_and_the_others_come_late() -> None:
    dive = look(20)
    frames = [dive, *(look(21 + number, near=0.05, to=dive) for number in range(3))]
    other = look(30, near=0.6, to=KNOWN[0])

    ranks = ordering.novel_first([*frames, other], KNOWN)

    assert sorted(ranks[:4])[0] == 0
    assert ranks[4] == 1


@pytest.mark.parametrize("turned", [np.transpose, lambda one: one * np.where(np.arange(10) % 2, -1, 1)[None, :]])
def test_a_mirrored_or_turned_image_is_not_novel(turned: object) -> None:
    square = np.frombuffer(KNOWN[0].look or b"", np.int8).reshape(10, 10)
    same = Seen(bytes(np.ascontiguousarray(turned(square)).astype(np.int8)), FIGURES)  # type: ignore[operator]

    assert ordering.novel_first([same, look(40, near=0.3, to=KNOWN[1])], KNOWN) == [1, 0]


def test_an_image_of_another_brightness_is_novel() -> None:
    seen = [look(70, near=0.3, to=KNOWN[0]), look(71, near=0.3, to=KNOWN[0], brightness=180)]

    assert ordering.novel_first(seen, KNOWN) == [1, 0]


def test_images_on_which_nothing_is_to_be_seen_are_not_novel() -> None:
    assert ordering.novel_first([None, look(50), Seen(None, FIGURES)], KNOWN) == [1, 0, 1]


def test_both_ranks_count_the_same() -> None:
    """Least sure: b, a, c. Most novel: c, b, a. The means: a 1.5, b 0.5, c 1."""
    assert ordering.by_both([0.5, 0.1, 0.9], [2, 1, 0]) == [1, 2, 0]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 3))
def test_every_image_with_a_look_has_a_rank_of_its_own(seeds: list[int], known: int) -> None:
    ranks = ordering.novel_first([look(seed) for seed in seeds], KNOWN[:known])

    assert sorted(ranks) == list(range(len(seeds)))


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


def test_a_push_asks_the_store_of_the_training_what_the_model_has_seen(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is equally sure of all; ``far`` looks like nothing that it was trained on."""
    images = {name: picture(shade) for shade, name in enumerate(("near", "same", "far"))}
    seen = {"near": look(60, near=0.3, to=KNOWN[0]), "same": KNOWN[0], "far": look(61)}
    folder = pushed_datasets.version(tmp_path / "pushed", [(f"{name}.png", one) for name, one in images.items()])
    trained = pushed_datasets.version(tmp_path / "trained", [("old.png", picture(9))], split="train")
    pushed_datasets.note_looks(folder, {images[name]: each for name, each in seen.items()})
    pushed_datasets.note_looks(trained, {picture(9): KNOWN[0]})
    pushed_datasets.declare(api, folder)
    run = {"model": {"onnxSha256": "0" * 64}, "dataset": {"uri": str(trained)}}
    api.add("reef", run, kind="TrainingRun")
    pushed_datasets.answer_with(monkeypatch, {one: pushed_datasets.detections(0.5) for one in images.values()})
    with label_studio_server.serving() as tool:
        api.secrets["crew"] = {"tool": "labelStudio", "url": tool.url, "project": "3", "token": PAT}
        done = push("-o", "json")
        names = [task["data"]["image"].rpartition("-")[2] for task in tool.tasks]

    assert names == ["far.png", "near.png", "same.png"]
    assert json.loads(done.stdout)["order"] == "those of which the model is least sure, and which are newest to it"


def test_a_model_whose_training_is_not_known_is_told(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed_datasets.declare(api, pushed_datasets.version(tmp_path / "pushed", [("one.png", picture(1))]))
    pushed_datasets.answer_with(monkeypatch, {picture(1): pushed_datasets.detections(0.5)})
    with label_studio_server.serving() as tool:
        api.secrets["crew"] = {"tool": "labelStudio", "url": tool.url, "project": "3", "token": PAT}

        assert "no TrainingRun that can be seen made the model" in push().stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"inspections": [["a"]]}', b'{"inspections": [["a",0,1,1,"","zz",null,[],null,[1,1,1,1]]]}'],
)
def test_notes_of_looks_that_are_none_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"preparation wrote|JSON|Expecting|hexadecimal"):
        looks.read(content)
