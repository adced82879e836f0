"""When and where images were taken: read from EXIF, a table, an iFDO or folders. What is not known is counted and named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from image_sources import photo, text, tree_of
from pelagos_contract.capture import CaptureSource
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import Failure, Reason
from pelagos_pipelines.annotations import capture
from pelagos_pipelines.annotations.capture import Capture, ValueFaultError
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.preparation.capturing import applying
from pelagos_pipelines.preparation.capturing.patterns import Pattern
from pelagos_pipelines.steps import prepare as step

GPS, BASE = ExifTags.GPS, ExifTags.Base


class Place:
    """A source of six images in two classes, and its preparations."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root, root / "data" / "reef"
        for number, label in enumerate(("cod", "eel")):
            for image in range(3):
                photo(self.source / label / f"{image}.jpg", seed=10 * number + image)

    def request(self, **changes: Any) -> str:
        return json.dumps({"source": {"volume": {"path": "reef"}}, "task": "Classification", **changes})

    def prepare(self, report: str = "r", **changes: Any) -> PreparationResult:
        folder = self.root / report
        step.prepare(self.request(**changes), str(self.root / "data"), str(self.root / "store"), str(folder))
        return PreparationResult.model_validate_json((folder / "result.json").read_bytes())

    def refused(self, **changes: Any) -> Failure:
        with pytest.raises(Exception, match=r"."):
            self.prepare("refused", **changes)
        return Failure.model_validate_json((self.root / "refused" / "failure.json").read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def captures(result: PreparationResult) -> dict[str, Capture | None]:
    return {image.path: image.capture for image in versions.read(result.uri).collection.images}


def findings(result: PreparationResult) -> dict[tuple[str, str | None], list[str]]:
    assert result.capture is not None
    return {(one.reason, one.field): one.first for one in result.capture.findings}


def listed(result: PreparationResult) -> list[dict[str, str]]:
    content = (Path(result.uri) / "report" / "capture.jsonl").read_bytes()
    return [orjson.loads(line) for line in content.splitlines()]


# --- tables

TABLE = """Path,Site,deployment,image-datetime,depth,lat,lon,remark
cod/0.jpg,azores,dive-1,2024-05-31T08:00:00+02:00,120.5,38.5,-28.7,"a, b"
cod/1.jpg,azores,dive-1,2024-05-31 09:00:00,120,38.5,-28.7,
cod/2.jpg,azores,dive-2,yesterday,12000,91,,
eel/0.jpg,madeira,,2024-06-02,NaN,32.7,-17,
eel/9.jpg,madeira,dive-3,2024-06-02T10:00:00Z,1,32.7,-17,
0.jpg,madeira,dive-3,2024-06-02T10:00:00Z,1,32.7,-17,
eel/1.jpg,madeira,dive-3,2024-06-02T10:00:00Z,1,32.7,-17,
eel/1.jpg,lisbon,dive-3,2024-06-02T10:00:00Z,1,32.7,-17,
"""


def test_a_table_says_of_each_image_when_and_where_and_all_that_it_does_not_say_is_told(place: Place) -> None:
    text(place.source / "dives" / "survey.csv", TABLE)

    result = place.prepare(capture={"from": "Csv", "file": "dives/survey.csv"})

    found = captures(result)
    assert found["cod/0.jpg"] == Capture("azores", "dive-1", None, "2024-05-31T08:00:00+02:00", 120.5, 38.5, -28.7)
    assert found["cod/1.jpg"] == Capture("azores", "dive-1", None, "2024-05-31T09:00:00Z", 120.0, 38.5, -28.7)
    assert found["cod/2.jpg"] == Capture("azores", "dive-2")
    assert found["eel/0.jpg"] == Capture("madeira", time="2024-06-02", latitude=32.7, longitude=-17.0)
    assert found["eel/1.jpg"] == Capture(None, "dive-3", None, "2024-06-02T10:00:00Z", 1.0, 32.7, -17.0)
    assert found["eel/2.jpg"] is None
    assert findings(result) == {
        ("ImageNotFound", None): ["dives/survey.csv, line 6 (nearest is cod/2.jpg or cod/1.jpg)"],
        ("SeveralImages", None): ["dives/survey.csv, line 7 (may be cod/0.jpg or eel/0.jpg)"],
        ("NothingSaid", None): ["eel/2.jpg"],
        ("NotReadable", "time"): ["cod/2.jpg"],
        ("OutOfRange", "depth"): ["cod/2.jpg"],
        ("OutOfRange", "latitude"): ["cod/2.jpg"],
        ("Contradiction", "site"): ["eel/1.jpg"],
    }
    assert {
        "name": "cod/2.jpg",
        "reason": "NotReadable",
        "field": "time",
        "place": "dives/survey.csv, line 4",
    } in listed(result)
    assert result.capture is not None
    assert {one.field: (one.known, one.unknown) for one in result.capture.fields} == {
        "site": (4, 2),
        "deployment": (4, 2),
        "time": (4, 2),
        "depth": (3, 3),
        "latitude": (4, 2),
        "longitude": (4, 2),
    }
    assert "capture: 1 times have no offset from UTC and are taken for UTC" in " ".join(result.warnings)
    assert (result.files.images, result.files.annotations, result.files.excluded) == (6, 1, 0)


def test_columns_are_named_and_times_have_the_offset_that_is_set(place: Place) -> None:
    text(
        place.source / "log.csv", "frame;when;down\n" + "".join(f"cod/{n}.jpg;2024-05-31 08:00;{n}\n" for n in range(3))
    )

    result = place.prepare(
        capture={
            "from": "Csv",
            "file": "log.csv",
            "columns": {"path": "frame", "time": "when", "depth": "down"},
            "utcOffset": "-03:30",
        }
    )

    assert captures(result)["cod/2.jpg"] == Capture(time="2024-05-31T08:00:00-03:30", depth=2.0)
    assert not any("no offset" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("content", "wanted", "words"),
    [
        (TABLE, {"file": "survye.csv"}, "the source has no file survye.csv; the nearest is survey.csv"),
        (TABLE, {"file": "cod/0.jpg"}, "cod/0.jpg is an image"),
        (TABLE, {"columns": {"site": "where"}}, "survey.csv has no column where; correct the name"),
        (TABLE, {"columns": {"site": "Sites"}}, "has no column Sites (nearest of those that are known here is Site)"),
        (
            "site,time\na,2024\n",
            {},
            "file_name, image-filename); of the others there are site, time: say how it is called",
        ),
        (
            "path,canary\ncod/0.jpg,x\n",
            {},
            "survey.csv names images, and has no other column of path, site, deployment",
        ),
        (
            "path,time,datetime\ncod/0.jpg,2024-01-01,2024-01-01\n",
            {},
            "the columns time, datetime, which may all be the time",
        ),
        ("path,site\nelsewhere.jpg,a\n", {}, "says nothing of when or where any of 6 images was taken"),
        ("path,site\ncod/0.jpg,a,b\n", {}, "line 2 has 3 cells, but there are 2 columns"),
        (f"path,site\ncod/0.jpg,{'x' * 100_000}\n", {}, "has quotes or cells that are not valid in a table"),
        ("\0\0\n\0", {}, "no column that names images"),
        (
            TABLE.encode("utf-16"),
            {},
            "survey.csv is UTF-16, as spreadsheets write Unicode text: save it as CSV in UTF-8",
        ),
        (
            TABLE.replace("azores", "A\xe7ores").encode("latin-1"),
            {},
            "line 2 is not UTF-8 text: save the file as UTF-8",
        ),
    ],
)
def test_a_table_that_cannot_be_the_one_that_is_meant_is_refused(
    place: Place, content: str | bytes, wanted: dict[str, Any], words: str
) -> None:
    (place.source / "survey.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    failure = place.refused(capture={"from": "Csv", "file": "survey.csv", **wanted})

    assert words in failure.message
    assert "canary" not in failure.message
    assert failure.reason in {Reason.CAPTURE_INVALID, Reason.FORMAT_INVALID}


@pytest.mark.parametrize(
    "header",
    [
        "object_id,object_annotation_category,img_file_name,object_annotation_status,path,site",
        "filename,label_name,shape_name,points,annotation_id,site",
    ],
    ids=["EcoTaxa's columns", "BIIGLE's columns"],
)
def test_no_reader_of_annotations_takes_the_table_for_its_own(place: Place, header: str) -> None:
    row = ["1", "cod", "1", "[]", "cod/0.jpg", "reef"][-header.count(",") - 1 :]
    column = {"columns": {"path": "filename"}} if header.startswith("filename") else {}
    if column:
        row = ["cod/0.jpg", "cod", "Point", "[1]", "1", "reef"]
    text(place.source / "survey.tsv", "\n".join((header, ",".join(row), "")))
    text(place.source / "survey.csv", "\n".join((header, ",".join(row), "")))
    (place.source / "survey.tsv").unlink()

    result = place.prepare(capture={"from": "Csv", "file": "survey.csv", **column})

    assert versions.read(result.uri).collection.classes == ("cod", "eel")
    assert captures(result)["cod/0.jpg"] == Capture(site="reef")


def test_a_table_that_has_the_annotations_too_is_both_once_the_format_is_named(place: Place) -> None:
    header = "object_id\tobject_annotation_category\tobject_annotation_status\timg_file_name\tsample_id\tobject_date"
    rows = [f"{n}\t{'ab'[n % 2]}\tvalidated\tcod/{n}.jpg\ttow {n}\t20240531" for n in range(3)]
    rows += [f"{n + 3}\t{'ab'[n % 2]}\tvalidated\teel/{n}.jpg\ttow {n}\t20240601" for n in range(3)]
    text(place.source / "eco.tsv", "\n".join((header, *rows, "")))
    wanted = {"from": "Csv", "file": "./eco.tsv", "columns": {"path": "img_file_name", "time": "object_date"}}

    result = place.prepare(format="EcoTaxa", capture=wanted)

    assert versions.read(result.uri).collection.classes == ("a", "b")
    assert captures(result)["eel/2.jpg"] == Capture(time="2024-06-01")
    (place.source / "cod" / "0.jpg").rename(place.source / "0.jpg")  # no longer an ImageFolder
    failure = place.refused(capture=wanted)
    assert failure.message.endswith(
        "./eco.tsv was not looked at, as capture.file; if it has the annotations, too, set format"
    )


# --- iFDO


def ifdo(items: dict[str, Any], **header: Any) -> str:
    head = {"image-set-name": "reef", "image-set-uuid": "1", "image-set-handle": "h", **header}
    return json.dumps({"image-set-header": head, "image-set-items": items})


def test_an_ifdo_without_annotations_says_when_and_where_and_is_not_taken_for_annotations(place: Place) -> None:
    items: dict[str, Any] = {
        "cod/0.jpg": {"image-datetime": "2024-05-31 08:00:00.500000", "image-altitude-meters": -1200.25},
        "cod/1.jpg": [{"image-latitude": 38.0, "image-depth": 10}],
        "cod/2.jpg": [{"image-latitude": 38.0}, {"image-latitude": 39.0}],
        "eel/0.jpg": {"image-latitude": [1.0, 2.0]},
        "eel/1.jpg": {"image-acquisition": "video"},
        "eel/2.jpg": {"image-altitude-meters": 30, "image-longitude": "x"},
    }
    common = {"image-platform": {"name": "ROV Kiel 6000"}, "image-event": "SO268-1_21-1", "image-longitude": -117.0}
    text(place.source / "ifdo.yaml", ifdo(items, **common))

    result = place.prepare(capture={"from": "Ifdo", "file": "ifdo.yaml"})

    found = captures(result)
    of_all = Capture(platform="ROV Kiel 6000", deployment="SO268-1_21-1")
    assert found["cod/0.jpg"] == replace(of_all, longitude=-117.0, time="2024-05-31T08:00:00.500000Z", depth=1200.25)
    assert found["cod/1.jpg"] == replace(of_all, longitude=-117.0, latitude=38.0, depth=10.0)
    assert found["eel/2.jpg"] == of_all
    assert findings(result) == {
        ("Video", None): ["cod/2.jpg", "eel/0.jpg", "eel/1.jpg"],
        ("NotReadable", "longitude"): ["eel/2.jpg"],
    }
    assert result.files.annotations == 1


def test_an_ifdo_with_annotations_is_both(place: Place) -> None:
    item = {
        "image-annotations": [
            {"coordinates": [], "shape": "whole-image", "labels": [{"label": "c", "annotator": "a"}]}
        ],
        "image-datetime": "2024-05-31 08:00:00",
    }
    items = {f"{label}/{number}.jpg": item for label in ("cod", "eel") for number in range(3)}
    labels = [{"id": "c", "name": "coral"}]
    text(place.source / "ifdo.json", ifdo(items, **{"image-annotation-labels": labels}))

    result = place.prepare(format="Ifdo", capture={"from": "Ifdo", "file": "ifdo.json"})

    assert versions.read(result.uri).collection.classes == ("coral",)
    assert captures(result)["eel/2.jpg"] == Capture(time="2024-05-31T08:00:00Z")
    wanted = CaptureSource.model_validate({"from": "Ifdo", "file": "ifdo.json"})
    tree = tree_of(place.source)
    assert applying.for_readers(tree, wanted, "Auto") is tree


# --- EXIF


def with_exif(path: Path, photo_tags: Mapping[Any, Any], gps: Mapping[Any, Any] | None = None) -> None:
    with Image.open(path) as image:
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.Exif).update(photo_tags)
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
        image.save(path, exif=exif, quality=95)


def degrees(*parts: tuple[int, int]) -> tuple[IFDRational, ...]:
    return tuple(IFDRational(*part) for part in parts)


def test_exif_says_when_and_where_and_damaged_exif_is_unknown(place: Place) -> None:
    original = BASE.DateTimeOriginal
    here: dict[Any, object] = {
        GPS.GPSLatitude: degrees((38, 1), (30, 1), (0, 1)),
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLongitude: degrees((28, 1), (42, 1), (36, 1)),
        GPS.GPSLongitudeRef: "W",
    }
    below: dict[Any, object] = {GPS.GPSAltitude: IFDRational(605, 10), GPS.GPSAltitudeRef: b"\x01"}
    clock = {original: "2024:05:31 08:00:00", BASE.OffsetTimeOriginal: "+02:00", BASE.SubsecTimeOriginal: "25"}
    with_exif(place.source / "cod" / "0.jpg", clock, here | below)
    with_exif(
        place.source / "cod" / "1.jpg", {original: "2024:05:31 08:00:00"}, {GPS.GPSLatitude: here[GPS.GPSLatitude]}
    )
    with_exif(place.source / "cod" / "2.jpg", {original: "0000:00:00 00:00:00"}, {GPS.GPSAltitude: IFDRational(3, 1)})
    with_exif(
        place.source / "eel" / "0.jpg",
        {original: "31.05.2024"},
        here | {GPS.GPSLatitude: degrees((98, 1), (0, 1), (0, 1))},
    )
    damaged = bytearray((place.source / "cod" / "0.jpg").read_bytes())
    place_of_ifd = damaged.index(b"II*\0") if b"II*\0" in damaged else damaged.index(b"MM\0*")
    damaged[place_of_ifd : place_of_ifd + 4] = b"XXXX"
    (place.source / "eel" / "1.jpg").write_bytes(bytes(damaged))

    result = place.prepare(capture={"from": "Exif"}, cleaning={"duplicates": {"action": "Keep"}})

    found = captures(result)
    assert found["cod/0.jpg"] == Capture(
        time="2024-05-31T08:00:00.250000+02:00", depth=60.5, latitude=-38.5, longitude=-28.71
    )
    assert found["cod/1.jpg"] == Capture(time="2024-05-31T08:00:00Z")
    assert found["eel/0.jpg"] == Capture(longitude=-28.71)
    assert findings(result) == {
        ("NothingSaid", None): ["cod/2.jpg", "eel/2.jpg"],
        ("NotReadable", "latitude"): ["cod/1.jpg"],
        ("NotReadable", "time"): ["eel/0.jpg"],
        ("OutOfRange", "latitude"): ["eel/0.jpg"],
        ("Damaged", None): ["eel/1.jpg"],
    }


def test_the_exif_of_png_files_is_found_before_and_behind_the_pixels(place: Place) -> None:
    exif = Image.Exif()
    exif[BASE.Software] = "a camera"
    exif.get_ifd(ExifTags.IFD.Exif)[BASE.DateTimeOriginal] = "2024:05:31 08:00:00"
    first = photo(place.source / "cod" / "a.png", seed=70)
    with Image.open(first) as image:
        image.save(first, exif=exif)
    content = first.read_bytes()
    begin = content.index(b"eXIf") - 4
    length = int.from_bytes(content[begin : begin + 4], "big") + 12
    chunk, plain = content[begin : begin + length], photo(place.source / "cod" / "b.png", seed=71)
    without = plain.read_bytes()
    plain.write_bytes(without[:-12] + chunk + without[-12:])

    result = place.prepare(capture={"from": "Exif"})

    found = captures(result)
    assert found["cod/a.png"] == found["cod/b.png"] == Capture(time="2024-05-31T08:00:00Z")


def test_images_without_exif_alone_are_refused(place: Place) -> None:
    failure = place.refused(capture={"from": "Exif"})

    assert failure.reason is Reason.CAPTURE_INVALID
    assert failure.message.startswith("capture: EXIF says nothing of when or where any of 6 images was taken")


# --- folders


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("{site}/{deployment}/{*}", "a/b/c/d.png", {"site": "a", "deployment": "b"}),
        ("{site}/{deployment}/{*}", "a/b.png", None),
        ("{*}/{site}_{time}.png", "cod/reef_north_2024.png", {"site": "reef", "time": "north_2024"}),
        ("{*}/{site}_{time}.png", "cod/reef.png", None),
        ("images/{site}/{*}", "pictures/a/b.png", None),
        ("{site}-{*}", "a-b.png", {"site": "a"}),
        ("{site}/{*}.jpg", "a/.jpg", None),
        ("{site}/{*}", "/b.png", None),
    ],
)
def test_a_pattern_fits_whole_names(pattern: str, path: str, wanted: dict[str, str] | None) -> None:
    assert Pattern.of(pattern).fields(path) == wanted


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{site}/../{*}", "separated by single /"),
        ("/{site}/{*}", "separated by single /"),
        ("{place}/{*}", "{place} is not a field of capture; there are {site}, {deployment}"),
        ("{site}{depth}/{*}", "two fields follow each other"),
        ("{site}/{site}", "is named twice"),
        ("{*}/cod", "it names no field"),
        ("{site}/{", "a brace is unbalanced"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused_in_words(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        CaptureSource.model_validate({"from": "Folder", "pattern": pattern})
    assert words in str(caught.value)


def test_folders_say_what_exif_does_not(place: Place) -> None:
    with_exif(place.source / "cod" / "0.jpg", {BASE.DateTimeOriginal: "2024:05:31 08:00:00"})

    result = place.prepare(capture={"from": "Exif", "pattern": "{site}/{*}"})

    assert captures(result)["cod/0.jpg"] == Capture(site="cod", time="2024-05-31T08:00:00Z")
    assert captures(result)["eel/2.jpg"] == Capture(site="eel")


# --- values


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("2024-05-31", "2024-05-31"),
        ("20240531T0800Z", "2024-05-31T08:00:00Z"),
        ("2024-05-31 08:00:00.5+0530", "2024-05-31T08:00:00.500000+05:30"),
        ("2024-05-31T08:00-00:00", "2024-05-31T08:00:00Z"),
        (" nan ", None),
        (None, None),
    ],
)
def test_times_are_read(written: str | None, wanted: str | None) -> None:
    assert capture.time_of(written)[0] == wanted


