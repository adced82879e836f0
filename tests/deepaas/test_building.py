"""``pelagos image``: a served model becomes a container image, whose container answers as the service does.

The engine here records what it is given to build; images are really built in tests/cluster.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import deepaas_servers
import model_packages
from model_packages import ENVIRONMENTS
from pelagos.cli.main import app
from resource_servers import ApiServer, api
from small_volumes import small

__all__ = ["api", "small"]

DIGEST = f"sha256:{'5e' * 32}"
# Records its arguments, keeps what it builds, and writes what each engine writes.
ENGINE = f"""#!/bin/sh
echo "$*" >>"$KEPT/calls"
for word in "$@"; do
  case $word in
    --iidfile=*) echo "{DIGEST}" >"${{word#*=}}" ;;
    --digestfile=*) printf "{DIGEST}" >"${{word#*=}}" ;;
  esac
  last=$word
done
case $1 in build) cp -rp "$last" "$KEPT/context" && exit "${{CODE:-0}}" ;; esac
"""
CARD = {"title": 'Urchins "of" $HOME', "summary": "Finds urchins.", "license": "CC-BY-4.0"}


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    stdout: str
    stderr: str


class Builder:
    """Runs the command in this process, and knows what its engine got."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.kept = folder / "kept"
        self.kept.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        self.engine = programs / "buildah"
        self.engine.write_text(ENGINE)
        self.engine.chmod(0o755)
        self._captured = captured
        patch.setenv("KEPT", str(self.kept))
        patch.setenv("PATH", f"{programs}:/usr/sbin:/bin")
        patch.setenv("PELAGOS_ENVIRONMENTS", str(ENVIRONMENTS))

    def run(self, *arguments: str | Path) -> Done:
        """Run ``pelagos image`` with arguments, where no other engine is installed."""
        mask = os.umask(0o077)  # as the command itself sets it
        try:
            typer.main.get_command(app).main(["image", *map(str, arguments)])
        except SystemExit as ended:
            code = ended.code
        finally:
            os.umask(mask)
        said = self._captured.readouterr()
        return Done(int(code or 0), said.out, said.err)

    def refused(self, *arguments: str | Path) -> str:
        """The message with which it refuses to build."""
        done = self.run("build", *arguments)
        assert (done.code, done.stdout) == (1, ""), done.stdout + done.stderr
        return done.stderr.splitlines()[-1].removeprefix("Error: ")

    @property
    def calls(self) -> list[str]:
        """The arguments of the engine's calls."""
        return [line for line in (self.kept / "calls").read_text().splitlines() if not line.startswith("info")]


