"""Small images are passed to a child several at a time, and each is judged as it would be alone."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import untrusted_images
from image_sources import photo, tree_of
from pelagos_contract.beneath import ChangedError
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.preparation import duplicates, integrity
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.sandbox import Answer
from pelagos_pipelines.sandbox.ceilings import Ceilings

FEW = 12


def packed(level: int, seed: int = 0) -> bytes:
    """The same pixels at each compression ``level``, in different bytes."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=level)
    return file.getvalue()


def by_digest(*contents: bytes) -> dict[str, bytes]:
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def source_of(folder: Path, contents: dict[str, bytes]) -> SourceFiles:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return tree_of(folder)


def test_each_is_found_to_be_what_it_is_alone() -> None:
    kinds = [untrusted_images.photo(), untrusted_images.photo("PNG"), packed(6), untrusted_images.photo(quality=40)]
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds += [untrusted_images.photo(exif=turned), untrusted_images.photo()[:-2], untrusted_images.blank(64, 48)]
    inspector = integrity.inspector_for(Ceilings())
    contents = by_digest(*kinds)

    together = inspector.inspect_each(contents)

    alone = {digest: inspector.inspect(content, digest) for digest, content in contents.items()}
    assert together == {digest: replace(one, pixels="") for digest, one in alone.items()}


@pytest.mark.parametrize("name", ["at the first", "in between", "at the last"])
def test_what_is_said_of_one_image_is_not_laid_to_the_next(name: str) -> None:
    """Decoders report damage on standard error, which all images of a child share."""
    whole = [packed(6, seed) for seed in range(3)]
    place = {"at the first": 0, "in between": 2, "at the last": 3}[name]
    damaged = untrusted_images.photo()[:-600]
    whole.insert(place, damaged)

    found = integrity.inspector_for(Ceilings()).inspect_each(by_digest(*whole))

    assert found.keys() == by_digest(*whole).keys() - by_digest(damaged).keys()


def test_an_image_that_ends_the_child_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_SECONDS", "1")
    bomb, broken = untrusted_images.scans(7_000, 7_000, 3_000), untrusted_images.photo()[:-600]
    assert max(len(bomb), len(broken)) < integrity._SMALL
    good = {f"{number:02d}.png": packed(6, number) for number in range(4 * FEW)}
    tree = source_of(tmp_path / "source", good | {"07-bomb.jpg": bomb, "08-broken.jpg": broken})

    found = integrity.inspect_tree(tree, tmp_path / "memory")

    assert {path for path, one in found.items() if one.problem is None} == good.keys()
    assert "more than 1 s of processor time" in (found["07-bomb.jpg"].problem or "")
    assert "damaged" in (found["08-broken.jpg"].problem or "")


def test_small_files_of_large_images_need_no_more_memory_together_than_alone() -> None:
    contents = by_digest(*(untrusted_images.blank(6_000, 4_000 + number) for number in range(6)))
    inspector = integrity.Inspector(Ceilings(image_memory=200))
    try:
        assert inspector.inspect_each(contents).keys() == contents.keys()
    finally:
        inspector.pool.close()


class TestPixels:
    """Digests are made only for images that might equal another one: making one takes a fifth of the time of decoding."""

    def test_of_two_encodings_are_the_same(self, tmp_path: Path) -> None:
        others = {f"{number:02d}.png": packed(6, number + 1) for number in range(4 * FEW)}
        tree = source_of(tmp_path / "source", others | {"copy.png": packed(9), "first.png": packed(1)})

        found = integrity.inspect_tree(tree, tmp_path / "memory")

        assert duplicates.find(found, 0).exact == {"first.png": "copy.png"}
        assert {path for path, one in found.items() if one.pixels} == {"copy.png", "first.png"}

    def test_of_an_image_that_comes_later_are_compared_with_those_of_one_that_was_known(self, tmp_path: Path) -> None:
        others = {f"{number:02d}.png": packed(6, number + 1) for number in range(4 * FEW)}
        memory = tmp_path / "memory"
        integrity.inspect_tree(source_of(tmp_path / "source", others | {"first.png": packed(1)}), memory)

        found = integrity.inspect_tree(source_of(tmp_path / "source", {"late.png": packed(9)}), memory)

        assert duplicates.find(found, 0).exact == {"late.png": "first.png"}
        assert integrity.inspect_tree(tree_of(tmp_path / "source"), memory) == found

    def test_of_equal_files_are_the_same_whatever_they_are_looked_at_with(self, tmp_path: Path) -> None:
        among_themselves = {f"a{number:02d}.png": packed(6) for number in range(4 * FEW)}
        among_others = {f"b{number:02d}.png": packed(6, number % 2 * number) for number in range(4 * FEW)}
        tree = source_of(tmp_path / "source", among_themselves | among_others)

        found = integrity.inspect_tree(tree, tmp_path / "memory")

        exact = duplicates.find(found, 0).exact
        assert set(exact.values()) == {"a00.png"}
        assert len(exact) == 4 * FEW + 2 * FEW - 1

    def test_that_look_the_same_and_are_not_stay_apart(self, tmp_path: Path) -> None:
        """The measures do not include opacity."""
        colours = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
        contents = {}
        for number in range(2 * FEW):
            colours[..., 3] = number
            file = io.BytesIO()
            Image.fromarray(colours).save(file, "PNG")
            contents[f"{number:02d}.png"] = file.getvalue()

        found = integrity.inspect_tree(source_of(tmp_path / "source", contents), tmp_path / "memory")

        assert len({one.measures for one in found.values()}) == 1
        assert not duplicates.find(found, 0).exact

    def test_of_a_file_that_changes_meanwhile_are_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        contents = {f"{level}.png": packed(level) for level in (1, 6, 9)}
        tree = source_of(tmp_path / "source", contents | {f"{n}-other.png": packed(6, n + 1) for n in range(FEW)})
        real = integrity._Looking.again

        def meanwhile(looking: integrity._Looking, path: str, before: str) -> Inspection:
            photo(tmp_path / "source" / path, seed=5)
            return real(looking, path, before)

        monkeypatch.setattr(integrity._Looking, "again", meanwhile)

        with pytest.raises(ChangedError, match="changed while it was read; try again"):
            integrity.inspect_tree(tree, tmp_path / "memory")


def test_a_child_that_lies_of_several_images_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = integrity.Inspector(Ceilings())
    contents = by_digest(packed(6), packed(6, 1))
    told: dict[str, object] = {"width": 40, "height": 30, "look": None, "remarks": [], "pixels": "0" * 64}
    lies: list[dict[str, object]] = [
        {"found": [told]},
        {"found": {}},
        {"found": [told, None]},
        {"found": [{"width": "40"}, told]},
        {},
    ]
    for answer in map(Answer, lies):
        monkeypatch.setattr(inspector.pool, "run", lambda *asked, answer=answer: answer)
        assert inspector.inspect_each(contents) == {}
    sums = {"grey": 9, "grey2": 81, "clipped": 0, "edges": 0, "edges2": 0, "among": 1}
    fine = Answer({"found": [{**told, "measures": sums, "width": 1, "height": 1}, None]})
    monkeypatch.setattr(inspector.pool, "run", lambda *asked: fine)
    # No digest of pixels was requested, so one that it returns is ignored: it could declare an image a copy of another.
    assert [one.pixels for one in inspector.inspect_each(contents).values()] == [""]
