"""Every reason that code can publish is documented, and no documented reason is an orphan."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from pelagos.api import reasons
from pelagos_contract.failures import Reason

ROOT = Path(__file__).parents[2]
FOLDERS = ("decisions", "reconcilers", "ports", "engines")  # the last two give reasons to what they reject
SOURCES = [file for folder in FOLDERS for file in (ROOT / "operator/pelagos" / folder).rglob("*.py")]
CAMEL_CASE = re.compile(r"^[A-Z][a-z]+[A-Za-z]*$")


def camel_case_words() -> set[str]:
    """All string constants that look like a reason."""
    found: set[str] = set()
    for source in SOURCES:
        nodes = ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        found |= {
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CAMEL_CASE.match(node.value)
        }
    return found


def reasons_of_the_data_plane() -> set[str]:
    return {reason.value for reason in Reason}


def published() -> set[str]:
    """Reasons given to verdicts, by position or by name."""
    found: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"Verdict", "Unresolved"}
            ):
                position = 2 if node.func.id == "Verdict" else 0
                arguments = node.args[position : position + 1]
            elif isinstance(node, ast.Call):
                arguments = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            else:
                continue
            constants = [
                child for argument in arguments for child in ast.walk(argument) if isinstance(child, ast.Constant)
            ]
            found |= {
                child.value for child in constants if isinstance(child.value, str) and CAMEL_CASE.match(child.value)
            }
    return found


def test_every_published_reason_is_documented() -> None:
    assert published() - reasons.documented() == set()


def test_every_reason_of_the_data_plane_is_documented() -> None:
    assert reasons_of_the_data_plane() - reasons.documented() == set()


def test_every_documented_reason_can_be_published() -> None:
    assert reasons.documented() - camel_case_words() - reasons_of_the_data_plane() == set()


def test_a_reason_that_needs_a_person_says_what_to_do() -> None:
    silent = [
        reason.name
        for table in reasons.TABLES.values()
        for reason in table
        if reason.state == "action required" and not reason.hint
    ]
    assert silent == []
