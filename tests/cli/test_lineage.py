"""``pelagos lineage``: each link by its digest, a bundle that can be verified offline, and the first link that fails."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from pelagos.decisions import digests
from resource_servers import ApiServer, api

__all__ = ["api"]

ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[2] / ".venvs"))
MANIFEST = {"schemaVersion": 1, "task": "Classification", "recipe": {}, "classes": ["a", "b"], "images": []}
ANNOTATIONS = '{"images":[\n{"class":"a","path":"1.png"},\n{"class":"b","path":"2.png"}\n],"schemaVersion":1}\n'
ONNX = "c" * 64
Edit = Callable[[dict[str, bytes]], None]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lineage", *map(str, arguments)])


@pytest.fixture(autouse=True)
def environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(ENVIRONMENTS))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's description, in a folder named by its digest."""
    folder = tmp_path_factory.mktemp("store") / "new"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "annotations.json").write_text(ANNOTATIONS)
    python = ENVIRONMENTS / "pipelines" / "bin" / "python"
    asked: list[str | Path] = [python, "-m", "pelagos_pipelines.preparation.digesting", folder]
    digest = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["digest"].removeprefix("sha256:")
    (folder / "manifest.json").write_text(json.dumps(MANIFEST | {"digest": f"sha256:{digest}"}))
    return folder.rename(folder.with_name(digest))


@pytest.fixture
def world(api: ApiServer, version: Path, tmp_path: Path) -> ApiServer:
    """A collection, a training on its version, and a service of the model."""
    package = tmp_path / "package"
    package.mkdir()
    told = {"architecture": "mobilenet_v2", "dataset": {"version": f"sha256:{version.name}"}, "onnxSha256": ONNX}
    (package / "package.json").write_text(json.dumps(told))
    model = {"uri": str(package), "onnxSha256": ONNX, "manifestSha256": sha256(package / "package.json")}
    frozen = {"name": "fish", "version": f"sha256:{version.name}", "uri": str(version), "task": "Classification"}
    inputs = {"model": {"architecture": "mobilenet_v2"}, "seeds": [0]}
    digest = digests.digest({"inputs": inputs, "dataset": frozen})
    trained = {
        "inputsDigest": digest,
        "inputs": inputs,
        "dataset": frozen,
        "model": model,
        "metrics": {"test/F1": "0.9"},
    }
    add(
        api,
        "Dataset",
        "fish",
        {"uri": str(version), "version": f"sha256:{version.name}", "source": {"doi": "10.5281/zenodo.7"}},
    )
    add(api, "TrainingRun", "fish-1", trained)
    add(
        api,
        "ModelService",
        "finder",
        {"model": {**model, "name": "finder", "source": "TrainingRun fish-1"}, "url": "http://x"},
    )
    return api


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add(api: ApiServer, kind: str, name: str, status: dict[str, Any]) -> None:
    body = api.add(name, status, kind=kind)
    body["metadata"]["uid"] = f"uid-of-{name}"


def broken(result: Result) -> str:
    assert result.exit_code == 1, result.output
    found: str = json.loads(result.stdout)["broken"]
    return found


def test_each_link_from_the_version_to_the_service_is_computed_again(world: ApiServer) -> None:
    done = run("finder", "-o", "json")

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [link["link"] for link in found["links"]] == [
        "manifest and annotations → dataset version",
        "dataset version → inputs",
        "inputs → TrainingRun fish-1",
        "TrainingRun fish-1 → model package",
        "dataset version → model package",
        "architecture → model package",
        "model package → graph",
        "model package → ModelService finder",
        "graph → ModelService",
    ]
    assert all(link["holds"] for link in found["links"])
    assert any("the environment of the run" in note for note in found["notes"]) is False  # it has no run to read


def test_people_see_a_table(world: ApiServer) -> None:
    done = run("finder")

    assert done.exit_code == 0
    assert "inputs → TrainingRun fish-1" in done.stdout
    assert done.stdout.count("yes") == 9


