"""`make images`: its calls of a container engine, and that the files it writes install exactly what was built.

The engines here only record how they are called; images are really built in tests/cluster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import images
import rendering
from pelagos.cli.container_engines import RefusedError
from value_sets import SETS, changed

REGISTRY = "registry.example:5000/marine"
# Records its arguments and writes what each engine writes: the image's id, and the registry's digest of what it pushed.
ENGINE = """#!/bin/sh
echo "${{0##*/}} $*" >>"{log}"
case "$1 $2" in
  "version "*) echo "{version}"; exit {works} ;;
  "info ") exit {works} ;;
  "buildx version") exit 1 ;;
  "image inspect") echo '["other/operator@sha256:{wrong}", "{registry}/'$(expr "$4" : '.*/\\([a-z]*\\):')'@sha256:{digest}"]' ;;
esac
for word in "$@"; do
  case $word in
    --iidfile=*) echo "sha256:{digest}" >"${{word#*=}}"; env | grep -E '^(DOCKER_BUILDKIT|SOURCE_DATE_EPOCH)=' >>"{log}" ;;
    --digestfile=*) printf "sha256:{digest}" >"${{word#*=}}" ;;
  esac
done
"""
DIGEST = "5e" * 32


class Engines:
    """Container engines as programs on PATH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "calls"

    def put(self, name: str, works: bool = True, version: str = "20.10.24+dfsg1") -> None:
        file = self._folder / name
        told = {"works": int(not works), "version": version, "digest": DIGEST, "wrong": "00" * 32}
        text = ENGINE.format(log=self._log, registry=REGISTRY, **told)
        file.write_text(text)
        file.chmod(0o755)

    def calls(self, *words: str) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if line.startswith(" ".join(words))]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engines:
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("git", "sh", "sed", "grep", "env", "expr", "bash", "mkdir", "dirname", "mktemp", "cp", "rm", "awk"):
        (folder / program).symlink_to(Path(subprocess.check_output(["which", program], text=True).strip()))
    monkeypatch.setenv("PATH", str(folder))
    return Engines(folder)


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    known = images.origin("")[0]
    found = images.Origin(known.version, "c0ffee" * 6 + "c0de", 1_790_000_000, "https://code.example/pelagos")
    monkeypatch.setattr(images, "origin", lambda source: (found, False))


def options(folder: Path, **given: Any) -> argparse.Namespace:
    usual = {
        "registry": REGISTRY,
        "tag": "1.2.3",
        "push": False,
        "engine": "",
        "images": "",
        "torch_index": "",
        "source": "",
    }
    return argparse.Namespace(**{**usual, "build_options": "", "folder": folder, **given})


ALL = {"torch_index": "https://index.example/cpu"}


