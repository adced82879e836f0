"""The fake CVAT server is checked with the real SDK, whose models refuse what a server of that version would not answer."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from cvat_server import FORMAT, TOKEN, VERSION, Cvat, reef
from fetched_sources import image
from web_servers import serving

_ROOT = Path(__file__).parents[2]
_PYTHON = Path(os.environ.get("PELAGOS_ENVIRONMENTS", _ROOT / ".venvs")) / "cvat-sdk/bin/python"


@pytest.mark.skipif(not _PYTHON.exists(), reason="the environment cvat-sdk is not installed")
def test_the_real_client_understands_all_that_it_answers(tmp_path: Path) -> None:
    images = {f"{number}.png": image(number) for number in range(3)}
    tasks = {number: reef({f"{number}-{name}": content for name, content in images.items()}) for number in (1, 2, 3)}
    service = Cvat(tasks=tasks, projects={5: "survey"}, jobs={7: (1, 1, 2)}, prepares=2)
    for task in (tasks[2], tasks[3]):
        task.project, task.subset = 5, "train"
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
    with serving(service) as server:
        # Only the SDK uses the server's name for itself in requests.
        service.name = server.url
        command: list[str | Path] = [
            _PYTHON,
            _ROOT / "tests/cvat_sdk_program.py",
            server.url,
            TOKEN,
            "1",
            "5",
            "7",
            tmp_path,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert (told["version"], told["task"], told["size"], told["job"]) == (VERSION, "reef", 3, 2)
    assert told["frames"] == list(tasks[1].images)
    assert (told["labels"], told["shapes"], told["formats"]) == (["crab", "fish"], ["rectangle"] * 3, [FORMAT])
    assert (told["project"], told["tasks"], told["made"]) == ("survey", [2, 3], 4)
    assert (told["uploaded"], told["renamed"]) == ([["2.png", "1.png", "0.png"]] * 2, "renamed")
    assert (told["jobs"], told["requests"]) == ([[0, 0, "new"], [1, 1, "new"], [2, 2, "new"]], 1)
    assert told["drawn"] == ["auto", 1]
    assert told["kinds"] == [
        ["rectangle", 0, [1, 2, 3, 4]],
        ["rectangle", 30, [1, 2, 9, 4]],
        ["mask", 0, [1, 2, 1, 3, 4, 4, 5]],
    ]
    assert service.tasks[4].images == {f"{number}.png": images[f"{number}.png"] for number in (2, 1, 0)}
    assert 5 not in service.tasks
    with zipfile.ZipFile(tmp_path / "task.zip") as packed:
        assert packed.read("images/1-0.png") == images["0.png"]
        assert b'<box label="crab"' in packed.read("annotations.xml")
    with zipfile.ZipFile(tmp_path / "project.zip") as packed:
        assert len([name for name in packed.namelist() if name.startswith("images/train/")]) == 6
