"""A model in a container image gives the same answers by the DEEPaaS API as it does as a service."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import urllib3
from PIL import Image

import deepaas_servers
import local_triton
import model_packages
import untrusted_images
from deepaas.conftest import TASKS
from deepaas_servers import Server
from model_packages import MakeWant
from pelagos.engines.triton import inference, probe
from pelagos.engines.triton.package import Manifest
from pelagos.engines.triton_local.engine import TritonLocal


@pytest.mark.parametrize("task", TASKS)
def test_the_probe_image_has_the_answer_that_its_package_knows(
    servers: dict[str, Server], packages: dict[str, tuple[str, str]], make_want: MakeWant, task: str
) -> None:
    package = Path(packages[task][0])
    known = json.loads((package / "probe.json").read_text())
    manifest = Manifest.model_validate_json((package / "package.json").read_text())

    answer = servers[task].predict((package / "probe.png").read_bytes())

    assert answer.status == 200
    body = answer.json()
    assert body["status"] == "OK"
    assert body["predictions"].keys() == known.keys()
    told = manifest.thresholds.model_dump()
    # As the operator judges a server before it calls its ModelService Ready.
    assert probe.compare(known, body["predictions"], told, make_want(task)) is None


@pytest.mark.parametrize("task", TASKS)
def test_whoever_accepts_png_is_sent_the_image_with_what_was_found_drawn(
    servers: dict[str, Server], packages: dict[str, tuple[str, str]], task: str
) -> None:
    sent = (Path(packages[task][0]) / "probe.png").read_bytes()

    answer = servers[task].predict(sent, accept="image/png")

    assert answer.headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(answer.data)) as picture, Image.open(io.BytesIO(sent)) as image:
        drawn = picture.convert("RGB")
        assert min(drawn.size) >= 512, "small images are enlarged, so that labels can be read"
        shown = set(drawn.resize((128, 128)).get_flattened_data())
        assert len(shown) > len(set(image.convert("RGB").get_flattened_data()))


SURE = {"schemaVersion": 3, "calibration": {"temperature": 2.0, "offset": -1.0}}
OF_CLASSES = {"confidence": 0.25, "iou": 0.7, "maxDetections": 3000, "classes": {"Ceratium": 0.4}}


@pytest.mark.parametrize(
    ("said", "confidence", "told"),
    [
        ({}, None, {}),
        ({}, 0.1, {"thresholds": "Request"}),
        ({**SURE, "thresholds": OF_CLASSES}, None, {"calibrated": True, "thresholds": "Classes"}),
        ({**SURE, "thresholds": OF_CLASSES}, 0.1, {"calibrated": True, "thresholds": "Request"}),
    ],
    ids=["plain", "plain, with a confidence", "calibrated", "calibrated, with a confidence"],
)
async def test_a_service_and_its_image_answer_the_same(
    package: Path,
    make_want: MakeWant,
    tmp_path: Path,
    environments: Path,
    *,
    said: dict[str, Any],
    confidence: float | None,
    told: dict[str, Any],
) -> None:
    """A rotated photo with odd sides, which a real Triton decodes as well."""
    photo, folder = tmp_path / "photo.jpg", tmp_path / "package"
    photo.write_bytes(untrusted_images.photo(side=(157, 93), exif=_turned()))
    manifest, _ = model_packages.altered(package, folder, {}, **said)
    triton = TritonLocal(tmp_path / "home", environments)
    want = make_want(package_uri=str(folder), manifest_sha256=manifest)
    try:
        await triton.apply(want)
        seen = await local_triton.loaded(triton, want.uid)
        address, data = seen.grpc_url, photo.read_bytes()
        served, _ = await inference.infer(address, want.model_name, data, timeout=30, confidence=confidence)
    finally:
        await triton.remove(want.uid)
        await triton.close()

    asked = ["predict", f"--image={photo}", *([f"--confidence={confidence}"] if confidence is not None else [])]
    output, variables = f"--deepaas_method_output={tmp_path / 'found.json'}", {"PELAGOS_MANIFEST_SHA256": manifest}
    done = deepaas_servers.command(folder, tmp_path / "run", output, *asked, variables=variables)

    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "found.json").read_text())
    assert answer == served
    assert answer["detections"]
    assert (answer["width"], answer["height"]) == (93, 157)
    assert {name: answer.get(name) for name in told} == told


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def test_metadata_say_what_the_package_and_its_card_say(package: Path, tmp_path: Path, detector: Server) -> None:
    card = {
        "title": "Urchins",
        "summary": "Finds urchins.",
        "license": "CC-BY-4.0",
        "contact": {"name": "A", "email": "a@b.c"},
    }
    (tmp_path / "card.json").write_text(json.dumps({**card, "unknown": "x", "limitations": ["no text"]}))

    (plain,) = detector.get("/v2/models/").json()["models"]
    done = deepaas_servers.command(
        package,
        tmp_path,
        "--deepaas_method_output=said.json",
        "get_metadata",
        variables={"PELAGOS_CARD": str(tmp_path / "card.json")},
    )

    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "said.json").read_text())
    assert plain["task"] == said["task"] == "Detection"
    assert plain["labels"] == ["Ceratium", 'Größe "x"', "detritus"]
    assert plain["manifestSha256"] == package.name
    assert plain["name"] == "colour detection for Detection, trained on colours"
    assert said["name"] == "Urchins"
    assert (said["license"], said["author"], said["author-email"]) == ("CC-BY-4.0", "A", "a@b.c")
    assert "unknown" not in said
    assert "limitations" not in said


def test_arguments_say_how_the_model_is_asked(detector: Server) -> None:
    paths = detector.get("/swagger.json").json()["paths"]

    (arguments,) = (paths[path]["post"]["parameters"] for path in paths if path.endswith("/predict/"))

    assert {each["name"] for each in arguments} == {"image", "confidence", "accept"}


def test_the_page_about_the_api_asks_nobody_else(detector: Server) -> None:
    page, described = detector.get("/api").data.decode(), detector.get("/swagger.json").json()["info"]["description"]

    assert "swagger" in page
    assert re.findall(r"(?:src|href)=.?(?:https?:)?//", page + described) == []


@pytest.mark.parametrize(
    ("form", "accept", "field"),
    [
        ({}, "", "image"),
        ({"confidence": "2"}, "", "confidence"),
        ({"confidence": "much"}, "", "confidence"),
        ({"confidence": "nan"}, "", "confidence"),
        ({}, "text/html", "accept"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_its_name(
    detector: Server, form: dict[str, str], accept: str, field: str
) -> None:
    image = {} if field == "image" else {"image": ("image", untrusted_images.photo())}

    answer = detector.post("predict/", {**image, **form}, accept)

    assert answer.status == 422
    assert field in answer.json()


def test_an_image_that_is_sent_as_a_text_is_refused_with_what_to_do(detector: Server) -> None:
    answer = detector.post("predict/", {"image": "/etc/passwd"})

    assert answer.status == 422
    assert "multipart/form-data" in answer.json()["image"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JPEG"),
        (b"#!/bin/sh", "is not JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not JPEG"),
        (untrusted_images.photo()[:900], "ends too early"),
        (untrusted_images.blank(9000, 9000), "more than 50 megapixels"),
        (untrusted_images.photo() + bytes(1 << 20), "at most 1048576 are accepted"),
    ],
    ids=["nothing", "a script", "a drawing", "half a photo", "too many pixels", "too many bytes"],
)
def test_what_is_no_image_that_is_served_is_refused_with_the_reason(
    detector: Server, content: bytes, words: str
) -> None:
    answer = detector.predict(content)

    assert answer.status == 422
    assert words in answer.json()["image"][0]
    assert detector.uploads() == []


def test_a_form_that_is_larger_than_any_image_is_refused_before_it_is_written(detector: Server) -> None:
    answer = detector.predict(bytes(3 << 20))

    assert answer.status == 413
    assert detector.uploads() == []


def test_a_form_that_unpacks_to_more_than_any_image_is_refused(detector: Server) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    packed = gzip.compress(head + bytes(200 << 20) + b"\r\n--x--\r\n")
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}

    assert detector.send(packed, headers).status == 413
    assert detector.uploads() == []


def test_whoever_hangs_up_leaves_nothing_behind(detector: Server, package: Path) -> None:
    image = (package / "probe.png").read_bytes()
    form, kind = urllib3.encode_multipart_formdata({"image": ("image", image)})
    head = f"Host: a\r\nContent-Type: {kind}\r\nContent-Length: {len(form)}\r\n\r\n"

    for length in (len(form) // 2, len(form)):
        with socket.create_connection(("127.0.0.1", detector.port)) as caller:
            caller.sendall(f"POST /v2/models/pelagos/predict/ HTTP/1.1\r\n{head}".encode() + form[:length])

    assert detector.predict(image).status == 200
    deadline = monotonic() + deepaas_servers.PATIENCE
    while detector.uploads():  # the request that was sent completely is still answered
        assert monotonic() < deadline
        sleep(0.05)


def test_what_reads_images_is_started_anew_when_it_is_killed(detector: Server, package: Path) -> None:
    (worker,) = detector.workers()
    readers = subprocess.run(["pgrep", "--parent", str(worker)], capture_output=True, check=True).stdout.split()

    for reader in readers:
        os.kill(int(reader), signal.SIGKILL)

    assert readers
    assert detector.predict((package / "probe.png").read_bytes()).status == 200


def test_a_picture_of_a_very_large_image_is_refused_with_what_to_ask_for(detector: Server) -> None:
    large = untrusted_images.blank(4001, 4000)

    assert "accept application/json" in detector.predict(large, accept="image/png").json()["image"][0]
    assert detector.predict(large).status == 200


def test_what_was_sent_is_removed(detector: Server) -> None:
    assert detector.predict(untrusted_images.photo()).status == 200

    assert detector.uploads() == []


def test_requests_that_come_at_once_are_all_answered(detector: Server, package: Path) -> None:
    good, bad = (package / "probe.png").read_bytes(), untrusted_images.photo()[:900]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(detector.predict, [good, bad] * 6))

    assert [answer.status for answer in answers] == [200, 422] * 6
    assert len({answer.data for answer in answers[::2]}) == 1


def test_it_is_not_trained(detector: Server) -> None:
    assert detector.post("train/").status == 501
    assert detector.predict(untrusted_images.photo()).status == 200


def test_a_large_image_is_cut_into_the_tiles_that_the_model_was_taught_on(package: Path, tmp_path: Path) -> None:
    geometry = json.loads((package / "package.json").read_text())["input"]
    folder = tmp_path / "tiled"
    manifest, _ = model_packages.altered(package, folder, {}, input={**geometry, "tile": {"size": 64, "overlap": 0}})
    with Image.open(package / "probe.png") as part:
        whole = Image.new("RGB", (128, 192))
        for place in ((x, y) for x in (0, 64) for y in (0, 64, 128)):
            whole.paste(part, place)
    whole.save(tmp_path / "whole.png")

    for name, image in (("large", tmp_path / "whole.png"), ("small", package / "probe.png")):
        output = f"--deepaas_method_output={tmp_path / name}.json"
        done = deepaas_servers.command(
            folder,
            tmp_path / "run",
            output,
            "predict",
            "--image",
            image,
            variables={"PELAGOS_MANIFEST_SHA256": manifest},
        )
        assert done.returncode == 0, done.stderr
    large, small = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("large", "small"))

    assert (large["width"], large["height"], large["tiles"]) == (128, 192, 6)
    assert small["tile"] == {"size": 64, "overlap": 0}
    assert _where(large) == sorted(
        (label, round(x + left), round(y + top))
        for label, left, top in _where(small)
        for x in (0, 64)
        for y in (0, 64, 128)
    )


def _where(answer: dict[str, Any]) -> list[tuple[str, int, int]]:
    return sorted((one["label"], round(one["box"][0]), round(one["box"][1])) for one in answer["detections"])
