"""Every class and slice gets a metric name that MLflow accepts and that is unambiguous, whatever others there are."""

from __future__ import annotations

import itertools
import string

import pytest
from mlflow.utils.validation import _validate_metric_name

from pelagos_contract import metrics
from pelagos_contract.capture import SLICE_FIELDS
from pelagos_contract.metrics import LONGEST, UNKNOWN, Kind, Name, class_name

HOSTILE = [
    "Noctiluca scintillans",
    "a/b%c",
    "a_b_c",
    "a:2Fb:25c",
    "a_b_c-1",
    "../up",
    "..",
    ".",
    "",
    ":",
    " ",
    " a",
    "a ",
    "a.",
    "a",
    "Größe",
    "Gro\u0308ße",
    "多毛類",
    "x" * 100,
    "x" * 101,
    "x" * 500,
    "x" * 499 + "y",
    "/" * 34,
    "50 % (large)",
    "line\nbreak",
    "ends with a line\n",
    "\ud800",
]


@pytest.mark.parametrize("label", HOSTILE)
def test_a_name_is_accepted(label: str) -> None:
    _validate_metric_name(f"validation/mAP50-95/{class_name(label)}")
    assert len(class_name(label)) <= LONGEST


def test_names_are_distinct() -> None:
    labels = {"".join(letters) for length in range(4) for letters in itertools.product("a/:2F.% ", repeat=length)}
    labels |= {*string.printable, *HOSTILE}
    assert len({class_name(label) for label in labels}) == len(labels)


@pytest.mark.parametrize("label", ["Noctiluca scintillans", "copepod-2", "Größe", "a.b", "a_b", "x" * 100])
def test_usual_names_stay_as_they_are(label: str) -> None:
    assert class_name(label) == label


def test_other_characters_are_written_as_bytes() -> None:
    assert class_name("a/b%c") == "a:2Fb:25c"
    assert class_name("50 % (large)") == "50 :25 :28large:29"
    assert class_name("..") == ":2E:2E"


def test_a_long_name_ends_with_its_digest() -> None:
    assert class_name("x" * 101).startswith("x" * 72 + ":sha256-")


@pytest.mark.parametrize("value", [*HOSTILE, None])
def test_names_of_slices_are_accepted_and_say_what_they_are_of(value: str | None) -> None:
    written = metrics.value_name(value)
    want = {
        metrics.of_slice("depthBand", value, "mAP50-95"): Name(
            Kind.SLICE, "mAP50-95", field="depthBand", value=written
        ),
        metrics.of_worst("depthBand", "ECE"): Name(Kind.WORST, "ECE", field="depthBand"),
        metrics.of_left_out("site", "F1"): Name(Kind.LEFT_OUT, "F1", field="site"),
        metrics.of_test("F1"): Name(Kind.TEST, "F1"),
    }
    if value is not None:
        want[metrics.of_left_out("site", "F1", value)] = Name(Kind.LEFT_OUT, "F1", field="site", value=written)
        want[metrics.of_test("F1", value)] = Name(Kind.TEST, "F1", label=written)
    for name, parts in want.items():
        _validate_metric_name(f"deviation/{name}")
        assert metrics.parsed(name) == parts
    if written == UNKNOWN:
        assert value is None, "no value is written as one that is not known"


def test_the_longest_names_are_accepted() -> None:
    longest = max(SLICE_FIELDS, key=len)
    _validate_metric_name(f"deviation/{metrics.of_left_out(longest, 'box-mAP50-95-weighted', 'x' * 500)}")


@pytest.mark.parametrize("value", [one for one in HOSTILE if len(class_name(one)) < LONGEST and one.isascii()])
def test_people_read_values_as_they_are(value: str) -> None:
    assert metrics.plain(class_name(value)) == value


def test_people_read_letters_of_other_scripts_and_what_is_left_of_long_values() -> None:
    assert metrics.plain(class_name("Größe/多毛類 50 %")) == "Größe/多毛類 50 %"
    assert metrics.plain(UNKNOWN) is None
    assert (metrics.plain(class_name("x" * 500)) or "").startswith("x" * 70)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "test",
        "test/",
        "test/a/b/c",
        "slice/site/F1",
        "worst/site",
        "worst/a/b/c",
        "loss",
        "train/loss",
        "slice//a/F1",
    ],
)
def test_other_names_are_none(name: str) -> None:
    assert metrics.parsed(name) is None


def test_the_worst_is_the_highest_error_and_else_the_lowest() -> None:
    assert metrics.worst("mAP50", [0.5, 0.25]) == 0.25
    assert metrics.worst("ECE", [0.5, 0.25]) == 0.5
