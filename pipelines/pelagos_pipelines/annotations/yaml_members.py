"""Reads a large YAML file member by member in a child of the sandbox: only plain mappings, lists and scalars.

Aliases (a few lines can expand to gigabytes), tags, deep nesting and duplicate keys are refused. Members are not kept, so that a
file can be larger than the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml

from pelagos_pipelines.annotations.untrusted_input import invalid

MAX_DEPTH = 32
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}


def members(where: str, file: BinaryIO, opened: str) -> Iterator[tuple[str, str | None, Any]]:
    """The keys and values of the top-level mapping; that below the key ``opened`` is yielded member by member.

    Raises:
        RefusedError: FORMAT_INVALID for anything but plain YAML with a mapping at the top.
    """
    try:
        events = _Events(where, file)
        if not isinstance(events.next(), yaml.MappingStartEvent):
            raise invalid(f"{where} is not a mapping: export it again")
        for key in events.keys(1):
            if key == opened and isinstance(event := events.next(), yaml.MappingStartEvent):
                for name in events.keys(2):
                    yield key, name, events.value(events.next(), 3)
            else:
                yield key, None, events.value(event if key == opened else events.next(), 2)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise invalid(
            f"{where}{place} is not supported YAML, which has plain lists and mappings without aliases (*) and tags (!!); "
            "correct it"
        ) from error


class _Events:
    """The stream of parser events."""

    def __init__(self, where: str, file: BinaryIO) -> None:
        self._where = where
        self._events = yaml.parse(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def next(self) -> Any:
        event: Any
        for event in self._events:
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise _refused(event)
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                return event
        raise yaml.YAMLError

    def keys(self, depth: int) -> Iterator[str]:
        """The keys of the current mapping; the caller must read each value before the next key."""
        seen = set[str]()
        while (event := self.next()).__class__ is not yaml.MappingEndEvent:
            if depth > MAX_DEPTH or not isinstance(event, yaml.ScalarEvent):
                raise _refused(event)
            if event.value in seen:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise invalid(
                    f"{self._where}, line {line}: the key is twice in its mapping, and one value would be lost; correct it"
                )
            seen.add(event.value)
            yield event.value

    def value(self, event: Any, depth: int) -> Any:
        """The value that begins with an event."""
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        if depth > MAX_DEPTH:
            raise _refused(event)
        if isinstance(event, yaml.MappingStartEvent):
            return {key: self.value(self.next(), depth + 1) for key in self.keys(depth)}
        if not isinstance(event, yaml.SequenceStartEvent):
            raise yaml.YAMLError
        found = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            found.append(self.value(event, depth + 1))
        return found


def _refused(event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem_mark=event.start_mark)


def _scalar(text: str) -> object:
    """The value of an unquoted scalar. Dates, ``yes`` and ``59:59`` stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 60 or not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)
