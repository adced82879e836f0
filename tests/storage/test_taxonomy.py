"""Versions with taxa, in a store on object storage; the register's answers are kept there, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from image_sources import photo
from object_storage import ObjectStorage
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import RefusedError
from pelagos_contract.splits import SPLITS
from pelagos_pipelines.preparation import published, versions
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.taxonomy import worms
from web_servers import Fault, quick, serving
from worms_server import BASE, Worms


def test_taxa_and_answers_are_found_again_on_another_machine(
    object_storage: ObjectStorage, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worms, "PAUSE", 0.0)
    monkeypatch.setattr(worms, "PATIENCE", quick())
    for seed, name in enumerate(("Gadus morhua", "haddock")):
        for number in range(3):
            photo(tmp_path / "data" / name / f"{number}.png", seed=10 * seed + number)

    def run(report: str) -> PreparationResult:
        asked: dict[str, Any] = {"authority": "WoRMS", "ids": {"haddock": 126437}, "url": server.url + BASE}
        request = {"source": {"volume": {"path": "."}}, "task": "Classification", "labels": {"taxonomy": asked}}
        prepare(json.dumps(request), str(tmp_path / "data"), f"s3://{bucket}/store", str(tmp_path / report))
        return PreparationResult.model_validate_json((tmp_path / report / "result.json").read_bytes())

    with serving(Worms()) as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        server.fail(Fault("answer", 500), part="Classification")
        with pytest.raises(RefusedError):
            run("away")
        assert json.loads(object_storage.get(bucket, "store/taxa.json"))["kinds"].keys() == {"names", "records"}
        server.heal()
        first = run("first")
        asked = len(server.seen)
        photo(tmp_path / "data" / "haddock" / "new.png", seed=77)
        second = run("second")

        assert len(server.seen) == asked
        assert server.count("GET", "MatchNames") == 1
    assert first.version != second.version
    folder = published.download(second.uri, tmp_path / "elsewhere", SPLITS)
    found = versions.read(folder).collection.taxonomy
    assert found is not None
    assert [each.ranked("Family") for each in found.classes] == ["Gadidae", "Gadidae"]
    assert found.told == second.taxonomy
    published.require_complete(second.uri, tmp_path / "complete")
