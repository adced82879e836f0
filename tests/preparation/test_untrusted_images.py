"""A malicious image is refused by name, within the ceilings, while the other images of its source are inspected."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

import untrusted_images
from child_memory import Watched
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.sandbox import MEBIBYTE, UnavailableError, pool
from pelagos_pipelines.sandbox.ceilings import Ceilings

SECONDS = 1


@pytest.fixture(scope="module")
def inspector() -> integrity.Inspector:
    return integrity.inspector_for(Ceilings(image_seconds=SECONDS))


def look_at(inspector: integrity.Inspector, content: bytes) -> str | None:
    """The problem of an image. Fails if the child exceeded the ceilings, or if the next, good image is refused."""
    with Watched(inspector.pool) as watched:
        problem = inspector.inspect(content, hashlib.sha256(content).hexdigest()).problem
    assert watched.peak() < (Ceilings().image_memory + 150) * MEBIBYTE
    assert watched.seconds() < SECONDS + 3
    assert inspector.inspect(untrusted_images.photo(), "next").problem is None
    return problem


@pytest.mark.parametrize("name", untrusted_images.DAMAGED)
def test_an_image_of_which_a_part_is_missing_is_refused(inspector: integrity.Inspector, name: str) -> None:
    assert "damaged" in (look_at(inspector, untrusted_images.DAMAGED[name]()) or "accepted")


@pytest.mark.parametrize("name", untrusted_images.BOMBS)
def test_a_bomb_is_refused_by_name_and_within_the_ceilings(inspector: integrity.Inspector, name: str) -> None:
    problem = look_at(inspector, untrusted_images.BOMBS[name]())

    assert problem is not None
    if "wider" not in name and "two frames" not in name:
        assert "PELAGOS_MAX_IMAGE_" in problem


@pytest.mark.parametrize("name", untrusted_images.ODD)
def test_whatever_else_an_image_carries_takes_no_more_than_the_ceilings(
    inspector: integrity.Inspector, name: str
) -> None:
    look_at(inspector, untrusted_images.ODD[name]())


def test_ceilings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    large = untrusted_images.blank(8_000, 8_000)
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEGAPIXELS", "65")
    assert integrity.inspector_for(Ceilings.read()).inspect(large, "x").problem is None
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEMORY", "100")
    problem = integrity.inspector_for(Ceilings.read()).inspect(large, "x").problem
    assert problem is not None
    assert "PELAGOS_MAX_IMAGE_MEMORY" in problem


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e3", "٣"])
def test_a_ceiling_that_is_no_number_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEGAPIXELS", value)
    with pytest.raises(ValueError, match=r"PELAGOS_MAX_IMAGE_MEGAPIXELS is .* whole number"):
        Ceilings.read()


def test_one_bomb_among_images_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from image_sources import photo, tree_of

    monkeypatch.setenv("PELAGOS_MAX_IMAGE_SECONDS", str(SECONDS))
    for number in range(6):
        photo(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "bomb.jpg").write_bytes(untrusted_images.scans(7_000, 7_000, 3_000))
    (tmp_path / "large.png").write_bytes(untrusted_images.blank(9_000, 9_000))

    started = time.monotonic()
    found = integrity.inspect_tree(tree_of(tmp_path), tmp_path / ".memory")

    assert time.monotonic() - started < 60
    assert {path for path, one in found.items() if one.problem is not None} == {"bomb.jpg", "large.png"}
    assert "more than 1 s of processor time" in (found["bomb.jpg"].problem or "")
    assert "9000 x 9000" in (found["large.png"].problem or "")
    # A verdict that depended on time is not remembered: another machine, or another day, may come to a different one.
    remembered = (tmp_path / ".memory").read_text()
    assert found["large.png"].sha256 in remembered
    assert found["bomb.jpg"].sha256 not in remembered


def test_an_image_is_not_called_damaged_when_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "interpreter", lambda: "/bin/false")
    with pytest.raises(UnavailableError, match="did not start"):
        integrity.Inspector(Ceilings()).inspect(untrusted_images.photo(), "0" * 64)
