"""Everything that pages ask people to type is valid: `pelagos` commands and options, fields of a status, resources."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pelagos.api import kinds
from pelagos.api.kinds import Kind
from pelagos.cli.commands import Deferred
from pelagos.cli.main import app
from pelagos.decisions import rules

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
}
_COMMAND = re.compile(r"^ *(?:\$ )?((?:pelagos|kubectl) (?:[^\n]*\\\n)*[^\n]*)$", re.M)
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
_KINDS = {word: kind for kind in kinds.KINDS for word in (kind.kind.lower(), kind.plural)}
MINIMAL: dict[str, dict[str, Any]] = {
    "Dataset": {"source": {"volume": {"path": "fish"}}, "task": "Detection"},
    "TrainingRun": {"datasetRef": {"name": "fish"}, "model": {"architecture": "yolov8n"}},
    "ModelService": {"model": {"trainingRunRef": {"name": "fish"}}},
    "Trial": {"modelServiceRef": {"name": "fish"}},
}


def typed(program: str) -> list[tuple[str, str]]:
    """The commands of a program, by page, without pipes and comments."""
    found = []
    for page, text in PAGES.items():
        for language, block in _BLOCK.findall(text):
            for command in _COMMAND.findall(block) if language != "yaml" else ():
                words = re.split(r" (?:#|\||>|&&|2>) ?", command.replace("\\\n", " "))[0].strip()
                if words.startswith(f"{program} "):
                    found.append((page, words))
    return found


@pytest.mark.parametrize(("page", "command"), typed("pelagos"))
def test_a_command_is_one_of_pelagos(page: str, command: str) -> None:
    """It is parsed completely, but not run."""
    found: Any = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    while hasattr(found, "commands"):
        assert words[0] in found.commands, f"{page}: {command}: {words[0]} is none of {', '.join(found.commands)}"
        found = found.commands[words.pop(0)]
        found = found.command if isinstance(found, Deferred) else found
    try:
        found.make_context(found.name, words)
    except typer.TyperException as error:
        pytest.fail(f"{page}: {command}: {error}")


def read_fields() -> list[tuple[str, Kind, str]]:
    """The fields of a status that commands read, by page."""
    found = []
    for page, command in typed("kubectl"):
        named = (_KINDS.get(word.partition("/")[0].lower()) for word in command.split())
        kind = next(filter(None, named), None)
        loops = re.findall(r"{range (\.[A-Za-z.]+)\[\*\]}(.*?){end}", command)
        paths = [f"{start}{path}" for start, inner in loops for path in re.findall(r"{(\.[A-Za-z.]+)}", inner)]
        paths += re.findall(r"{(\.[A-Za-z.]+)}", re.sub(r"{range.*?{end}", "", command))
        # All resources have the same metadata.
        found += [(page, kind, path) for path in paths if kind is not None and not path.startswith(".metadata.")]
    return found


@pytest.mark.parametrize(("page", "kind", "path"), read_fields())
def test_a_field_that_a_command_reads_is_one_of_the_kind(page: str, kind: Kind, path: str) -> None:
    _, part, *names = path.split(".")
    schema = {"spec": kind.spec, "status": kind.status}[part].model_json_schema()
    place: Any = schema
    for name in names:
        place = _followed(place, schema)
        assert name in place["properties"], f"{page}: {path}: {kind.kind} has no {name}"
        place = place["properties"][name]


def _followed(place: Any, schema: Any) -> Any:
    """The schema behind an optional value, a list, or a reference."""
    while "properties" not in place:
        choices = [each for each in place.get("anyOf", ()) if each.get("type") != "null"]
        place = choices[0] if choices else place.get("items") or schema["$defs"][place["$ref"].rpartition("/")[2]]
    return place


class _Yaml(yaml.SafeLoader):
    """YAML as Kubernetes reads it: without dates."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, known) for tag, known in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def written() -> list[tuple[str, Any]]:
    """Our resources, and parts of their specs, by page. Shortened digests are replaced by whole ones."""
    blocks = [(page, block) for page, text in PAGES.items() for kind, block in _BLOCK.findall(text) if kind == "yaml"]
    found = [
        (page, document)
        for page, block in blocks
        for document in yaml.load_all(re.sub(r"[0-9a-f]{8}\.\.\.", "0" * 64, block), _Yaml)
    ]
    ours = {None, *MINIMAL}
    return [
        (page, each) for page, each in found if isinstance(each, dict) and "spec" in each and each.get("kind") in ours
    ]


@pytest.mark.parametrize(("page", "document"), written())
def test_a_resource_is_valid(page: str, document: dict[str, Any]) -> None:
    tried = [kind for kind in kinds.KINDS if document.get("kind") in {None, kind.kind}]
    faults = []
    for kind in tried:
        try:
            spec = kind.spec.model_validate({**MINIMAL[kind.kind], **document["spec"]})
        except ValueError as error:
            faults.append(str(error))
        else:
            assert rules.violation(spec) is None
            return
    pytest.fail(f"{page}: {document}: {faults}")


def test_the_first_lesson_shows_the_sample_that_it_applies() -> None:
    (shown,) = [document for page, document in written() if page == "docs/tutorials/first-detector.md"]

    assert shown == yaml.safe_load((ROOT / "manifests/samples/dataset.yaml").read_text(encoding="utf-8"))
