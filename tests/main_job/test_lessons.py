"""The lessons of docs/tutorials, typed verbatim, on the installation of this folder.

Differences from a reader's session: trainings are short, nobody waits at a watch, and a folder of samples replaces the record on
Zenodo, as the lesson suggests to readers without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from installations import BIN, ROOT, Installation

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]
LESSONS = ROOT / "docs/tutorials"
SAMPLES = ROOT / "manifests/samples"
SHORT = {"epochs": 1, "imageSize": 64, "batchSize": 16}
NOT_HERE = (
    "make install samples",  # done for this test environment
    "source .venvs/activate",  # set in this test environment
    "pelagos up",  # it is running
    "pelagos down",  # needed by the other tests of this folder
    "export KUBECONFIG=",
    "kubectl get trainingrun phytoplankton-detector --watch",  # runs until Ctrl-C
    "kubectl create secret generic zenodo",  # publishing is tested with a fake server, in tests/publishing
    "pelagos publication",
)


def short(resource: dict[str, Any]) -> dict[str, Any]:
    """The same with one training of one epoch, gates that such a model passes, and nothing that stays after its deletion."""
    resource["spec"]["deletionPolicy"] = "Delete"
    if resource["kind"] == "TrainingRun":
        resource["spec"]["hyperparameters"] |= SHORT
        resource["spec"]["seeds"] = [0]
        for gate in resource["spec"]["gates"]:
            gate["minimum"] = "0"
    return resource


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Kind and text of each code block, and the words before it."""
    found = re.split(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return list(zip(found[1::3], found[2::3], found[::3], strict=False))


def files(page: str, instead: Mapping[str, Any]) -> list[tuple[int, str, dict[str, Any]]]:
    """The files that a reader has saved after each block: a resource under its name, or one with fields added to its spec."""
    saved: dict[str, dict[str, Any]] = {}
    name, found = "", []
    for number, (kind, text, before) in enumerate(blocks(page)):
        if kind == "yaml":
            document = yaml.safe_load(text)
            if named := re.findall(r"Save this as `([\w.-]+)`", before):
                name = named[-1]
                saved[name] = document
            else:
                name = next(iter(saved))
                saved[name] = {**saved[name], "spec": saved[name]["spec"] | document["spec"]}
            saved[name]["spec"] |= {field: value for field, value in instead.items() if field in saved[name]["spec"]}
            found.append((number, name, saved[name]))
    return found


def typed(site: Installation, folder: Path, lines: list[str]) -> str:
    """Run the commands in one shell, which ends at the first that fails; returns their output."""
    wanted = [line for line in lines if not line.startswith(NOT_HERE)]
    script = "\n".join(("set -euo pipefail", f"PATH={BIN}:$PATH", f"cd {folder}", *wanted))
    return site.run("bash", "-c", script, seconds=800)


def commands(text: str) -> list[str]:
    return re.findall(r"^\$ (.+)$", text, re.MULTILINE)


def test_the_first_lesson_ends_with_a_model_that_answers(site: Installation, tmp_path: Path) -> None:
    page = (LESSONS / "first-detector.md").read_text(encoding="utf-8")
    (tmp_path / "manifests/samples").mkdir(parents=True)
    for file in SAMPLES.glob("*.yaml"):
        resource = short(yaml.safe_load(file.read_text(encoding="utf-8")))
        (tmp_path / "manifests/samples" / file.name).write_text(yaml.safe_dump(resource), encoding="utf-8")

    said = typed(site, tmp_path, commands(page))

    assert "trainingrun.pelagos.dev/phytoplankton-detector condition met" in said
    assert {"report.html", "model.html", "found.png"} <= {file.name for file in tmp_path.iterdir()}
    status = site.get("trainingrun", "phytoplankton-detector")["status"]
    assert status["cost"]["attempts"] == 1, "another gate trains nothing again"
    site.kubectl("delete", "-f", str(tmp_path / "manifests/samples"))


def test_the_lesson_about_publishing_ends_with_a_bundle_that_holds(site: Installation, tmp_path: Path) -> None:
    page = (LESSONS / "from-zenodo-to-a-published-model.md").read_text(encoding="utf-8")
    own = "samples/phytoplankton-crops"
    assert f"`source: {{volume: {{path: {own}}}}}`" in page
    saved = {number: (name, resource) for number, name, resource in files(page, {"source": {"volume": {"path": own}}})}
    lines: list[str] = []
    for number, (kind, text, _) in enumerate(blocks(page)):
        if number in saved:
            name, resource = saved[number]
            if resource["kind"] == "Dataset":
                resource["spec"].pop("publish", None)
            lines.append(f"cat >{name} <<'END'\n{yaml.safe_dump(short(resource))}END")
        elif kind == "console":
            lines += commands(text)

    said = typed(site, tmp_path, lines)

    assert "modelservice.pelagos.dev/plankton-classifier condition met" in said
    assert (tmp_path / "plankton-lineage.zip").is_file()
    assert "Kinds of plankton" in said
    site.kubectl("delete", "modelservice/plankton-classifier", "trainingrun/plankton-classifier", "dataset/plankton")
