"""Takes the pictures of the hub for docs/marketplace.md from a running installation, such as that of `pelagos demo --keep`.

Run with the interpreter of the environment ``dev``: hub_pictures.py SAMPLES CHROMIUM FOLDER, with its PELAGOS_HOME set.
The samples' service gets two of their frames as pictures on its card; then a browser signs in with the one-time link,
opens the catalogue and the model, tries it on one of the frames, and stops.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SERVICE, PICTURES = "phytoplankton-detector", "phytoplankton-pictures"
_WIDE = {"width": 1280, "height": 900}
_TALL = {"width": 1280, "height": 1440}
"""Viewport that fits the answer below the image."""
_SECONDS = 60_000


def main() -> None:
    """Write hub-catalogue.png, hub-model.png and hub-trial.png."""
    samples, chromium, folder = map(Path, sys.argv[1:])
    frames = sorted((samples / "phytoplankton-frames" / "images").glob("*.jpg"))[:2]
    _publish(frames)
    told = json.loads(_run("pelagos", "hub", "-o", "json"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page(viewport=_WIDE)  # type: ignore[arg-type]  # a dict of the right shape
        page.set_default_timeout(_SECONDS)
        page.goto(told["link"])
        if page.get_by_role("button").filter(has_text="Sign in").count():
            page.get_by_role("button").filter(has_text="Sign in").click()
        page.goto(told["address"])
        page.get_by_role("link", name="Phytoplankton in FlowCam frames").wait_for()
        _picture(page, folder / "hub-catalogue.png")
        page.get_by_role("link", name="Phytoplankton in FlowCam frames").click()
        _picture(page, folder / "hub-model.png")
        page.get_by_role("button", name="Try", exact=True).click()
        page.locator("[data-drop]").wait_for()
        page.set_viewport_size(_TALL)  # type: ignore[arg-type]
        page.locator(".sample").first.click()
        page.locator("[data-answer]").wait_for()
        page.mouse.move(0, 0)
        _picture(page, folder / "hub-trial.png")
        page.get_by_role("button", name="Stop").click()
        browser.close()


def _publish(frames: list[Path]) -> None:
    """Add the frames to the service's card from a ConfigMap, as its owners would."""
    files = [f"--from-file={frame.name}={frame}" for frame in frames]
    made = _run("kubectl", "create", "configmap", PICTURES, *files, "--dry-run=client", "-o", "json")
    subprocess.run(["kubectl", "apply", "-f", "-"], input=made, text=True, check=True)
    pictures = [
        {
            "configMap": PICTURES,
            "key": frame.name,
            "description": f"Phytoplankton in {frame.stem} of the samples",
        }
        for frame in frames
    ]
    patch = json.dumps({"spec": {"card": {"pictures": pictures}}})
    _run("kubectl", "patch", "modelservice", SERVICE, "--type", "merge", "-p", patch)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _picture(page: Page, to: Path) -> None:
    page.wait_for_load_state("networkidle")
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # Fewer colours need a quarter of the bytes, without a visible difference.
    taken.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).save(to, optimize=True)


if __name__ == "__main__":
    main()