def test_a_training_and_a_dataset_have_their_part_of_it(world: ApiServer) -> None:
    training, dataset = (json.loads(run("show", name, "-o", "json").stdout) for name in ("fish-1", "fish"))

    assert len(training["links"]) == 7
    assert [link["link"] for link in dataset["links"]] == ["manifest and annotations → dataset version"]


def test_a_service_that_serves_another_model_is_found_out(world: ApiServer) -> None:
    service = next(body for body in world.resources["default"] if body["kind"] == "ModelService")
    service["status"]["model"]["onnxSha256"] = "d" * 64

    assert broken(run("finder", "-o", "json")) == "graph → ModelService"


def test_nothing_is_exported_of_a_lineage_that_does_not_hold(world: ApiServer, version: Path, tmp_path: Path) -> None:
    training = next(body for body in world.resources["default"] if body["kind"] == "TrainingRun")
    training["status"]["inputs"]["seeds"] = [7]

    done = run("export", "finder", "--to", tmp_path / "out.zip", "-o", "json")

    assert broken(done) == "inputs → TrainingRun fish-1"
    assert not (tmp_path / "out.zip").exists()


@pytest.fixture
def bundle(world: ApiServer, tmp_path: Path) -> Path:
    target = tmp_path / "finder.zip"
    done = run("export", "finder", "--to", target)
    assert done.exit_code == 0, done.output
    return target