LATER = tuple(name for name in ("gateway", "hub") if (images.ROOT / "images" / name).is_dir())


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize("program", ["docker", "podman", "buildah"])
def test_every_image_is_built_labelled_and_pushed(program: str, engines: Engines, tmp_path: Path) -> None:
    engines.put(program)

    built = images.make(options(tmp_path / "out", push=True, **ALL))

    assert [each.reference for each in built] == [
        f"{REGISTRY}/{name}@sha256:{DIGEST}"
        for name in ("operator", "trainer", "trainer", "serving", "serving", "deepaas", *LATER)
    ]
    builds = engines.calls(program, "build")
    assert len(builds) == len(engines.calls(program, "push")) == 6 + len(LATER)
    for call in builds:
        assert "--label=org.opencontainers.image.created=2026-09-21T14:13:20Z" in call
        assert f"--label=org.opencontainers.image.revision={'c0ffee' * 6}c0de" in call
        assert "--label=org.opencontainers.image.source=https://code.example/pelagos" in call
        assert "--label=org.opencontainers.image.version=0.1.0" in call
        assert ("--timestamp=1790000000" in call) == (program != "docker")
    assert engines.calls("SOURCE_DATE_EPOCH=1790000000")
    assert f"--tag={REGISTRY}/trainer:1.2.3-cpu" in builds[2]
    assert "--build-arg=TORCH_INDEX=https://index.example/cpu" in builds[2]
    assert "--target=cpu --build-arg=BASE=python:3.11" in builds[4]


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize("push", [True, False])
@pytest.mark.parametrize(("place", "overlay"), [("cpu", "cluster"), ("gpu", "gpu"), ("cpu", "kserve")])
def test_what_is_written_installs_what_was_built(
    place: str, overlay: str, push: bool, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.put("docker")
    built = images.make(options(tmp_path / "out", push=push, **ALL))
    monkeypatch.undo()

    of_place = {each.image.name: each.reference for each in built if (each.image.variant == "cpu") == (place == "cpu")}
    want = {"operator": built[0].reference, **of_place}
    folder = tmp_path / "installation"
    folder.mkdir()
    rendering.kustomization(folder, resources=[f"overlays/{overlay}"], components=[])
    body = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body | {"components": [f"../out/{place}"]}))
    values = yaml.safe_load((tmp_path / "out" / place / "values.yaml").read_text())
    by_helm = rendering.helm(changed(SETS[overlay], values), namespace="pelagos-system")
    for found in (rendering.kustomize(folder), by_helm):
        (deployment,) = (body for body in found if body["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == want["operator"]
        assert variables(container)["PELAGOS_TRAINER_IMAGE"] == want["trainer"]
        assert variables(container)["PELAGOS_SERVING_IMAGE"] == want["serving"]
    assert images.PUBLISHED not in json.dumps(rendering.kustomize(folder))


@pytest.mark.usefixtures("_clean")
def test_the_hub_is_installed_from_its_own_image(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.put("docker")
    built = images.make(options(tmp_path / "out", images="hub", push=True))
    monkeypatch.undo()

    folder = tmp_path / "installation"
    folder.mkdir()
    rendering.kustomization(folder, resources=["base"], components=["components/hub"])
    body = yaml.safe_load((folder / "kustomization.yaml").read_text())
    components = [*body["components"], "../out/cpu"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body | {"components": components}))
    values = yaml.safe_load((tmp_path / "out/cpu/values.yaml").read_text())
    by_helm = rendering.helm(changed(values, {"hub": {"enabled": True}}), namespace="pelagos-system")
    for found in (rendering.kustomize(folder), by_helm):
        (deployment,) = (
            body for body in found if body["kind"] == "Deployment" and body["metadata"]["name"] == "pelagos-hub"
        )
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == built[0].reference


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


@pytest.mark.usefixtures("_clean")
def test_each_image_has_a_bill_of_materials_of_what_is_in_it(engines: Engines, tmp_path: Path) -> None:
    engines.put("buildah")
    images.write_bills(images.make(options(tmp_path, images="trainer trainer-cpu", **ALL)), tmp_path)

    def packages(name: str) -> set[str]:
        return {part["name"] for part in json.loads((tmp_path / "sbom" / f"{name}.cdx.json").read_text())["components"]}

    assert {path.name for path in (tmp_path / "sbom").iterdir()} == {"trainer.cdx.json", "trainer-cpu.cdx.json"}
    left_out = packages("trainer") - packages("trainer-cpu")
    assert left_out
    assert all(name.startswith(("nvidia-", "cuda-")) or name == "triton" for name in left_out)
    assert "torch" in packages("trainer-cpu") <= packages("trainer")


@pytest.mark.usefixtures("_clean")
def test_the_first_engine_that_works_is_taken(engines: Engines, tmp_path: Path) -> None:
    engines.put("docker", works=False)
    engines.put("buildah")

    images.make(options(tmp_path, images="operator"))
    assert engines.calls("buildah", "build")
    with pytest.raises(RefusedError, match="docker: does not work"):
        images.make(options(tmp_path, images="operator", engine="docker"))


@pytest.mark.usefixtures("_clean")
def test_a_docker_that_cannot_build_is_not_taken(engines: Engines, tmp_path: Path) -> None:
    engines.put("docker", version="28.2.2")

    with pytest.raises(RefusedError, match="docker: has no BuildKit: install its plugin buildx; podman: is not"):
        images.make(options(tmp_path, images="operator"))


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"registry": ""}, "REGISTRY is ''"),
        ({"registry": "https://registry.example"}, "REGISTRY is 'https://registry.example'"),
        ({"registry": "registry.example/Pelagos"}, "REGISTRY"),
        ({"tag": "a b"}, "TAG is 'a b'"),
        ({"images": "operator nothing"}, "IMAGES names nothing; there are operator, trainer, trainer-cpu"),
        ({"images": "trainer-cpu"}, "TORCH_INDEX"),
        ({"engine": "rkt"}, "ENGINE is 'rkt'; allowed are docker, podman, buildah"),
        ({}, "docker: is not installed; podman: is not installed; buildah: is not installed"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(
    given: dict[str, str], said: str, engines: Engines, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as refused:
        images.make(options(tmp_path, **given))
    assert said in str(refused.value)
    assert not (tmp_path / "bin" / "calls").exists()


def test_nothing_is_pushed_whose_source_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_git", lambda *words: {"log": "abc 1", "status": " M x"}.get(words[0], ""))
    with pytest.raises(RefusedError, match="Commit first"):
        images.make(options(tmp_path, push=True))
    assert images.origin("")[0].revision == "abc-dirty"


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://me:secret@code.example/pelagos.git", "https://code.example/pelagos.git"),
        ("https://code.example:8443/pelagos", "https://code.example:8443/pelagos"),
        ("/srv/pelagos", ""),
        ("", ""),
    ],
)
def test_no_label_tells_a_login_or_a_folder(remote: str, told: str) -> None:
    assert images.without_credentials(remote) == told
