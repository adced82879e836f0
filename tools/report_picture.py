"""Draws docs/images/training-report.png: the top of the report of a real training on the sample images, as Chromium shows it.

Arguments: the folder of the samples, Chromium, and the picture. tools/report_picture.sh runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pelagos_contract.model_card import REPORT, folder_of
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.steps.stages import STAGES, perform

WIDTH, HEIGHT = 1040, 1180
SAID = {
    "resource": "default/phytoplankton-classifier",
    "card": {"title": "Phytoplankton of the North Sea", "summary": "Names what a FlowCam has photographed."},
    "dataset": {"title": "FlowCam images of phytoplankton", "creators": ["VLIZ"], "license": "CC-BY-4.0"},
}


def main(samples: Path, chromium: Path, picture: Path) -> None:
    """Prepare, train, evaluate and export; then take a picture of the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").symlink_to(samples)
        asked = {
            "source": {"volume": {"path": "phytoplankton-crops"}},
            "format": "ImageFolder",
            "task": "Classification",
        }
        asked |= {"split": {"policy": "Stratified", "seed": 42}}
        prepare(json.dumps(asked), str(folder / "data"), str(folder / "versions"), str(folder / "prepared"))
        version = json.loads((folder / "prepared/result.json").read_bytes())
        request = {
            "dataset": {"name": "phytoplankton-crops", "version": version["version"], "uri": version["uri"]},
            "task": "Classification",
            "model": {"architecture": "mobilenet_v3_small"},
            "hyperparameters": {"epochs": 30, "imageSize": 96, "batchSize": 16},
            "earlyStopping": {"patience": 10},
            "about": SAID,
        }
        places = [str(folder / part) for part in ("data", "models", "report", "workspace")]
        perform(list(STAGES), json.dumps(request), *places, "", "")
        result = json.loads((folder / "report/result.json").read_bytes())
        page = Path(folder_of(result["model"]["uri"])) / REPORT
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        shot = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture.resolve()}", page.as_uri()]
        subprocess.run([chromium, *options, *shot], check=True, timeout=120)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
