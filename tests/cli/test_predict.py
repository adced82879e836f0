"""``pelagos predict``: from the name of a ModelService and a file to a table, to JSON and to a picture, or to one clear line."""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from model_packages import MakeWant, altered, environments, make_want, packages
from pelagos.cli import predict
from pelagos.cli.main import app
from pelagos.engines.triton import probe
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.serving import DesiredService, ServiceState
from pelagos_contract.answers.drawing import colour
from resource_servers import ApiServer, api, kubeconfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TILE = {"size": 128, "overlap": 32}
__all__ = ["api", "environments", "make_want", "packages"]


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, packages: dict[str, tuple[str, str]], environments: Path
) -> Iterator[dict[str, str]]:
    """The gRPC addresses of a real detector, of one that was trained on tiles, and of a real classifier."""
    triton = TritonLocal(tmp_path_factory.mktemp("serving"), environments)
    made = packages | {"tiled": of_tiles(Path(packages["Detection"][0]), tmp_path_factory.mktemp("tiled"))}

    def want(task: str) -> DesiredService:
        uri, digest = made[task]
        return DesiredService(
            uid=task, namespace="default", name=task, model_name=task, package_uri=uri, onnx_sha256=digest,
            manifest_sha256=Path(uri).name,
            max_batch_size=1, max_queue_delay=0, instances=1, confidence="0.25", iou="0.7", cpu=1, digest=task,
        )  # fmt: skip

    async def start() -> dict[str, str]:
        addresses = {}
        for task in made:
            await triton.apply(want(task))
        for task in made:
            addresses[task] = await loaded(triton, task)
        await triton.close()
        return addresses

    yield asyncio.run(start())
    for task in made:
        asyncio.run(triton.remove(task))


def of_tiles(package: Path, folder: Path) -> tuple[str, str]:
    """The same package, for images that are cut into tiles."""
    given = json.loads((package / "package.json").read_text())["input"]
    manifest, graph = altered(package, folder / "made", {}, input=given | {"tile": TILE})
    return str((folder / "made").rename(folder / manifest)), graph


async def loaded(triton: TritonLocal, uid: str) -> str:
    for _ in range(600):
        seen = await triton.observe(uid)
        assert seen is not None
        if seen.state is ServiceState.LOADED:
            return seen.grpc_url
        await asyncio.sleep(0.1)
    raise TimeoutError(seen)


@pytest.fixture
def image(packages: dict[str, tuple[str, str]]) -> Path:
    return Path(packages["Detection"][0]) / "probe.png"


def ready(address: str, model: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    return {"url": f"grpc://{address}", "model": {"name": model}, "conditions": [condition]}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *(str(argument) for argument in arguments)])


def test_detections_are_shown_as_a_table(api: ApiServer, served: dict[str, str], image: Path) -> None:
    api.add("detector", ready(served["Detection"], "Detection"))
    result = run("detector", image)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0][:8] == ["probe.png", "(64", "x", "64", "px):", "4", "detections,", lines[0][7]]
    assert lines[2] == ["Ceratium", "0.902", "16.0", "0.0", "32.0", "16.0"]
    assert lines[3] == ["Größe", '"x"', "0.780", "0.0", "32.0", "16.0", "48.0"]
    assert len(lines) == 6


def test_an_answer_that_leaves_some_out_says_so() -> None:
    content = {"task": "Detection", "width": 64, "height": 48, "cut": True, "detections": []}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(predict.table(predict.Prediction("frames", "m", Path("crowd.png"), content, 0.01)))
    assert "0 detections (the best; there are more: raise spec.maxDetections), 10 ms" in shown.get()


def test_scores_that_are_calibrated_and_thresholds_of_classes_are_named() -> None:
    sure = {"calibrated": True, "thresholds": "Classes"}
    content = {"task": "Detection", "width": 64, "height": 48, "cut": False, "detections": [], **sure}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(predict.table(predict.Prediction("frames", "m", Path("a.png"), content, 0.01)))
    assert "0 detections, calibrated, each class above its own threshold, 10 ms" in shown.get()