@pytest.mark.parametrize(
    "written",
    [
        "31/05/2024",
        "2024",
        "2024-13-01",
        "2024-05-31T25:00",
        "1066-10-14",
        "2024-05-31T08:00+15:00",
        "9" * 99,
        20240531,
    ],
)
def test_what_is_no_time_is_none(written: object) -> None:
    with pytest.raises(ValueFaultError):
        capture.time_of(written)


@pytest.mark.parametrize("value", ["54,5", "inf", "1e999", "91", True, [1], "٣"])
def test_what_is_no_latitude_is_none(value: object) -> None:
    with pytest.raises(ValueFaultError):
        capture.number_of("latitude", value)


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "x" * 201, "\u200b", "\ud800", ["a"]])
def test_hostile_text_names_no_site(value: object) -> None:
    with pytest.raises(ValueFaultError):
        capture.text_of(value)


def test_a_version_is_read_with_what_it_holds_and_nothing_else() -> None:
    whole = Capture("a", "b", "c", "2024-05-31T08:00:00+02:00", 1.0, 2.0, 3.0)

    assert Capture.restored(whole.document()) == whole
    for changed in ({"latitude": 99}, {"site": ""}, {"time": "now"}, {"depth": "1"}, {"other": 1.0}):
        with pytest.raises((ValueError, TypeError, KeyError)):
            Capture.restored({**whole.document(), **changed})


def test_without_capture_a_version_is_what_it_was(place: Place) -> None:
    result = place.prepare()

    assert result.capture is None
    assert b"capture" not in (Path(result.uri) / "manifest.json").read_bytes()
    assert not (Path(result.uri) / "report" / "capture.jsonl").exists()
