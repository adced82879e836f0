"""Every class gets a metric name that MLflow accepts and that says which class it is, whatever other classes there are."""

from __future__ import annotations

import itertools
import string

import pytest
from mlflow.utils.validation import _validate_metric_name

from pelagos_contract.metrics import LONGEST, class_name

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