def test_an_image_that_is_of_no_class_for_sure_is_shown_as_undecided() -> None:
    classes = [{"label": "Größe", "classId": 0, "probability": 0.41}, {"label": "b", "classId": 1, "probability": 0.59}]
    content = {"task": "Classification", "width": 64, "height": 48, "classes": classes[::-1], "threshold": 0.6}
    for decided in (False, True):
        console = Console(width=200)
        with console.capture() as shown:
            found = predict.Prediction("crops", "m", Path("a.png"), content | {"decided": decided}, 0.01)
            console.print(predict.table(found))
        assert ("undecided (no class has more than its threshold, 0.60 of the first)" in shown.get()) is not decided


def test_less_sure_detections_are_shown_to_who_asks_for_them(
    api: ApiServer, served: dict[str, str], image: Path
) -> None:
    api.add("detector", ready(served["Detection"], "Detection"))
    for confidence, surest in ((0.85, [0.902]), (0.6, [0.902, 0.78])):
        result = run("detector", image, "--confidence", confidence, "-o", "json")
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        assert answer["thresholds"] == "Request"
        found = [one["score"] for one in answer["detections"]]
        assert found[: len(surest)] == pytest.approx(surest, abs=0.001)
        assert all(score > confidence for score in found)
        assert (len(found) == 1) == (confidence == 0.85)
    assert run("detector", image, "--confidence", "1.5").exit_code == 2


def test_turned_boxes_are_shown_with_their_angles() -> None:
    corners = [[82.7, 40.0], [117.3, 60.0], [112.3, 68.7], [77.7, 48.7]]
    found = {"label": "Größe", "classId": 1, "score": 0.91, "box": [97.5, 54.33, 40.0, 10.0, 30.0], "corners": corners}
    content = {"task": "OrientedDetection", "width": 200, "height": 100, "cut": False, "detections": [found]}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(predict.table(predict.Prediction("frames", "m", Path("diatoms.png"), content, 0.01)))
    lines = [line.split() for line in shown.get().splitlines() if line.strip()]
    assert lines[1] == ["class", "score", "x", "[px]", "y", "[px]", "length", "[px]", "width", "[px]", "angle", "[°]"]
    assert lines[2] == ["Größe", "0.910", "97.5", "54.3", "40.0", "10.0", "30.0"]


def test_probabilities_are_shown_as_a_table(api: ApiServer, served: dict[str, str], image: Path) -> None:
    api.add("classifier", ready(served["Classification"], "Classification"))
    result = run("classifier", image)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()[2:] if line.strip()]
    assert sorted(row[0] for row in rows) == ["Ceratium", "Größe", "detritus"]
    assert rows[0][0] == "detritus"


