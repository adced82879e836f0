"""Strangers' text that commands print and draw has no effect on a terminal, and stays readable for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from pelagos.cli import predict, status
from pelagos.cli.outputs import Output
from pelagos.embedded import state
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.locking import lock
from pelagos.embedded.state import PartPhase, PartState, Phase, State
from pelagos.engines.processes.groups import ProcessId
from pelagos_contract.answers.pictures import render
from untrusted_text import HOSTILE, is_fit

FOUND = {"label": HOSTILE, "classId": 0, "score": 0.9, "box": [1.0, 2.0, 30.0, 40.0]}
CONTENT = {"task": "Detection", "width": 64, "height": 64, "detections": [FOUND]}


@pytest.mark.parametrize("output", Output)
def test_predictions(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    predict._print(
        predict.Prediction("service", "model", Path(f"{HOSTILE}.png".replace("/", "")), CONTENT, 0.1), output
    )

    printed = capsys.readouterr().out
    assert is_fit(printed)
    assert "evil" in printed
    if output is not Output.TABLE:
        content = json.loads(printed) if output is Output.JSON else yaml.safe_load(printed)
        assert content["detections"][0]["label"] == HOSTILE


def test_labels_in_pictures() -> None:
    def drawn(label: str) -> bytes:
        found = {**CONTENT, "detections": [{**FOUND, "label": label}]}
        return bytes(render(Image.new("RGB", (900, 600)), found).tobytes())

    assert drawn("\u202eab\x9b") == drawn("\\u202eab\\u009b")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_the_state_of_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool, running: bool
) -> None:
    monkeypatch.setenv("PELAGOS_HOME", str(tmp_path))
    layout = Layout.of(tmp_path)
    parts = {"mlflow": PartState(PartPhase.RESTARTING, last_exit=HOSTILE, message=HOSTILE)}
    state.write(layout.state, State(Phase.FAILED, ProcessId(1, 1), message=HOSTILE, parts=parts))
    held = lock(layout) if running else None
    with pytest.raises(typer.Exit):
        status.status(as_json=as_json)
    if held is not None:
        held.close()

    printed = capsys.readouterr().out
    assert is_fit(printed)
    assert "evil" in printed


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pelagos.cli import main

    monkeypatch.setenv("PELAGOS_HOME", str(tmp_path))
    for error in (StartError(HOSTILE), ValueError(HOSTILE)):

        def fail(problem: Exception = error) -> None:
            raise problem

        monkeypatch.setattr("pelagos.cli.main.typer.Typer.__call__", lambda *_, fail=fail, **__: fail())
        monkeypatch.setattr("os.umask", lambda _mask: 0)
        with pytest.raises(SystemExit):
            main.app()
        printed = capsys.readouterr().err
        assert is_fit(printed)
        assert "evil" in printed
