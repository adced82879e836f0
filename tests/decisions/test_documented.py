"""Every field that decisions read or return is documented: what it holds and what its absence means."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import pelagos

ROOT = Path(pelagos.__path__[0])
SOURCES = [*ROOT.glob("decisions/*/observed.py"), *ROOT.glob("ports/*.py")]
CLASSES = [
    pytest.param(node, id=f"{source.parent.name}.{source.stem}.{node.name}")
    for source in SOURCES
    for node in ast.parse(source.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef) and node.name.startswith(("Observed", "Desired"))
]


def undocumented(body: list[ast.stmt]) -> Iterator[str]:
    """Fields without a docstring; consecutive fields may share the one after the last."""
    waiting: list[str] = []
    for node in body:
        if isinstance(node, ast.AnnAssign):
            waiting.append(ast.unparse(node.target))
        elif isinstance(node, ast.Expr):
            waiting.clear()
    yield from waiting


def silent_about_none(body: list[ast.stmt]) -> Iterator[str]:
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and "None" in ast.unparse(field.annotation):
            told = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
            if "None" not in str(told):
                yield ast.unparse(field.target)


@pytest.mark.parametrize("node", CLASSES)
def test_every_field_says_what_it_holds(node: ast.ClassDef) -> None:
    assert list(undocumented(node.body)) == []


@pytest.mark.parametrize("node", CLASSES)
def test_a_field_that_can_be_none_says_what_that_means(node: ast.ClassDef) -> None:
    assert list(silent_about_none(node.body)) == []


def test_there_is_such_a_class_of_every_kind() -> None:
    assert {"dataset", "training_run", "model_service"} <= {str(each.id).partition(".")[0] for each in CLASSES}
