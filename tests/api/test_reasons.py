"""Every reason is a constant of one table, is used by its name, and says what to do about it."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos_contract import failures

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "operator/pelagos/api/reasons"
SOURCES = [file for file in (ROOT / "operator/pelagos").rglob("*.py") if TABLES not in file.parents]
CONSTANTS = {name: value for name, value in vars(reasons).items() if isinstance(value, Reason)}
OTHER_THINGS = {
    # Types of conditions and phases of a Trial.
    "Accepted", "Open", "Expired",
    # Types of conditions, which tables of columns contain as well.
    "Ready", "Evaluated", "GatesPassed", "Published", "QualityPassed", "Registered", "Succeeded",
    # States of pipeline runs, pods, claims, servers and of the supervisor's children; a type, and a panel.
    "Pending", "Running", "Starting", "Loaded", "Found", "Queued",
}  # fmt: skip
"""Reasons whose names mean other things as well. mypy ensures that no literal is mistaken for one of them."""
REASONS_OF_OTHERS = {"Admitted", "InvalidSpec", "Preempted", "RegistryUnavailable"}
"""Names that KServe, the scheduler and the kubelet use for their own reasons."""
REASON_IN_A_QUERY = re.compile(r"reason[!=~]+\"[^{]")


def reasons_of_the_data_plane() -> set[str]:
    return {reason.value for reason in failures.Reason}


@functools.cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """The syntax trees of all code of the control plane."""
    return tuple(
        (str(source.relative_to(ROOT)), node)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
    )


def test_no_code_writes_a_reason_as_a_literal() -> None:
    literals = [
        f"{source}:{node.lineno}: {node.value}"
        for source, node in nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value in reasons.documented() - OTHER_THINGS or REASON_IN_A_QUERY.search(node.value))
        and not ("/engines/" in source and node.value in REASONS_OF_OTHERS)
    ]
    assert literals == []


def test_no_code_makes_up_a_reason_of_its_own() -> None:
    made = [
        f"{source}:{node.lineno}"
        for source, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Reason", "reasons.Reason"}
    ]
    assert made == []


def test_every_documented_reason_can_be_published() -> None:
    used = {
        node.attr
        for _, node in nodes()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reasons"
    }
    assert {str(reason) for name, reason in CONSTANTS.items() if name not in used} <= reasons_of_the_data_plane()


def test_every_reason_of_the_data_plane_is_documented() -> None:
    assert reasons_of_the_data_plane() - reasons.documented() == set()


def test_every_constant_is_called_as_the_reason_that_it_is() -> None:
    assert {name: str(reason) for name, reason in CONSTANTS.items()} == {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", reason).upper(): reason
        for table in reasons.TABLES.values()
        for reason in table
    }


def test_a_reason_that_needs_a_person_says_what_to_do() -> None:
    silent = [name for name, reason in CONSTANTS.items() if reason.state == "action required" and not reason.hint]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "state"),
    [("SourceEmpty", "waiting"), ("GateFailed", "action required"), ("OfANewerOne", "action required")],
)
def test_a_reason_is_found_by_its_name_and_one_that_is_not_known_needs_a_person(name: str, state: str) -> None:
    assert (reasons.named(name), reasons.named(name).state) == (name, state)
