"""EcoTaxa: TSV files with a row for each image of an object; a validated object's category is its class."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from image_sources import photo, read, tree_of
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import reading, registry
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Collection, Exclusion

HEADER = (
    "img_file_name img_rank object_id object_lat object_lon object_date object_annotation_status object_annotation_person_name"
    " object_annotation_category object_annotation_hierarchy sample_id acq_id process_id"
)


def row(name: str, category: str = "Copepoda", status: str = "validated", **more: str) -> dict[str, str]:
    return {
        "img_file_name": name,
        "img_rank": "0",
        "object_id": name.removesuffix(".png"),
        "object_lat": "43.5",
        "object_annotation_status": status,
        "object_annotation_person_name": "Ada Fisher",
        "object_annotation_category": category,
        "object_annotation_hierarchy": f"living>{category}",
        "sample_id": "tow 1",
    } | more


def table(path: Path, *rows: dict[str, str], types: bool = False, header: str = HEADER) -> Path:
    """A table as EcoTaxa writes it: all values quoted, with a byte order mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(
            file,
            header.split(),
            restval="",
            extrasaction="ignore",
            delimiter="\t",
            lineterminator="\n",
            quoting=csv.QUOTE_ALL,
        )
        writer.writeheader()
        for each in [dict.fromkeys(header.split(), "[t]")] * types + list(rows):
            writer.writerow(each)
    return path


def make(root: Path, *rows: dict[str, str], **more: object) -> Path:
    for number, name in enumerate(dict.fromkeys(each["img_file_name"] for each in rows)):
        photo(root / name, seed=number)
    table(root / "ecotaxa_export.tsv", *rows, **more)  # type: ignore[arg-type]
    return root


def classified(root: Path) -> Collection:
    return read(root, Task.CLASSIFICATION)


def test_validated_objects_are_the_class_of_their_image_and_samples_are_groups(tmp_path: Path) -> None:
    make(tmp_path, row("a.png"), row("b.png", "Calanoida<Copepoda", sample_id="tow 2"), types=True)

    found = classified(tmp_path)

    assert [(image.path, image.label, image.group) for image in found.images] == [
        ("a.png", "Copepoda", "tow 1"),
        ("b.png", "Calanoida<Copepoda", "tow 2"),
    ]
    assert found.annotation_files == ("ecotaxa_export.tsv",)


def test_where_when_and_by_whom_are_kept_beside_the_class(tmp_path: Path) -> None:
    tree = tree_of(make(tmp_path, row("a.png", acq_id="net 3")))
    ((_, drawings),) = reading.drawings(
        "pelagos_pipelines.annotations.ecotaxa_document", tree, ["ecotaxa_export.tsv"], Faults()
    )
    assert drawings is not None
    (shape,) = drawings.images[0].shapes

    assert (shape.annotator, shape.origin) == ("Ada Fisher", "a")
    assert shape.attributes == {
        "object_annotation_hierarchy": "living>Copepoda",
        "object_lat": "43.5",
        "sample_id": "tow 1",
        "acq_id": "net 3",
    }


def test_what_nobody_has_validated_is_left_out_by_name(tmp_path: Path) -> None:
    make(
        tmp_path,
        row("a.png"),
        row("b.png", status="predicted"),
        row("c.png", status="dubious"),
        row("d.png", "", status=""),
        row("e.png", "Oithona"),
    )

    found = classified(tmp_path)

    assert [image.path for image in found.images] == ["a.png", "e.png"]
    assert found.excluded == tuple(Exclusion(f"{name}.png", ExclusionReason.UNLABELLED) for name in "bcd")
    told = [words for words in found.warnings if "objects" in words]
    assert [words.split(",")[0] for words in told] == [
        "1 objects are predicted but were not validated",
        "1 objects are dubious",
        "1 objects have neither been predicted nor validated",
    ]


def test_a_table_of_predictions_alone_is_refused_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="2 objects are predicted but were not validated"):
        classified(make(tmp_path, row("a.png", status="predicted"), row("b.png", status="P")))


def test_further_images_of_an_object_have_its_class_and_are_told(tmp_path: Path) -> None:
    again = row("b.png", object_id="a", img_rank="1", sample_id="")
    found = classified(make(tmp_path, row("a.png", sample_id=""), again, row("c.png", "Oithona")))

    assert [(image.label, image.group) for image in found.images][:2] == [("Copepoda", "a"), ("Copepoda", "a")]
    assert any(words.startswith("1 images are additional ones of their object") for words in found.warnings)


def test_a_table_of_each_sample_names_the_images_of_its_folder(tmp_path: Path) -> None:
    for number, tow in enumerate(("tow1", "tow2")):
        photo(tmp_path / tow / "a.png", seed=number)
        table(tmp_path / tow / f"ecotaxa_{tow}.tsv", row("a.png", f"class {number}", sample_id=tow))

    found = read(tmp_path, Task.CLASSIFICATION, "EcoTaxa")

    assert [(image.path, image.label) for image in found.images] == [
        ("tow1/a.png", "class 0"),
        ("tow2/a.png", "class 1"),
    ]


def test_an_image_of_two_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"a\.png has 2 classes"):
        classified(make(tmp_path, row("a.png"), row("a.png", "Oithona")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"object_annotation_status": "sure"}, "object_annotation_status other than validated"),
        ({"object_annotation_category": ""}, "class is not a class name"),
        ({"img_file_name": ""}, "names no image"),
        ({"img_file_name": "../../etc/passwd"}, "have no image"),
    ],
    ids=str,
)
def test_a_row_that_is_none_is_refused_by_its_line(tmp_path: Path, change: dict[str, str], words: str) -> None:
    photo(tmp_path / "a.png")
    table(tmp_path / "ecotaxa_export.tsv", row("a.png") | change)
    with pytest.raises(RefusedError, match=words) as refused:
        classified(tmp_path)
    assert "line 2" in refused.value.failure.message


def test_an_export_without_images_says_what_to_do(tmp_path: Path) -> None:
    make(tmp_path, row("a.png"), header=HEADER.removeprefix("img_file_name img_rank "))

    with pytest.raises(RefusedError, match=r"has no column img_file_name.*export with images"):
        classified(tmp_path)


def test_separators_at_the_end_of_lines_are_no_columns(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    content = "object_id\timg_file_name\tobject_annotation_category\tobject_annotation_status\t\t\na\ta.png\tcod\tvalidated\t\t\n"
    (tmp_path / "ecotaxa.txt").write_text(content, encoding="utf-8")

    assert classified(tmp_path).images[0].label == "cod"


def test_the_format_is_recognised(tmp_path: Path) -> None:
    assert registry.detect(tree_of(make(tmp_path, row("a.png")))).name == "EcoTaxa"
