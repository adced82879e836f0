"""What spec.balance plans for the training split: what decides it, what it costs, and that no other split is changed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pelagos_contract.balancing import MOST_REPEATS, Balance, Balanced
from pelagos_contract.dataset import PreparationRequest
from pelagos_contract.failures import RefusedError
from pelagos_contract.judgement import PAGE
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import balancing, versions
from pelagos_pipelines.preparation.balancing import Plan
from training.shapes import make_version

CLASSES = ("cod", "eel", "ray")


def classified(counts: Mapping[str, int]) -> list[ImageRecord]:
    """Training images of each class in the given numbers, and as many in another split."""
    images = [
        ImageRecord(f"{name}/{number}.png", label=name) for name, many in counts.items() for number in range(many)
    ]
    others = [replace(image, path=f"other/{image.path}", split="validation") for image in images]
    return [replace(image, split="train") for image in images] + others


def detected(*shown: str) -> list[ImageRecord]:
    """One training image per argument, whose letters are the classes of its boxes."""
    names = {name[0]: name for name in CLASSES}
    boxes = [tuple(Box(names[letter], 0, 0, 9, 9) for letter in one) for one in shown]
    return [ImageRecord(f"{number:04}.png", 99, 99, split="train", boxes=found) for number, found in enumerate(boxes)]


def planned(images: Sequence[ImageRecord], strategy: Any, target: Any = None, seed: int = 0) -> Plan:
    task = Task.CLASSIFICATION if images[0].label else Task.DETECTION
    order = balancing.chance(seed, {image.path: hashlib.sha256(image.path.encode()).hexdigest() for image in images})
    declared = Balance.model_validate({"strategy": strategy, "target": target})
    return balancing.plan(images, CLASSES, task, declared, order)


def told(images: Sequence[ImageRecord], plan: Plan) -> Balanced:
    task = Task.CLASSIFICATION if images[0].label else Task.DETECTION
    found = balancing.told(plan, Collection(task, CLASSES, tuple(images)))
    assert found is not None
    return found


def after(images: Sequence[ImageRecord], plan: Plan) -> dict[str, float]:
    return {one.name: float(one.after) for one in told(images, plan).classes}


@pytest.mark.parametrize(
    ("target", "want"),
    [
        (None, {"cod": 50, "eel": 7, "ray": 7}),
        ("Largest", {"cod": 50, "eel": 50, "ray": 50}),
        (20, {"cod": 50, "eel": 20, "ray": 20}),
        ("20", {"cod": 50, "eel": 20, "ray": 20}),
    ],
    ids=["the median by default", "the largest", "a number", "a number as text"],
)
def test_rarer_classes_are_shown_as_often_as_the_target_to_the_image(target: Any, want: dict[str, int]) -> None:
    images = classified({"cod": 50, "eel": 7, "ray": 3})

    plan = planned(images, "Oversample", target)

    assert after(images, plan) == want
    times = Counter(plan.repeats.get(f"ray/{number}.png", 1) for number in range(3))
    assert max(times) - min(times) <= 1, "no image of a class is shown more than once more often than another"
    assert not [path for path in plan.repeats if path.startswith(("other", "cod"))]


def test_no_image_is_shown_without_bounds() -> None:
    plan = planned(classified({"cod": 3, "eel": 1}), "Oversample", 900_000)

    assert set(plan.repeats.values()) == {MOST_REPEATS}


def test_images_of_several_classes_are_repeated_by_their_rarest_one() -> None:
    """By hand: 100 images and a target of 64. Ray is shown by 4 images, so its factor is sqrt(64 / 4); eel's is sqrt(2)."""
    images = detected(*["c"] * 64, *["ce"] * 32, *["cer"] * 2, *["r"] * 2)
    plan = planned(images, "Oversample", 64)

    assert [plan.repeats[f"{number:04}.png"] for number in range(96, 100)] == [4] * 4
    assert not [path for path in plan.repeats if path < "0064.png"]
    factor = (64 / 34) ** 0.5
    often = sum(plan.repeats.get(f"{number:04}.png", 1) == 2 for number in range(64, 96))
    assert often == pytest.approx(32 * (factor - 1), abs=8), "a fraction is that share of the images"
    assert {1, 2} == {plan.repeats.get(f"{number:04}.png", 1) for number in range(64, 96)}


def test_images_are_left_out_while_all_their_classes_have_enough() -> None:
    images = detected(*["c"] * 30, *["ce"] * 5, "", *["r"] * 2)

    plan = planned(images, "Undersample", 5)
    found = told(images, plan)

    assert {one.name: one.after for one in found.classes} == {"cod": "5", "eel": "5", "ray": "2"}
    assert set(plan.repeats.values()) == {0}
    assert "0035.png" not in plan.repeats, "one that shows nothing teaches what is not there"
    assert found.left_out is not None
    assert (found.left_out.reason, found.left_out.images, len(found.left_out.first)) == ("AboveTarget", 30, 5)
    assert [one.left_out for one in found.classes] == [30, 0, 0]