def test_a_bundle_holds_away_from_any_server(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")

    done = run("verify", bundle, "-o", "json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["links"][0]["link"] == "files of the bundle"
    with zipfile.ZipFile(bundle) as archive:
        crate, prov = (json.loads(archive.read(name)) for name in ("ro-crate-metadata.json", "prov.jsonld"))
    assert crate["@graph"][0]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert "https://doi.org/10.5281/zenodo.7" in {each["@id"] for each in prov["@graph"]}


def with_card(world: ApiServer, folder: Path, *, written: str = "# Finder\n") -> None:
    """The training has a card of the model, which may have been altered since."""
    (folder / "model-card.md").write_text(written)
    training = next(body for body in world.resources["default"] if body["kind"] == "TrainingRun")
    stated = {"name": "model-card.md", "uri": str(folder / "model-card.md")}
    training["status"]["documents"] = [stated | {"sha256": hashlib.sha256(b"# Finder\n").hexdigest()}]


def test_the_card_of_the_model_goes_along_and_is_one_of_the_files_that_must_hold(
    world: ApiServer, tmp_path: Path
) -> None:
    with_card(world, tmp_path)
    bundle = tmp_path / "out.zip"

    assert run("export", "finder", "--to", bundle).exit_code == 0

    with zipfile.ZipFile(bundle) as archive:
        assert archive.read("model/model-card.md") == b"# Finder\n"
    assert run("verify", bundle).exit_code == 0
    worse = altered(bundle, lambda files: files.update({"model/model-card.md": b"# Best\n"}), listed=False)
    assert broken(run("verify", worse, "-o", "json")) == "files of the bundle"


def test_a_card_that_was_altered_does_not_go_along(world: ApiServer, tmp_path: Path) -> None:
    with_card(world, tmp_path, written="# Best\n")

    done = run("export", "finder", "--to", tmp_path / "out.zip", "-o", "json")

    assert done.exit_code == 0, done.output
    (note,) = (note for note in json.loads(done.stdout)["notes"] if "card" in note)
    assert "is not what the training wrote" in note
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert "model/model-card.md" not in archive.namelist()


def test_a_bundle_is_compared_with_the_model_that_one_has(bundle: Path, world: ApiServer) -> None:
    service = next(body for body in world.resources["default"] if body["kind"] == "ModelService")

    assert run("verify", bundle, "--model", service["status"]["model"]["manifestSha256"]).exit_code == 0
    assert broken(run("verify", bundle, "--model", "e" * 64, "-o", "json")) == "the model asked for"


@pytest.mark.parametrize("nested", [False, True])
def test_a_prediction_belongs_to_the_lineage_whose_graph_it_names(bundle: Path, tmp_path: Path, nested: bool) -> None:
    files = {}
    for name, graph in (("ours", ONNX), ("theirs", "e" * 64)):
        answer = {"task": "Classification", "onnxSha256": graph}
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps({"prediction": answer} if nested else answer))

    held = run("verify", bundle, "--prediction", files["ours"], "-o", "json")
    assert held.exit_code == 0, held.output
    assert json.loads(held.stdout)["links"][-1] == {
        "link": "graph → prediction ours.json",
        "holds": True,
        "words": ONNX,
    }
    both = ("--prediction", files["ours"], "--prediction", files["theirs"])
    assert broken(run("verify", bundle, *both, "-o", "json")) == "graph → prediction theirs.json"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b'{"task": "Classification"}',
            "does not say which graph it is from: it has no onnxSha256; ask the model with",
        ),
        (b'{"prediction": 7, "onnxSha256": 7}', "does not say which graph it is from"),
        (b"[]", "is not a prediction: a JSON object was expected"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff", "is not JSON"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_prediction_is_refused_in_one_line(
    bundle: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "\x1b[2Janswer.json"
    if content is not None:
        file.write_bytes(content)

    done = run("verify", bundle, "--prediction", file, "-o", "json")

    assert done.exit_code == 1
    assert words in json.loads(done.stdout)["error"]
    assert "\x1b" not in done.output


def test_a_pipe_is_no_prediction_and_nobody_waits_at_it(bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    done = run("verify", bundle, "--prediction", tmp_path / "pipe", "-o", "json")

    assert (done.exit_code, json.loads(done.stdout)["error"]) == (1, f"{tmp_path}/pipe is not a file")


def altered(bundle: Path, edit: Edit, *, listed: bool) -> Path:
    """The bundle after somebody altered it, with or without a corrected list of files."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    edit(files)
    if listed:
        crate = json.loads(files["ro-crate-metadata.json"])
        for entity in crate["@graph"]:
            if entity["@type"] == "File":
                entity["sha256"] = hashlib.sha256(files[entity["@id"]]).hexdigest()
        files["ro-crate-metadata.json"] = json.dumps(crate).encode()
    target = bundle.with_name("altered.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(files: dict[str, bytes]) -> None:
        assert old.encode() in files[file]
        files[file] = files[file].replace(old.encode(), new.encode())

    return edit


@pytest.mark.parametrize(
    ("edit", "link"),
    [
        (
            replaced("dataset/annotations.json", '"class":"a"', '"class":"b"'),
            "manifest and annotations → dataset version",
        ),
        (
            replaced("dataset/manifest.json", '"Classification"', '"Detection"'),
            "manifest and annotations → dataset version",
        ),
        (replaced("model/package.json", "mobilenet_v2", "mobilenet_v3"), "TrainingRun fish-1 → model package"),
        (replaced("lineage.json", "mobilenet_v2", "mobilenet_v3"), "inputs → TrainingRun fish-1"),
    ],
    ids=["annotations", "manifest", "package", "inputs"],
)
def test_whatever_is_altered_the_first_link_that_breaks_is_named(bundle: Path, edit: Edit, link: str) -> None:
    assert broken(run("verify", altered(bundle, edit, listed=False), "-o", "json")) == "files of the bundle"
    assert broken(run("verify", altered(bundle, edit, listed=True), "-o", "json")) == link


def test_a_version_that_cannot_be_checked_here_is_not_said_to_hold(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(tmp_path / "none"))

    done = run("verify", bundle, "-o", "json")

    assert done.exit_code == 1
    link = json.loads(done.stdout)["links"][1]
    assert link["holds"] is None
    assert "install Pelagos' environments" in link["words"]


def add_file(name: str) -> Edit:
    def edit(files: dict[str, bytes]) -> None:
        files[name] = b"{}"

    return edit


def drop_record(files: dict[str, bytes]) -> None:
    del files["lineage.json"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (add_file("../../evil"), "contains ../../evil, which is not part of a bundle"),
        (add_file("/etc/passwd"), "contains /etc/passwd, which is not part of a bundle"),
        (replaced("lineage.json", '"schemaVersion": 1', '"schemaVersion": 2'), "lineage.json: schemaVersion"),
        (replaced("lineage.json", '"uid"', '"uuid"'), "lineage.json: dataset.uid"),
        (drop_record, "has no lineage.json"),
    ],
    ids=["a path out of it", "an absolute path", "another schema", "a missing field", "no record"],
)
def test_what_is_no_bundle_is_refused_in_one_line(bundle: Path, edit: Edit, words: str) -> None:
    done = run("verify", altered(bundle, edit, listed=False))

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr


def test_a_file_that_unpacks_to_more_than_it_may_is_refused(bundle: Path) -> None:
    target = bundle.with_name("bomb.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lineage.json", b" " * (5 << 20))

    assert "lineage.json of" in run("verify", target).stderr


def test_what_is_not_a_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("hello")

    done = run("verify", tmp_path / "x.zip")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot be read as a bundle" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("ghost",),
            "there is no resource default/ghost; there are ModelService finder, TrainingRun fish-1, Dataset fish",
        ),
        (("show", "finder", "--kind", "Pod"), "--kind Pod: allowed are ModelService, TrainingRun, Dataset"),
        (("show", "finder", "--kind", "Dataset"), "there is no Dataset default/finder"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(world: ApiServer, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr


def test_a_training_without_a_model_has_no_lineage_yet(world: ApiServer) -> None:
    training = next(body for body in world.resources["default"] if body["kind"] == "TrainingRun")
    del training["status"]["model"]

    assert "TrainingRun default/fish-1 does not have a complete lineage yet" in run("fish-1").stderr


def test_a_model_whose_training_is_gone_begins_at_its_package(world: ApiServer, version: Path) -> None:
    world.resources["default"] = [body for body in world.resources["default"] if body["kind"] == "ModelService"]

    done = run("finder", "-o", "json")

    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [link["link"] for link in found["links"]] == ["model package → ModelService finder", "graph → ModelService"]
    assert "no TrainingRun of the namespace has this package" in found["notes"][0]


def test_a_store_that_lost_the_version_is_not_said_to_hold(world: ApiServer, version: Path, tmp_path: Path) -> None:
    dataset = next(body for body in world.resources["default"] if body["kind"] == "Dataset")
    elsewhere = tmp_path / version.name
    shutil.copytree(version, elsewhere)
    (elsewhere / "annotations.json").unlink()
    dataset["status"]["uri"] = str(elsewhere)

    done = run("finder", "-o", "json")

    link = json.loads(done.stdout)["links"][0]
    assert (link["holds"], link["words"]) == (None, "the description of the version is missing")


def relisted(files: dict[str, bytes]) -> None:
    """Correct the list of files as `altered` does, even if files were removed."""
    crate = json.loads(files["ro-crate-metadata.json"])
    crate["@graph"] = [each for each in crate["@graph"] if each["@type"] != "File" or each["@id"] in files]
    files["ro-crate-metadata.json"] = json.dumps(crate).encode()


def without_package(files: dict[str, bytes]) -> None:
    del files["model/package.json"]
    relisted(files)


def without_training(files: dict[str, bytes]) -> None:
    record = json.loads(files["lineage.json"])
    del record["training"]
    manifest = json.loads(files["model/package.json"]) | {"dataset": {"version": "not evaluated here"}}
    files["model/package.json"] = json.dumps(manifest).encode()
    record["service"]["model"]["manifestSha256"] = hashlib.sha256(files["model/package.json"]).hexdigest()
    files["lineage.json"] = json.dumps(record).encode()


def test_links_whose_files_were_left_out_are_not_said_to_hold(bundle: Path) -> None:
    assert run("verify", altered(bundle, without_package, listed=True), "-o", "json").exit_code == 1
    assert broken(run("verify", altered(bundle, without_training, listed=True), "-o", "json")) == (
        "dataset version → model package"
    )


def test_a_package_that_this_machine_does_not_see_is_not_checked(world: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "package" / "package.json").unlink()

    found = json.loads(run("finder", "-o", "json").stdout)["links"]

    unknown = {link["link"] for link in found if link["holds"] is None}
    assert unknown == {"TrainingRun fish-1 → model package", "model package → ModelService finder"}


def of_nothing(files: dict[str, bytes]) -> None:
    record = json.loads(files["lineage.json"])
    files["lineage.json"] = json.dumps({name: record[name] for name in ("schemaVersion", "madeAt", "madeBy")}).encode()


def no_list(files: dict[str, bytes]) -> None:
    files["ro-crate-metadata.json"] = b'{"@graph": [{"@type": "File"}]}'


def enormous(files: dict[str, bytes]) -> None:
    package = json.loads(files["model/package.json"]) | {"architecture": "x" * 100_000}
    files["model/package.json"] = json.dumps(package).encode()


@pytest.mark.parametrize(
    "edit",
    [
        of_nothing,
        no_list,
        enormous,
        replaced("lineage.json", '"seeds": [', '"seeds": [' + "9" * 5000 + ","),
        replaced("lineage.json", '"seeds": [', '"seeds": [NaN,'),
        replaced("lineage.json", '"seeds": [', '"seeds": ["\\ud800",'),
        replaced("lineage.json", '"seeds": [', '"seeds": [' + "[" * 150 + "]" * 150 + ","),
        replaced("lineage.json", '"seeds": [', '"seeds": [' + "[" * 5000 + "]" * 5000 + ","),
    ],
    ids=["nothing", "no list", "enormous", "huge number", "NaN", "half a character", "deep", "very deep"],
)
def test_whatever_a_bundle_holds_the_answer_is_short(bundle: Path, edit: Edit) -> None:
    done = run("verify", altered(bundle, edit, listed=edit is not no_list))

    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.exception
    assert len(done.output) < 4000


def damaged(bundle: Path) -> bytes:
    content = bytearray(bundle.read_bytes())
    content[60:200] = b"\xff" * 140
    return bytes(content)


def packed(method: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        archive.writestr("lineage.json", b"{}" * 1000)
    return written.getvalue()


def many_times(bundle: Path) -> bytes:
    """One entry, which the directory names fifty thousand times."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("lineage.json", b"{}")
        archive.filelist *= 50_000
    return written.getvalue()


@pytest.mark.parametrize(
    "made",
    [damaged, lambda _: packed(zipfile.ZIP_LZMA), lambda _: packed(zipfile.ZIP_BZIP2), many_times],
    ids=["damaged", "lzma", "bzip2", "one name very often"],
)
def test_archives_that_are_not_as_ours_are_refused_at_once(bundle: Path, made: Callable[[Path], bytes]) -> None:
    bundle.write_bytes(made(bundle))
    began = time.process_time()

    done = run("verify", bundle)

    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.exception
    assert time.process_time() - began < 10


@pytest.mark.parametrize("target", [".", "/"])
def test_a_bundle_needs_the_name_of_a_file(world: ApiServer, target: str) -> None:
    assert f"--to {target}" in run("export", "finder", "--to", target).stderr


ORACLES = """
import json, sys
from rdflib import Graph
from rocrate.rocrate import ROCrate
crate = ROCrate(sys.argv[1])
graph = Graph().parse(sys.argv[1] + "/prov.jsonld", format="json-ld")
derived = [str(of) for _, what, of in graph if str(what) == "http://www.w3.org/ns/prov#wasDerivedFrom"]
print(json.dumps({"files": sorted(file.id for file in crate.get_by_type("File")), "derived": sorted(derived)}))
"""


def test_the_libraries_of_ro_crate_and_rdf_read_a_bundle(bundle: Path, version: Path, tmp_path: Path) -> None:
    python = ENVIRONMENTS / "metadata" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment metadata is not installed")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "crate")

    asked: list[str | Path] = [python, "-c", ORACLES, tmp_path / "crate"]
    found = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)

    files = ["dataset/annotations.json", "dataset/manifest.json", "lineage.json", "model/package.json", "prov.jsonld"]
    assert found["files"] == files
    assert "https://doi.org/10.5281/zenodo.7" in found["derived"]
    assert found["derived"].count(f"urn:sha256:{version.name}") == 1