@pytest.fixture
def builder(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Builder:
    return Builder(tmp_path, monkeypatch, capfd)


Add = Callable[..., None]


@pytest.fixture
def add(api: ApiServer, package: Path) -> Add:
    """Adds a ModelService that serves the detector."""

    def put(name: str = "detector", **changes: Any) -> None:
        described = json.loads((package / "package.json").read_text())
        model = {
            "name": name, "uri": str(package), "onnxSha256": described["onnxSha256"], "manifestSha256": package.name,
        }  # fmt: skip
        ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
        status = {"model": model | changes.pop("model", {}), "conditions": [ready | changes.pop("ready", {})]}
        spec = {"model": {"uri": str(package), "manifestSha256": package.name}, **changes.pop("spec", {})}
        body = api.add(name, status | changes.pop("status", {}), spec=spec, kind="ModelService")
        body["metadata"] |= {"generation": 3}

    return put


def test_what_is_built_answers_as_its_service(builder: Builder, add: Add, package: Path, tmp_path: Path) -> None:
    add(spec={"thresholds": {"confidence": "0.75", "iou": "0.7"}, "card": CARD})

    done = builder.run("build", "detector", "--base=registry.example/deepaas:1")

    assert done.code == 0, done.stderr
    assert done.stdout == f"pelagos/default-detector:{package.name[:12]} (not pushed; image {DIGEST})\n"
    context = builder.kept / "context"
    first, *others = (context / "Dockerfile").read_text().splitlines()
    assert first == "FROM registry.example/deepaas:1"
    assert {each.stat().st_mode & 0o777 for each in context.rglob("*") if each.is_file()} == {0o644}
    variables = dict(each.split("=") for each in others[-1].removeprefix("ENV ").split())
    inside = {name: value.replace("/opt/model", str(context)) for name, value in variables.items()}

    output, image = f"--deepaas_method_output={tmp_path / 'found.json'}", f"--image={package / 'probe.png'}"
    answer = deepaas_servers.command(context / "package", tmp_path / "run", output, "predict", image, variables=inside)

    assert answer.returncode == 0, answer.stderr
    known = json.loads((package / "probe.json").read_text())["detections"]
    found = json.loads((tmp_path / "found.json").read_text())["detections"]
    assert found == [one for one in known if one["score"] > 0.75]
    assert 0 < len(found) < len(known)


def test_an_image_is_labelled_with_what_it_holds(builder: Builder, add: Add, package: Path) -> None:
    add(spec={"card": CARD})

    assert builder.run("build", "detector").code == 0

    (call,) = builder.calls
    graph = json.loads((package / "package.json").read_text())["onnxSha256"]
    for label in (
        f"dev.pelagos.onnx-sha256={graph}",
        f"dev.pelagos.manifest-sha256={package.name}",
        "dev.pelagos.service=default/detector",
        "dev.pelagos.model-license=CC-BY-4.0",
        'org.opencontainers.image.title=Urchins "of" $HOME',
    ):
        assert f"--label={label}" in call
    assert "FROM ghcr.io/pelagos/deepaas:0.1.0\n" in (builder.kept / "context" / "Dockerfile").read_text()


def test_what_is_pushed_is_named_by_the_digest_of_the_registry(builder: Builder, add: Add, tmp_path: Path) -> None:
    add()
    tag, described = "registry.example:5000/marine/urchins", tmp_path / "fdl.yaml"

    done = builder.run("build", "detector", f"--tag={tag}:1", "--push", f"--fdl={described}", "--output=json")

    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["image"], told["digest"], told["id"]) == (f"{tag}@{DIGEST}", DIGEST, DIGEST)
    assert builder.calls[-1].split()[-1] == f"{tag}:1"
    (service,) = yaml.safe_load(described.read_text())["functions"]["oscar"]
    assert service["oscar-cluster"]["image"] == f"{tag}@{DIGEST}"


def test_the_card_of_the_training_says_what_that_of_the_service_does_not(
    builder: Builder, add: Add, api: ApiServer
) -> None:
    add(spec={"model": {"trainingRunRef": {"name": "finder"}}, "card": {"title": "Urchins"}})
    api.add("finder", {}, spec={"card": {"title": "Finder", "limitations": "None known."}}, kind="TrainingRun")

    assert builder.run("build", "detector").code == 0

    card = json.loads((builder.kept / "context" / "card.json").read_text())
    assert (card["title"], card["limitations"]) == ("Urchins", "None known.")


