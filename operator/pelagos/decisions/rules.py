"""Checks of the rules across fields, for API servers without CEL; and of fields that must not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelagos.decisions import bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pelagos.api.meta import RuledSpec


def violation(spec: RuledSpec) -> str | None:
    """The message of the first rule that ``spec`` breaks, with the offending value; None when it breaks none."""
    for rule in spec.rules():
        if not rule.holds(spec):
            return f"{rule.message}; it is {_value(spec, rule.field)}"
    return None


def changed_frozen(frozen: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A message about the first field whose value differs from the frozen one; None when there is none."""
    for path, before, after in _differences("spec", frozen, now):
        return (
            f"{path} is immutable: this run was made with {_text(before)}, and the resource now says {_text(after)}. "
            "Set it back, or create a new TrainingRun under another name"
        )
    return None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A description of all fields of spec that have another value now; empty when there are none."""
    found = _differences("spec", before, now)
    return ", ".join(f"{path} is {_text(new)} (it was {_text(old)})" for path, old, new in found)


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            yield from _differences(f"{path}.{key}", before.get(key), after.get(key))
        return
    yield path, before, after


def _text(value: Any) -> str:
    return "nothing" if value is None else str(bounds.short(repr(value)))


def _value(spec: RuledSpec, field: str) -> str:
    node: Any = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    for part in field.split(".")[1:]:
        node = node.get(part) if isinstance(node, dict) else None
    return _text(node)
