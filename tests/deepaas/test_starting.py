"""How a model's container starts and ends: it serves only the package that its image was built for."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

import deepaas_servers
import model_packages
from pelagos_contract.text import shown


@pytest.fixture
def copied(package: Path, tmp_path: Path) -> Path:
    """A copy of the package, which a test may damage."""
    return Path(shutil.copytree(package, tmp_path / package.name))


def _bytes_changed(package: Path) -> None:
    content = bytearray((package / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (package / "model.onnx").write_bytes(content)


def _description_changed(package: Path) -> None:
    described = json.loads((package / "package.json").read_text())
    (package / "package.json").write_text(json.dumps({**described, "labels": ["a", "b", "c"]}))


def _gone(package: Path) -> None:
    shutil.rmtree(package)


def _linked(package: Path) -> None:
    (package / "probe.json").unlink()
    (package / "probe.json").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_bytes_changed, "model.onnx has been altered: sha256"),
        (_description_changed, "package.json has been altered, or belongs to another package: sha256"),
        (_gone, "there is no model package. Was it deleted, or is the volume empty?"),
        (_linked, "probe.json cannot be read as a file of a package"),
    ],
    ids=["its graph is another", "its description is another", "it is missing", "a file is a link"],
)
def test_a_package_that_is_not_what_the_image_was_built_for_is_refused(
    copied: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(copied)

    server = deepaas_servers.start(copied, tmp_path / "run")

    assert server.ended() == os.EX_DATAERR
    (line,) = server.said.splitlines()
    assert line.startswith("pelagos: ")
    assert words in line


def test_a_package_whose_graph_cannot_be_run_is_refused_with_the_words_of_its_runtime(
    package: Path, tmp_path: Path
) -> None:
    manifest, _ = model_packages.altered(package, tmp_path / "none", {"model.onnx": b"no graph"})

    server = deepaas_servers.start(tmp_path / "none", tmp_path / "run", PELAGOS_MANIFEST_SHA256=manifest)

    assert server.ended() == os.EX_DATAERR
    last = server.said.splitlines()[-1]
    assert last.startswith("pelagos: ")
    assert "model.onnx cannot be run" in last
    assert "protobuf" in last.lower()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PELAGOS_MANIFEST_SHA256", "", "status.model.manifestSha256"),
        ("PELAGOS_CONFIDENCE", "1.5", "from 0 to 1"),
        ("PELAGOS_IOU", "nan", "from 0 to 1"),
        ("PELAGOS_MAX_DETECTIONS", "0", "whole number from 1"),
        ("PELAGOS_MAX_DETECTIONS", "9" * 5000, "whole number from 1"),
        ("PELAGOS_CLASS_CONFIDENCES", "some", "package or service"),
        ("PELAGOS_MAX_IMAGE_MEGAPIXELS", "many", "whole number from 1"),
        ("PELAGOS_CARD", "/nowhere/card.json", "/nowhere/card.json"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(
    package: Path, tmp_path: Path, name: str, value: str, words: str
) -> None:
    server = deepaas_servers.start(package, tmp_path / "run", **{name: value})

    assert server.ended() == os.EX_DATAERR
    (line,) = server.said.splitlines()
    assert name in line or name == "PELAGOS_CARD"
    assert words in line


@pytest.mark.parametrize("whom", ["the server", "all processes"])
def test_a_server_that_is_stopped_ends_and_leaves_no_files(package: Path, tmp_path: Path, whom: str) -> None:
    """A terminal, and `timeout`, signal the workers as well."""
    server = deepaas_servers.start(package, tmp_path / "run")
    server.wait()
    assert list(server.folder.glob("pelagos-uploads-*"))

    if whom == "all processes":
        for worker in server.workers():
            os.kill(worker, signal.SIGTERM)

    assert server.stop() == 0
    assert "perhaps for lack of memory" not in server.said
    assert [each.name for each in server.folder.iterdir()] == ["log"]


def test_nothing_goes_on_when_a_server_is_killed(package: Path, tmp_path: Path) -> None:
    server = deepaas_servers.start(package, tmp_path / "run")
    server.wait()
    (worker,) = server.workers()

    server.process.kill()

    server.process.wait()
    deadline = monotonic() + deepaas_servers.PATIENCE
    while Path(f"/proc/{worker}").exists():
        assert monotonic() < deadline
        sleep(0.05)


def test_a_server_ends_when_what_computes_is_killed(package: Path, tmp_path: Path) -> None:
    """DEEPaaS would let each later request wait forever, and report that it is healthy."""
    server = deepaas_servers.start(package, tmp_path / "run")
    try:
        server.wait()
        assert server.predict((package / "probe.png").read_bytes()).status == 200
        (worker,) = server.workers()

        os.kill(worker, signal.SIGKILL)

        assert server.ended() == os.EX_SOFTWARE
    finally:
        server.stop()
    assert "was ended by signal 9, perhaps for lack of memory" in server.said
    assert [each.name for each in server.folder.iterdir()] == ["log"]


def test_the_command_line_answers_into_a_file(package: Path, tmp_path: Path) -> None:
    known = json.loads((package / "probe.json").read_text())

    done = deepaas_servers.command(
        package, tmp_path, "--deepaas_method_output=found.json", "predict", f"--image={package / 'probe.png'}"
    )

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == known
    assert (package / "probe.png").exists(), "what is removed is a copy"


def test_the_command_line_draws_into_a_file(package: Path, tmp_path: Path) -> None:
    done = deepaas_servers.command(
        package,
        tmp_path,
        *("--deepaas_method_output=drawn.png", "predict", f"--image={package / 'probe.png'}", "--accept=image/png"),
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line_says_in_one_line_what_is_wrong_with_an_image(package: Path, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("no image")

    done = deepaas_servers.command(
        package, tmp_path, "--deepaas_method_output=found.json", "predict", f"--image={tmp_path / 'note.jpg'}"
    )

    assert done.returncode == os.EX_DATAERR
    last = done.stderr.splitlines()[-1]
    assert last == shown(last)
    assert "the image is not JPEG, PNG" in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "found.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="no root")
def test_a_model_needs_no_network(package: Path, tmp_path: Path) -> None:
    done = deepaas_servers.command(
        package,
        tmp_path,
        *("--deepaas_method_output=found.json", "predict", f"--image={package / 'probe.png'}"),
        around=("unshare", "--net"),
    )

    assert done.returncode == 0, done.stderr