@pytest.mark.parametrize(("output", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_json_or_yaml(
    api: ApiServer, served: dict[str, str], image: Path, output: str, parse: Callable[[str], dict[str, Any]]
) -> None:
    api.add("detector", ready(served["Detection"], "Detection"), namespace="bay")
    result = run("detector", image, "--namespace", "bay", "-o", output)
    assert result.exit_code == 0, result.output
    content = parse(result.stdout)
    assert content["task"] == "Detection"
    assert content["detections"][0] == {
        "label": "Ceratium", "classId": 0, "score": pytest.approx(0.902, abs=1e-3), "box": [16.0, 0.0, 32.0, 16.0]
    }  # fmt: skip
    assert (content["service"], content["model"], content["image"]) == ("detector", "Detection", str(image))
    assert 0 < content["latencySeconds"] < 10


def test_the_picture_is_saved(api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path) -> None:
    api.add("detector", ready(served["Detection"], "Detection"))
    assert run("detector", image, "--save", tmp_path / "out.png").exit_code == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (512, 512))


def failure(result: Result) -> str:
    """The one line on standard error."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def test_a_service_that_does_not_exist(api: ApiServer, image: Path) -> None:
    assert failure(run("x", image)) == "ModelService default/x not found; there is none in this namespace"
    api.add("b", {})
    api.add("a", {})
    assert failure(run("x", image)) == "ModelService default/x not found; there are a, b"


def test_a_service_that_is_not_ready(api: ApiServer, image: Path) -> None:
    condition = {"type": "Ready", "status": "False", "reason": "ModelLoadFailed", "message": "model.onnx [1]: no graph"}
    api.add("detector", {"conditions": [condition]})
    api.add("new", {})
    expected = "ModelService default/detector is not Ready: ModelLoadFailed: model.onnx [1]: no graph"
    assert failure(run("detector", image)) == expected
    assert failure(run("new", image)) == "ModelService default/new has no status yet; does the operator run?"


def test_an_endpoint_that_does_not_answer(api: ApiServer, image: Path) -> None:
    api.add("detector", ready("127.0.0.1:9", "detector"))
    assert "ModelService default/detector at 127.0.0.1:9: the inference failed: " in failure(run("detector", image))


def test_a_model_that_the_server_does_not_have(api: ApiServer, served: dict[str, str], image: Path) -> None:
    api.add("detector", ready(served["Detection"], "other"))
    assert "unknown model: 'other'" in failure(run("detector", image))


def test_an_api_server_that_does_not_answer(api: ApiServer, image: Path, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    assert failure(run("x", image)).startswith("the API server does not answer: ")
    (tmp_path / "kubeconfig").unlink()
    assert "Run `pelagos up`, or set KUBECONFIG" in failure(run("x", image))


def test_an_api_server_that_refuses(api: ApiServer, image: Path) -> None:
    api.status = 403
    assert failure(run("x", image)) == "the API server refuses to list ModelServices: 403 Forbidden"


def test_kubeconfig_comes_before_the_embedded_one(
    api: ApiServer, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").rename(tmp_path / "mine")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))
    assert "not found" in failure(run("x", image))


def test_files_that_are_no_images_are_not_sent(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(run("x", tmp_path / "none.png")) == f"{tmp_path}/none.png cannot be read: No such file or directory"
    assert failure(run("x", tmp_path)) == f"{tmp_path} cannot be read: Is a directory"
    text = tmp_path / "text.png"
    text.write_text("text")
    assert failure(run("x", text)) == f"{text} is not an image; send a JPEG, PNG, TIFF, BMP, WebP or JPEG 2000"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    assert failure(run("x", tmp_path / "a.gif")) == f"{tmp_path}/a.gif is a GIF; convert it to PNG"
    monkeypatch.setattr(predict, "MAX_TILED_PIXELS", 63)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert failure(run("x", tmp_path / "a.png")) == f"{tmp_path}/a.png has 8 x 8 pixels; at most 63 are accepted"


def test_a_decompression_bomb_is_not_opened(api: ApiServer, tmp_path: Path) -> None:
    """A few kilobytes that would be 3 GB in memory."""
    bomb = tmp_path / "bomb.png"
    small = tmp_path / "small.png"
    Image.new("1", (8, 8)).save(small)
    data = bytearray(small.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    bomb.write_bytes(data)
    assert failure(run("x", bomb)) == f"{bomb} has 60000 x 60000 pixels; at most 500000000 are accepted"


def test_a_picture_that_cannot_be_written_is_noticed_before_the_prediction(image: Path, tmp_path: Path) -> None:
    assert "must end in .png, .jpg, .jpeg" in failure(run("x", image, "--save", tmp_path / "out.gif"))
    assert "does not exist" in failure(run("x", image, "--save", tmp_path / "none/out.png"))


@pytest.mark.parametrize("name", ["a.tif", "a.bmp", "a.webp", "a.jp2", "a.j2k"])
def test_images_of_other_kinds_are_sent_as_they_are(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert predict.read_image(tmp_path / name) == (tmp_path / name).read_bytes()


def scene(path: Path, corners: list[tuple[int, int]], size: tuple[int, int] = (300, 128)) -> Path:
    """An image with an organism, as the detector knows it, at each place, in cells of 32 pixels of tiles of 128."""
    with Image.open(path.parent / "probe.png") as probe:
        organism = probe.convert("RGB").crop((16, 0, 32, 16)).resize((32, 32), Image.Resampling.NEAREST)
        picture = Image.new("RGB", size)
    for corner in corners:
        picture.paste(organism, corner)
    picture.save(path)
    return path


def test_an_image_larger_than_the_tiles_of_the_model_is_asked_about_in_tiles(
    api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path
) -> None:
    """Tiles begin at 0, 96 and 172, so two of them show what is at 96."""
    api.add("detector", ready(served["tiled"], "tiled"))
    (tmp_path / "probe.png").write_bytes(image.read_bytes())
    large = scene(tmp_path / "large.png", [(0, 0), (96, 32), (236, 64)])

    result = run("detector", large, "-o", "json")

    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["width"], content["height"], content["tiles"]) == (300, 128, 3)
    boxes = sorted(tuple(round(side) for side in one["box"]) for one in content["detections"])
    assert boxes == [(0, 0, 32, 32), (96, 32, 128, 64), (236, 64, 268, 96)]
    shown = run("detector", large)
    assert "3 detections in 3 tiles," in shown.stdout


def test_an_image_as_large_as_a_tile_is_sent_as_it_is(
    api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path
) -> None:
    api.add("detector", ready(served["tiled"], "tiled"))
    (tmp_path / "probe.png").write_bytes(image.read_bytes())
    small = scene(tmp_path / "small.png", [(0, 0)], (128, 128))

    content = json.loads(run("detector", small, "-o", "json").stdout)

    assert content["tile"] == TILE
    assert "tiles" not in content


def test_an_image_larger_than_any_tile_is_not_sent_whole(
    api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "LARGEST_TILE", 200)
    monkeypatch.setattr(predict, "MAX_PIXELS", 1000)
    api.add("detector", ready(served["tiled"], "tiled"))
    api.add("other", ready(served["Detection"], "Detection"))
    (tmp_path / "probe.png").write_bytes(image.read_bytes())
    large = scene(tmp_path / "large.png", [(0, 0)])

    assert json.loads(run("detector", large, "-o", "json").stdout)["tiles"] == 3
    assert "at most 1000 are accepted, and more only by models that were taught on tiles" in failure(
        run("other", large)
    )


def test_a_damaged_large_image_is_refused_in_one_line(
    api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "LARGEST_TILE", 200)
    api.add("detector", ready(served["tiled"], "tiled"))
    (tmp_path / "probe.png").write_bytes(image.read_bytes())
    large = scene(tmp_path / "large.png", [(0, 0)])
    large.write_bytes(large.read_bytes()[:120])

    assert "cannot be read" in failure(run("detector", large))


def test_objects_are_shown_with_the_area_of_their_masks_and_covered_in_the_picture(
    api: ApiServer, served: dict[str, str], image: Path, tmp_path: Path
) -> None:
    api.add("segmenter", ready(served["InstanceSegmentation"], "InstanceSegmentation"))
    result = run("segmenter", image, "--save", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0][5:7] == ["4", "objects,"]
    assert lines[2] == ["Ceratium", "0.902", "256", "16.0", "0.0", "32.0", "16.0"]
    assert len(lines) == 6
    with Image.open(tmp_path / "out.png") as drawn, Image.open(image) as before:
        inside = (24 * drawn.width // before.width, 8 * drawn.height // before.height)
        assert drawn.convert("RGB").getpixel(inside) not in {before.convert("RGB").getpixel((24, 8)), colour(0)}


def test_the_operator_finds_answers_with_masks_right(
    served: dict[str, str], make_want: MakeWant, packages: dict[str, tuple[str, str]]
) -> None:
    task = "InstanceSegmentation"
    known = probe.read(Path(packages[task][0]))
    result = asyncio.run(probe.probe(served[task], make_want(task, model_name=task), known))
    assert (result.correct, result.message) == (True, "")