NO = {"status": "False", "reason": "Starting", "message": "the server loads its model"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "other"}, "ModelService default/detector not found; there are other"),
        ({"ready": NO}, "ModelService default/detector is not Ready: Starting: the server loads its model"),
        ({"status": {"conditions": []}}, "has no status yet; does the operator run?"),
        ({"status": {"servedGeneration": 2}}, "is about to change"),
        ({"model": {"manifestSha256": None}}, "does not say which package it serves"),
        ({"model": {"uri": "/nowhere/package"}}, "/nowhere/package is not visible from this machine"),
        (
            {"model": {"manifestSha256": "0" * 64}},
            "package.json has been altered, or belongs to another package: sha256",
        ),
        ({"spec": {"unknown": {}}}, "does not understand its spec"),
    ],
    ids=["unknown", "not ready", "no status", "changing", "no digest", "no package", "another package", "another spec"],
)
def test_what_stands_in_the_way_is_said_and_nothing_is_built(
    builder: Builder, add: Add, changes: dict[str, Any], words: str
) -> None:
    add(**changes)

    assert words in builder.refused("detector")
    assert not (builder.kept / "context").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--push"], "--push needs --tag"),
        (["--tag=Registry/Urchins"], "--tag 'Registry/Urchins' is not a name of an image"),
        (["--tag=a b"], "--tag 'a b' is not a name of an image"),
        ([f"--tag=urchins@sha256:{'0' * 64}"], "--tag 'urchins@sha256:"),
        (["--base=scratch\nRUN id"], "--base 'scratch\\\\u000aRUN id' is not a name of an image"),
        (["--engine=rkt"], "--engine is 'rkt'; allowed are docker, podman, buildah"),
        (["--engine=podman"], "podman: is not installed"),
        (["--memory=lots"], "--memory 'lots' is not an amount of memory"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_its_name(
    builder: Builder, add: Add, options: list[str], words: str
) -> None:
    add()

    assert words in builder.refused("detector", *options)
    assert not (builder.kept / "context").exists()


def test_that_nothing_here_builds_images_is_said(builder: Builder, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add()
    monkeypatch.setenv("PATH", "/nowhere")

    assert re.search("No container engine works here .*buildah: is not installed", builder.refused("detector"))


def test_an_engine_that_fails_has_the_last_word(builder: Builder, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add()
    monkeypatch.setenv("CODE", "7")

    assert "buildah build failed with code 7; see its output above" in builder.refused("detector")


def test_that_the_disk_has_no_place_for_the_package_is_said(
    builder: Builder, add: Add, package: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = model_packages.altered(package, tmp_path / "large", {"model.onnx": bytes(2 << 20)})
    add(model={"uri": str(tmp_path / "large"), "manifestSha256": manifest})
    monkeypatch.setattr(tempfile, "tempdir", str(small))

    assert "no space is left on the volume" in builder.refused("detector")
    assert list(small.iterdir()) == []


def test_nothing_is_left_behind(builder: Builder, add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    assert builder.run("build", "detector").code == 0

    assert list((tmp_path / "tmp").iterdir()) == []


def test_oscar_is_told_how_the_image_is_reached(builder: Builder, add: Add) -> None:
    add(spec={"resources": {"cpu": "1.5"}})

    done = builder.run("fdl", "detector", "--image=registry.example/urchins:1", "--memory=4Gi", "--cluster=marine")

    assert done.code == 0, done.stderr
    (entry,) = yaml.safe_load(done.stdout)["functions"]["oscar"]
    service = entry["marine"]
    assert (service["name"], service["image"]) == ("detector", "registry.example/urchins:1")
    assert (service["cpu"], service["memory"]) == ("1500m", "4Gi")
    assert service["expose"]["health_path"] == "/v2/models/"
    assert "\n" in service["script"]
    assert "'#!/bin/sh" not in done.stdout, "scripts are written line by line"


@pytest.mark.parametrize(("sent", "state"), [("probe.png", "Succeeded"), ("note.jpg", "Failed")])
def test_the_script_for_oscar_answers_a_file_and_says_whether_that_went_well(
    builder: Builder, add: Add, package: Path, tmp_path: Path, sent: str, state: str
) -> None:
    """By its own document: OSCAR reports every script as successful."""
    add()
    done = builder.run("fdl", "detector", "--image=registry.example/urchins:1")
    ((service,),) = (entry.values() for entry in yaml.safe_load(done.stdout)["functions"]["oscar"])
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    content = (package / "probe.png").read_bytes() if state == "Succeeded" else b"no image"
    (tmp_path / "in" / sent).write_bytes(content)
    program = tmp_path / "programs" / "deepaas-cli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {deepaas_servers.PYTHON} -m pelagos_pipelines.deepaas.command "$@"\n')
    program.chmod(0o755)

    ran = subprocess.run(
        ["/bin/sh", "-c", service["script"]],
        env=deepaas_servers.environment(package, tmp_path / "run")
        | {
            "INPUT_FILE_PATH": str(tmp_path / "in" / sent),
            "TMP_OUTPUT_DIR": str(tmp_path / "out"),
            "PATH": f"{program.parent}:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    told = json.loads((tmp_path / "out" / f"{sent}.status.json").read_text())
    assert told == {"state": state, "exitCode": ran.returncode}
    written = {each.name for each in (tmp_path / "out").iterdir()}
    assert written == {f"{sent}.status.json"} | ({f"{sent}.json"} if state == "Succeeded" else set())