def test_weights_are_the_inverse_of_frequency_and_one_in_the_mean() -> None:
    images = classified({"cod": 60, "eel": 30, "ray": 10})

    weights = planned(images, "ClassWeights").weights

    assert weights == pytest.approx((1 / 3, 2 / 3, 2))
    assert planned(images, "ClassWeights", "Median").weights == pytest.approx((3 / 5, 3 / 5, 9 / 5))


def test_weights_of_boxes_count_boxes_and_are_bounded() -> None:
    images = detected("c" * 900, "ce")

    weights = planned(images, "ClassWeights").weights

    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx(100, abs=0.01)
    assert weights[2] == 1, "of a class that no training image shows nothing is known"


@pytest.mark.parametrize("strategy", ["Oversample", "Undersample"])
def test_chance_follows_the_seed_and_the_content_alone(strategy: str) -> None:
    images = classified({"cod": 50, "eel": 7, "ray": 3})

    first = planned(images, strategy, 10, seed=1)

    assert planned(images[::-1], strategy, 10, seed=1) == first
    assert planned(images, strategy, 10, seed=2) != first


def test_what_repeats_cost_is_told_honestly() -> None:
    images = classified({"cod": 40, "eel": 4})

    found = told(images, planned(images, "Oversample", "Largest"))

    assert (found.images, found.shown, found.most_repeats) == (44, 80, 10)
    assert found.effective_classes == ["1.20", "2.00"]
    # Kish: (40 + 40)^2 / (40 * 1 + 4 * 100).
    assert found.effective == "14.5"
    (warning,) = balancing.warnings(found)
    assert "rare classes (eel) are shown up to 10 times" in warning


def test_leaving_out_most_images_is_said() -> None:
    images = classified({"cod": 40, "eel": 4})

    (warning,) = balancing.warnings(told(images, planned(images, "Undersample", "Smallest")))

    assert "leaves out 36 of 44 training images" in warning


def test_a_version_holds_its_plan_and_its_report_shows_it(tmp_path: Path) -> None:
    declared = {"strategy": "Oversample", "target": 9}
    uri, digest = make_version(tmp_path, (6, 3, 3), Task.CLASSIFICATION, balance=declared)

    version = versions.read(uri)

    assert version.balance is not None
    assert (version.balance.strategy, version.balance.target) == ("Oversample", 9)
    assert sum(version.balance.repeats.values()) + 6 - len(version.balance.repeats) == 18
    result = json.loads((tmp_path / "preparation" / "result.json").read_text())
    assert [(one["before"], one["after"]) for one in result["balance"]["classes"]] == [(3, "9"), (3, "9")]
    page = Path(uri, PAGE).read_text(encoding="utf-8")
    assert "Balance of the training split" in page
    assert "An epoch shows 18 images, of 6 in the split" in page
    _, usual = make_version(tmp_path / "usual", (6, 3, 3), Task.CLASSIFICATION)
    _, other = make_version(tmp_path / "none", (6, 3, 3), Task.CLASSIFICATION, balance={"strategy": "None"})
    assert other == usual != digest, "nothing that somebody wrote out makes no other version"


@pytest.mark.parametrize(
    "change",
    [
        {"repeats": {"nowhere.png": 3}},
        {"repeats": 7},
        {"repeats": {"train/disc/train-0.png": MOST_REPEATS + 1}},
        {"repeats": {"train/disc/train-0.png": 2.5}},
        {"weights": [1.0]},
        {"weights": [1.0, -1.0]},
        {"weights": [1.0, 1e9]},
        {"strategy": "Magic"},
        {"target": "many"},
    ],
    ids=str,
)
def test_a_plan_that_no_preparation_makes_is_not_obeyed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Anyone who can write to the store can give their own version the right digest."""
    images = [ImageRecord("train/disc/train-0.png", split="train", label="disc")]
    sound = {"strategy": "Oversample", "target": 9, "repeats": {"train/disc/train-0.png": 2}, "weights": [1.0, 1.0]}
    assert Plan.restored(orjson.loads(orjson.dumps(sound)), images, ("disc", "square")).repeats

    with pytest.raises((ValueError, TypeError)):
        Plan.restored(sound | change, images, ("disc", "square"))


def test_a_changed_plan_is_found_out(tmp_path: Path) -> None:
    uri, _ = make_version(tmp_path, (4, 2, 2), Task.CLASSIFICATION, balance={"strategy": "Oversample", "target": 5})
    manifest = Path(uri, "manifest.json")
    manifest.write_text(manifest.read_text().replace('"target": 5', '"target": 6'))

    with pytest.raises(RefusedError, match="does not match its digest"):
        versions.read(uri)


@pytest.mark.parametrize("target", ["0", "-1", 0, "1000000", "median", "1.5", 1.5, True])
def test_a_target_is_a_word_or_a_number_of_images(target: Any) -> None:
    with pytest.raises(ValueError, match="balance"):
        PreparationRequest.model_validate(
            {
                "source": {"volume": {"path": "a"}},
                "task": "Detection",
                "balance": {"strategy": "Oversample", "target": target},
            }
        )
