"""Rules across fields: the verdict of each on specs that keep it and specs that only just break it.

Every rule is written twice, in CEL for servers that know it and in Python for the others. Both must agree on ``CASES``;
tests/integration/test_rules_on_a_server.py asks a server.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import builders
from pelagos.api import kinds
from pelagos.api.kinds import Kind
from pelagos.decisions import rules
from pelagos_contract.sources import BIIGLE, CVAT, SOURCES, aliases, path_field

PATHS = (("a/b..c/..d", False), (".", False), ("..", True), ("a/../b", True), ("a/..", True), ("/a", True))
"""Paths below the data volume, and which of them leave it."""
_PAGES = (Path(__file__).parents[2] / "docs/classes.md", Path(__file__).parents[2] / "docs/capture.md")
DOCUMENTED = [
    yaml.safe_load(text)
    for page in _PAGES
    for text in re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"))
]
"""Resources as pages for users show them."""
DIGEST = {"sha256": "d4" * 32}
SEARCH: dict[str, Any] = {"method": "Tpe", "trials": 4, "space": {"batchSize": {"values": [8, 16]}}}
SEARCHES: tuple[tuple[dict[str, Any], str | None], ...] = (
    ({}, None),
    ({"space": {}}, "space"),
    *(
        ({"space": {key: found}}, None if is_sound else f"space.{key}")
        for key, found, is_sound in (
            ("learningRate", {"minimum": "0.0001", "maximum": "0.1", "scale": "Log"}, True),
            ("learningRate", {"minimum": "1e-4", "maximum": "1"}, True),
            ("learningRate", {"values": ["0.1", "1e-3"]}, True),
            ("learningRate", {"minimum": "0.1", "maximum": "0.0001"}, False),
            ("learningRate", {"minimum": "0.1", "maximum": "0.10"}, False),
            ("learningRate", {"minimum": "0", "maximum": "0.1"}, False),
            ("learningRate", {"minimum": "0.1", "maximum": "1.5"}, False),
            ("learningRate", {"minimum": "0.1"}, False),
            ("learningRate", {"maximum": "0.1"}, False),
            ("learningRate", {}, False),
            ("learningRate", {"scale": "Log"}, False),
            ("learningRate", {"values": ["0.1"], "minimum": "0.1", "maximum": "0.2"}, False),
            ("learningRate", {"values": ["0.1"], "scale": "Log"}, False),
            ("learningRate", {"values": ["0.1", "1e-1"]}, False),
            ("learningRate", {"values": ["0.1", "0"]}, False),
            ("weightDecay", {"minimum": "0", "maximum": "0.1"}, True),
            ("weightDecay", {"minimum": "0", "maximum": "0.1", "scale": "Log"}, False),
            ("weightDecay", {"values": ["0", "1"]}, True),
            ("weightDecay", {"values": ["0", "1.1"]}, False),
            ("batchSize", {"minimum": 4, "maximum": 64, "scale": "Log"}, True),
            ("batchSize", {"minimum": 4, "maximum": 4}, False),
            ("batchSize", {"values": [4, 8, 4]}, False),
            ("epochs", {"minimum": 4, "maximum": 5}, True),
            ("epochs", {"minimum": 5}, False),
            ("imageSize", {"minimum": 320, "maximum": 640}, True),
            ("imageSize", {"minimum": 320, "maximum": 650}, False),
            ("imageSize", {"values": [320, 650]}, False),
            ("optimizer", {"values": ["AdamW", "SGD"]}, True),
        )
    ),
    ({"space": {"optimizer": {"values": ["SGD", "SGD"]}}}, "space.optimizer.values"),
    ({"method": "Grid"}, None),
    ({"method": "Grid", "trials": 1}, "trials"),
    (
        {
            "method": "Grid",
            "space": {
                "batchSize": {"values": [8, 16]},
                "learningRate": {"values": ["0.1"]},
                "optimizer": {"values": ["AdamW", "SGD"]},
            },
        },
        None,
    ),
    (
        {"method": "Grid", "space": {"batchSize": {"values": [8, 16, 32]}, "optimizer": {"values": ["AdamW", "SGD"]}}},
        "trials",
    ),
    ({"method": "Grid", "space": {"learningRate": {"minimum": "0.01", "maximum": "0.1"}}}, "space"),
    ({"method": "Random", "space": {"learningRate": {"minimum": "0.01", "maximum": "0.1"}}}, None),
    ({"parallelism": 1}, None),
    ({"parallelism": 2}, None),
    ({"parallelism": 3}, "parallelism"),
    ({"epochs": 5}, None),
    ({"epochs": 5, "space": {"epochs": {"values": [1, 2]}}}, "epochs"),
    ({"then": "TakeBest"}, None),
)
"""Searches, and the field of the rule that each breaks."""
CASES: list[tuple[Kind, builders.Yaml, str | None]] = [
    (kinds.DATASET, {}, None),
    *(
        (
            kinds.DATASET,
            {"source": {"volume": None} | {place.name: {place.path: path}}},
            path_field(place) if broken else None,
        )
        for place in SOURCES
        if place.path
        for path, broken in PATHS
    ),
    (kinds.DATASET, {"source": {"volume": None, "zenodo": {"record": "17"}}}, None),
    (kinds.DATASET, {"source": {"volume": None, "zenodo": {"doi": "10.5281/zenodo.17"}}}, None),
    (kinds.DATASET, {"source": {"volume": None, "zenodo": {}}}, "spec.source.zenodo"),
    (
        kinds.DATASET,
        {"source": {"volume": None, "zenodo": {"record": "17", "doi": "10.5281/zenodo.17"}}},
        "spec.source.zenodo",
    ),
    *(
        (
            kinds.DATASET,
            {
                "source": {
                    "volume": None,
                    place.name: {"url": "https://reef.example.org"} | dict.fromkeys(aliases(place)[:count], 1),
                }
            },
            None if count == 1 else f"spec.source.{place.name}",
        )
        for place in (CVAT, BIIGLE)
        for count in (0, 1, 2)
    ),
    (kinds.DATASET, {"split": {"ratios": {"train": 100, "validation": 0, "test": 0}}}, None),
    (kinds.DATASET, {"split": {"ratios": {"train": 69}}}, "spec.split.ratios"),
    (kinds.DATASET, {"cleaning": {"minBrightness": 9, "maxBrightness": 9}}, None),
    (kinds.DATASET, {"cleaning": {"minBrightness": 9, "maxBrightness": 8}}, "spec.cleaning.minBrightness"),
    (kinds.DATASET, {"split": {"ratios": {"train": 71}}}, "spec.split.ratios"),
    (
        kinds.DATASET,
        {
            "labels": {
                "include": ["cod", "dab"],
                "exclude": ["eel"],
                "rename": {"cod": "Gadus"},
                "merge": {"flat": ["dab"]},
            }
        },
        None,
    ),
    (kinds.DATASET, {"labels": {"include": ["dab", "eel"], "exclude": ["cod", "eel"]}}, "spec.labels.exclude"),
    (kinds.DATASET, {"labels": {"rename": {"cod": "eel", "eel": "ray"}}}, "spec.labels.rename"),
    (kinds.DATASET, {"labels": {"rename": {"cod": "cod"}}}, "spec.labels.rename"),
    (kinds.DATASET, {"labels": {"rename": {"cod": "fish", "eel": "fish", "dab": "flat"}}}, "spec.labels.rename"),
    (kinds.DATASET, {"labels": {"rename": {"cod": "Gadus"}, "merge": {"fish": ["eel", "cod"]}}}, "spec.labels.merge"),
    (kinds.DATASET, {"labels": {"rename": {"cod": "Gadus"}, "merge": {"cod": ["eel"]}}}, "spec.labels.merge"),
    (
        kinds.DATASET,
        {"labels": {"taxonomy": {"authority": "WoRMS", "table": "taxa.csv", "url": "https://worms.example"}}},
        "spec.labels.taxonomy.url",
    ),
    (kinds.DATASET, {"labels": {"taxonomy": {"authority": "WoRMS", "above": "Exclude"}}}, "spec.labels.taxonomy.above"),
    (
        kinds.DATASET,
        {"labels": {"taxonomy": {"authority": "WoRMS", "table": "taxa.csv", "rank": "Family", "above": "Exclude"}}},
        None,
    ),
    *((kinds.DATASET, resource["spec"], None) for resource in DOCUMENTED),
    *(
        (kinds.DATASET, {"balance": {"strategy": strategy, "target": target}}, "spec.balance.target" if idle else None)
        for strategy, target, idle in (
            ("Oversample", "Smallest", True),
            ("Oversample", "Largest", False),
            ("Undersample", "Largest", True),
            ("Undersample", 100, False),
            ("Undersample", "100", False),
            ("ClassWeights", "Smallest", True),
            ("ClassWeights", "Median", False),
            ("None", "Smallest", False),
        )
    ),
    (kinds.DATASET, {"balance": {"strategy": "ClassWeights"}}, None),
    (kinds.DATASET, {"augmentation": {"mosaic": 100, "rotate": 180, "color": {"hue": 50}}}, None),
    (kinds.DATASET, {"task": "Classification", "augmentation": {"mosaic": 0}}, None),
    (kinds.DATASET, {"task": "Classification", "augmentation": {"mosaic": 1}}, "spec.augmentation.mosaic"),
    (kinds.DATASET, {"classFolder": "Last", "labels": {"level": "Last"}}, "spec.labels.level"),
    (kinds.DATASET, {"preprocessing": {"tile": {"size": 512, "overlap": 256}}, "task": "Detection"}, None),
    (
        kinds.DATASET,
        {"preprocessing": {"tile": {"size": 512, "overlap": 257}}, "task": "Detection"},
        "spec.preprocessing.tile.overlap",
    ),
    (
        kinds.DATASET,
        {"preprocessing": {"tile": {"size": 512, "overlap": 64}}, "task": "Classification"},
        "spec.preprocessing.tile",
    ),
    *(
        (kinds.DATASET, {"capture": capture, "split": {"policy": policy, **split}}, broken)
        for capture, policy, split, broken in (
            ({"from": "Exif"}, "Stratified", {}, None),
            ({"from": "Exif", "file": "a.csv"}, "Stratified", {}, "spec.capture.file"),
            ({"from": "Csv"}, "Stratified", {}, "spec.capture.file"),
            ({"from": "Csv", "file": "a/b.csv", "columns": {"path": "frame"}}, "Stratified", {}, None),
            ({"from": "Csv", "file": "a/../../b.csv"}, "Stratified", {}, "spec.capture.file"),
            ({"from": "Ifdo", "file": "/ifdo.yaml"}, "Stratified", {}, "spec.capture.file"),
            ({"from": "Ifdo", "file": "ifdo.yaml", "columns": {"site": "a"}}, "Stratified", {}, "spec.capture.columns"),
            ({"from": "Folder"}, "Stratified", {}, "spec.capture.pattern"),
            ({"from": "Folder", "pattern": "{site}/{*}"}, "Grouped", {"groupBy": ["site", "day"]}, None),
            ({"from": "Exif"}, "Stratified", {"groupBy": ["day"]}, "spec.split.groupBy"),
            ({"from": "Exif"}, "GroupedTemporal", {"gap": "24h"}, None),
            ({"from": "Exif"}, "Grouped", {"gap": "24h"}, "spec.split.gap"),
            ({"from": "Exif"}, "Provided", {"holdout": {"day": ["2024-05-31"]}}, "spec.split.holdout"),
            ({"from": "Exif"}, "Random", {"holdout": {"day": ["2024-05-31"]}}, None),
            (None, "Grouped", {"holdout": {"group": ["haul-3"]}}, None),
            (None, "Grouped", {"holdout": {"group": ["haul-3"], "site": ["azores"]}}, "spec.capture"),
            (None, "Grouped", {"groupBy": ["site"]}, "spec.capture"),
            (None, "GroupedTemporal", {}, "spec.capture"),
        )
    ),
    (kinds.DATASET, {"preprocessing": {"resize": {"longest": 512}}, "task": "Classification"}, None),
    (
        kinds.DATASET,
        {"preprocessing": {"tile": {"size": 512, "overlap": 64}, "resize": {"longest": 512}}, "task": "Detection"},
        "spec.preprocessing.resize",
    ),
    (kinds.TRAINING_RUN, {}, None),
    (kinds.TRAINING_RUN, {"hyperparameters": {"imageSize": 32}}, None),
    (kinds.TRAINING_RUN, {"tracking": {"wandb": {"project": "p", "mode": "Offline"}}}, None),
    (
        kinds.TRAINING_RUN,
        {"tracking": {"wandb": {"project": "p", "mode": "Online"}}},
        "spec.tracking.wandb.secretRef",
    ),
    (kinds.TRAINING_RUN, {"hyperparameters": {"imageSize": 33}}, "spec.hyperparameters.imageSize"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"path": "checkpoints/a.pt"}}}, None),
    (kinds.TRAINING_RUN, {"model": {"weights": {"path": "../a.pt"}}}, "spec.model.weights.path"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"path": "/a.pt"}}}, "spec.model.weights.path"),
    (kinds.TRAINING_RUN, {"model": {"weights": {}}}, "spec.model.weights"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"path": "a.pt", "uri": "file:a.pt"} | DIGEST}}, "spec.model.weights"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"uri": "s3://weights/a.pt"} | DIGEST}}, None),
    (kinds.TRAINING_RUN, {"model": {"weights": {"uri": "s3://weights/a.pt"}}}, "spec.model.weights.sha256"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"uri": "file:a/b.pt"} | DIGEST}}, None),
    (kinds.TRAINING_RUN, {"model": {"weights": {"uri": "file:a/../b.pt"} | DIGEST}}, "spec.model.weights.uri"),
    (kinds.TRAINING_RUN, {"model": {"weights": {"uri": "file:///b.pt"} | DIGEST}}, "spec.model.weights.uri"),
    (kinds.TRAINING_RUN, {"hyperparameters": {"learningRate": "1"}}, None),
    (kinds.TRAINING_RUN, {"hyperparameters": {"learningRate": "1e-3"}}, None),
    (kinds.TRAINING_RUN, {"hyperparameters": {"learningRate": "1.001"}}, "spec.hyperparameters.learningRate"),
    (kinds.TRAINING_RUN, {"hyperparameters": {"learningRate": "0.0"}}, "spec.hyperparameters.learningRate"),
    (kinds.TRAINING_RUN, {"hyperparameters": {"warmupEpochs": 9, "epochs": 10}}, None),
    (kinds.TRAINING_RUN, {"hyperparameters": {"warmupEpochs": 10, "epochs": 10}}, "spec.hyperparameters.warmupEpochs"),
    (kinds.TRAINING_RUN, {"hyperparameters": {"weightDecay": "0"}}, None),
    (kinds.TRAINING_RUN, {"hyperparameters": {"weightDecay": "1.5"}}, "spec.hyperparameters.weightDecay"),
    (kinds.TRAINING_RUN, {"seeds": [0, 1]}, None),
    (kinds.TRAINING_RUN, {"seeds": [0, 1, 0]}, "spec.seeds"),
    (kinds.TRAINING_RUN, {"evaluation": {"slices": ["site", "depthBand"]}}, None),
    (kinds.TRAINING_RUN, {"evaluation": {"slices": ["site", "hour", "site"]}}, "spec.evaluation.slices"),
    (kinds.TRAINING_RUN, {"evaluation": {"leaveOneOut": "depthBand"}}, None),
    (kinds.TRAINING_RUN, {"evaluation": {"leaveOneOut": "site"}, "search": SEARCH}, "spec.evaluation.leaveOneOut"),
    *(
        (kinds.TRAINING_RUN, {"search": SEARCH | changes}, field and f"spec.search.{field}")
        for changes, field in SEARCHES
    ),
    *(
        (kinds.TRAINING_RUN, {"search": SEARCH | {"parallelism": count}, "resources": resources}, field)
        for count, resources, field in (
            (3, {"cpu": 3}, None),
            (3, {"cpu": "2500m"}, "spec.search.parallelism"),
            (1, {"cpu": "500m"}, None),
            (2, {"gpus": 2}, None),
            (2, {"gpus": 1}, "spec.search.parallelism"),
        )
    ),
    (kinds.TRAINING_RUN, {"search": SEARCH, "seeds": [0, 1]}, None),
    (kinds.TRAINING_RUN, {"search": SEARCH | {"then": "TakeBest"}, "seeds": [0, 1]}, "spec.search.then"),
    (kinds.MODEL_SERVICE, {}, None),
    (kinds.MODEL_SERVICE, {"model": {"trainingRunRef": None}}, "spec.model"),
    (kinds.MODEL_SERVICE, {"model": {"uri": "/objects/model"}}, "spec.model"),
    (kinds.MODEL_SERVICE, {"model": {"trainingRunRef": None, "uri": "/objects/model"}}, None),
    (kinds.MODEL_SERVICE, {"model": {"trainingRunRef": None, "registry": {"model": "m", "alias": "a"}}}, None),
    (kinds.MODEL_SERVICE, {"model": {"trainingRunRef": None, "registry": {"model": "m", "version": "3"}}}, None),
    (kinds.MODEL_SERVICE, {"model": {"trainingRunRef": None, "registry": {"model": "m"}}}, "spec.model.registry"),
    (
        kinds.MODEL_SERVICE,
        {"model": {"trainingRunRef": None, "registry": {"model": "m", "alias": "a", "version": "3"}}},
        "spec.model.registry",
    ),
    (kinds.MODEL_SERVICE, {"thresholds": {"confidence": "1", "iou": "1.0"}}, None),
    (kinds.MODEL_SERVICE, {"thresholds": {"confidence": "1.01"}}, "spec.thresholds"),
    (kinds.MODEL_SERVICE, {"thresholds": {"iou": "2"}}, "spec.thresholds"),
    (kinds.DATASET, {"resources": {"cpu": "500m", "memory": "1Gi", "limits": {"cpu": "1.5", "memory": "2Gi"}}}, None),
    (kinds.DATASET, {"resources": {"cpu": 4, "limits": {"cpu": "3.999"}}}, "spec.resources.limits.cpu"),
    (kinds.DATASET, {"resources": {"limits": {"memory": "2Gi"}}}, "spec.resources.limits.memory"),
    (
        kinds.TRAINING_RUN,
        {"resources": {"cpu": "500m", "memory": "1Gi", "limits": {"cpu": "1.5", "memory": "2Gi"}}},
        None,
    ),
    (kinds.TRAINING_RUN, {"resources": {"cpu": 4, "limits": {"cpu": "3.999"}}}, "spec.resources.limits.cpu"),
    (kinds.TRAINING_RUN, {"resources": {"limits": {"memory": "2Gi"}}}, "spec.resources.limits.memory"),
    (
        kinds.MODEL_SERVICE,
        {"resources": {"cpu": "500m", "memory": "1Gi", "limits": {"cpu": "1.5", "memory": "2Gi"}}},
        None,
    ),
    (kinds.MODEL_SERVICE, {"resources": {"cpu": 4, "limits": {"cpu": "3.999"}}}, "spec.resources.limits.cpu"),
    (kinds.MODEL_SERVICE, {"resources": {"limits": {"memory": "2Gi"}}}, "spec.resources.limits.memory"),
    (kinds.DATASET, {"resources": {"cpu": "1.001", "limits": {"cpu": "1001m"}}}, None),
    (kinds.DATASET, {"resources": {"cpu": "0.3", "limits": {"cpu": "299m"}}}, "spec.resources.limits.cpu"),
    (kinds.DATASET, {"resources": {"limits": {"cpu": 8}}}, None),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 2, "max": 2, "target": {"cpu": 60}}}, None),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 3}}, None),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 3, "max": 1}}, None),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 3, "max": 2}}, "spec.scaling"),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 0}}, "spec.scaling"),
    (kinds.MODEL_SERVICE, {"scaling": {"min": 0, "deploymentMode": "Knative"}}, None),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "loss", "maximum": "0.5"}]}, None),
    (
        kinds.TRAINING_RUN,
        {"gates": [{"metric": "F1", "class": "Acartia (Acanthacartia) tonsa", "minimum": "0.5"}]},
        None,
    ),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "minimum": "0.5", "maximum": "0.9"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "minimum": "0.5"}, {"metric": "F1"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "test/F1/a", "class": "a", "minimum": "0.5"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "export/difference", "class": "a", "maximum": "0.5"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {}}]}, None),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {"version": 3, "tolerance": "0.02"}}]}, None),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {"require": "Better"}}]}, None),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {}, "minimum": "0.5"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {}, "class": "krill"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {}, "seeds": "Worst"}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "export/difference", "champion": {}}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"register": None, "gates": [{"metric": "F1", "champion": {}}]}, "spec.gates"),
    (kinds.TRAINING_RUN, {"register": None, "gates": [{"metric": "F1", "champion": {"model": "fish"}}]}, None),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "champion": {"version": 3, "alias": "best"}}]}, "spec.gates"),
    (
        kinds.TRAINING_RUN,
        {"gates": [{"metric": "F1", "champion": {"require": "Better", "tolerance": "0.1"}}]},
        "spec.gates",
    ),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "slice": {"field": "site"}, "minimum": "0.5"}]}, None),
    (
        kinds.TRAINING_RUN,
        {"gates": [{"metric": "F1", "slice": {"field": "site"}, "class": "krill", "minimum": "0.5"}]},
        "spec.gates",
    ),
    (kinds.TRAINING_RUN, {"gates": [{"metric": "F1", "slice": {"field": "site"}, "champion": {}}]}, "spec.gates"),
    (kinds.MODEL_SERVICE, {"scaling": {"deploymentMode": "Knative", "target": {"concurrency": 4}}}, None),
    (kinds.MODEL_SERVICE, {"scaling": {"target": {"concurrency": 4}}}, "spec.scaling"),
    (
        kinds.MODEL_SERVICE,
        {"scaling": {"deploymentMode": "Knative", "target": {"concurrency": 4, "cpu": 5}}},
        "spec.scaling",
    ),
    (kinds.TRIAL, {}, None),
    (kinds.TRIAL, {"modelServiceRef": None}, "spec.modelServiceRef"),
    (kinds.TRIAL, {"registry": {"model": "a", "alias": "b"}}, "spec.modelServiceRef"),
    *(
        (kinds.TRIAL, {"modelServiceRef": None, "registry": {"model": "a"} | which, **more}, broken)
        for which, more, broken in (
            ({"alias": "b"}, {}, None),
            ({"version": "1"}, {"isolation": "Dedicated"}, None),
            ({"version": "1"}, {"isolation": "Shared"}, "spec.isolation"),
            ({}, {}, "spec.registry"),
            ({"alias": "b", "version": "1"}, {}, "spec.registry"),
        )
    ),
    (kinds.TRIAL, {"isolation": "Shared"}, None),
    (kinds.TRIAL, {"isolation": "Dedicated"}, None),
    *(
        (kinds.TRIAL, {"duration": duration}, None if is_allowed else "spec.duration")
        for duration, is_allowed in (
            ("1m", True),
            ("59s", False),
            ("60s", True),
            ("60m", True),
            ("1h", True),
            ("61m", False),
            ("59m60s", True),
            ("9999h", False),
            ("0m", False),
        )
    ),
]


def parsed(kind: Kind, changes: builders.Yaml) -> Any:
    return kind.spec.model_validate(builders.changed(builders.BASES[kind.kind], changes))


@pytest.mark.parametrize(("kind", "changes", "want"), CASES)
def test_the_first_rule_that_is_broken_names_its_field_and_the_value(
    kind: Kind, changes: builders.Yaml, want: str | None
) -> None:
    found = rules.violation(parsed(kind, changes))

    if want is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(want)
        assert "; it is " in found


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    for kind in kinds.KINDS:
        for rule in kind.spec.rules():
            verdicts = {rule.holds(parsed(kind, changes)) for known, changes, _ in CASES if known is kind}
            assert verdicts == {True, False}, rule.message


@pytest.mark.parametrize(("kind", "changes", "want"), CASES)
def test_no_spec_breaks_two_rules_at_once(kind: Kind, changes: builders.Yaml, want: str | None) -> None:
    """So that servers with CEL and the operator name the same field."""
    broken = [rule.field for rule in kind.spec.rules() if not rule.holds(parsed(kind, changes))]

    assert broken == ([want] if want else [])


def test_rules_in_cel_speak_of_fields_that_there_are() -> None:
    for kind in kinds.KINDS:
        for rule in kind.spec.rules():
            for path in re.findall(r"self((?:\.[a-z][A-Za-z0-9]*)+)", rule.cel):
                model: Any = kind.spec
                for name in path.split(".")[1:]:
                    if name in {"startsWith", "endsWith", "split", "substring", "all", "exists"}:
                        break
                    fields = {field.alias or key: field for key, field in model.model_fields.items()}
                    assert name in fields, f"{rule.cel}: {path}"
                    model = _model(fields[name].annotation)


def _model(annotation: Any) -> Any:
    options = [option for option in getattr(annotation, "__args__", ()) if option is not type(None)]
    return options[0] if options else annotation
