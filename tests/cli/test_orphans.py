"""``pelagos orphans``: its output, its question, and that nothing is removed while anything cannot be determined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import typer
import yaml

import simulation
from pelagos.api import kinds, meta
from pelagos.cli import orphans
from pelagos.cli.orphans import Wish
from pelagos.cli.outputs import Output
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
from pelagos.ports.errors import OutageError
from pelagos.reconcilers.orphans import Living, Scope
from simulation import FRAMES, Simulation

SCOPE = Scope(known=frozenset({"default"}))


@pytest.fixture
def left() -> Iterator[Simulation]:
    """A world whose Dataset was ready, and vanished two hours ago."""
    with simulation.simulation() as world:
        simulation.apply_samples(world)
        world.start()
        world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
        world.stop()
        for key in (FRAMES, simulation.DETECTOR, simulation.SERVICE):
            world.cluster.remove(key)
        world.wrong += timedelta(hours=2)
        yield world


def manage(world: Simulation, **wish: Any) -> None:
    async def nobody() -> Living:
        return Living(frozenset(), {})

    world.ask(orphans.manage(world.prepare().dependencies, SCOPE, nobody, Wish(**wish)))


@pytest.mark.parametrize(("output", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)])
def test_documents_tell_what_it_is_and_whose(
    left: Simulation, capsys: pytest.CaptureFixture[str], output: Output, read: Any
) -> None:
    manage(left, output=output)

    found = {entry["what"]: entry for entry in read(capsys.readouterr().out)}
    assert found["dataset versions"]["state"] == "retained"
    assert found["dataset versions"]["namespace"] == "default"
    assert found["pipeline run"]["state"] == "orphaned"
    assert left.pipelines.runs, "nobody said that anything should be removed"


def test_the_table_names_everything(left: Simulation, capsys: pytest.CaptureFixture[str]) -> None:
    manage(left)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["STATE", "WHAT", "NAMESPACE", "NAME", "AGE"]
    assert any(line.startswith("retained") and "dataset versions" in line for line in lines)


def test_nothing_is_removed_unless_somebody_says_yes(
    left: Simulation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def no(question: str, **_: Any) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(typer, "confirm", no)
    before = dict(left.pipelines.runs)

    with pytest.raises(typer.Exit):
        manage(left, delete=True)

    assert asked
    assert left.pipelines.runs == before


def test_what_is_orphaned_is_removed_and_what_is_retained_stays(
    left: Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    manage(left, delete=True, sure=True)

    assert left.pipelines.runs == {}
    assert any(path.startswith("datasets/") for path in left.objects.files)
    assert "removed pipeline run" in capsys.readouterr().err


def test_a_list_of_resources_of_which_one_page_is_missing_is_no_list() -> None:
    class Server(KubernetesRest):
        """Serves two pages of Datasets, and refuses the second."""

        def __init__(self, second: Answer) -> None:
            super().__init__("https://nowhere", tls=None)
            self.second = second

        async def get(self, path: str, *, timeout: float = 10.0) -> Answer:
            if kinds.DATASET.plural not in path:
                return Answer(200, {"items": []})
            return self.second if "continue=" in path else Answer(200, page("1", more="next"))

    whole = Server(Answer(200, page("2")))
    found = ask(orphans.list_resources(whole, ""))
    assert (found.uids, set(found.texts)) == ({"uid-1", "uid-2"}, {"Dataset/default/1", "Dataset/default/2"})

    with pytest.raises(OutageError, match="list of all Datasets"):
        ask(orphans.list_resources(Server(Answer(410, {"message": "expired"})), ""))


def page(name: str, *, more: str = "") -> Mapping[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"apiVersion": meta.API_VERSION, "items": [{"metadata": metadata}], "metadata": {"continue": more}}


def ask(answer: Any) -> Any:
    import asyncio

    return asyncio.run(answer)
