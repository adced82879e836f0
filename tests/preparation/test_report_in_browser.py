"""A report as people open it: Chromium shows all of it, and the report makes no requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import browser
import dataset_versions
import untrusted_text
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation.judging import making
from pelagos_pipelines.preparation.versions import Version

HOSTILE = "</title><script>document.title='taken'</script><img src=http://evil.example/x>" + untrusted_text.HOSTILE


@pytest.mark.skipif(not browser.CHROMIUM.exists(), reason="no root")
def test_a_report_is_shown_whole_and_asks_nobody_whatever_strangers_call_their_classes(tmp_path: Path) -> None:
    made = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    blob = next(iter(made.blobs.values()))
    images = [
        ImageRecord(f"{number}{HOSTILE}.png", 64, 48, HOSTILE, ("train", "validation", "test")[number % 3], None, boxes)
        for number in range(12)
        for boxes in [(Box(HOSTILE, 4, 5, 8, 8), Box("cod", 20, 5, 8 + number, 8))]
    ]
    version = Version(
        "1" * 64,
        tmp_path / "version",
        Collection(Task.DETECTION, ("cod", HOSTILE), tuple(images)),
        {image.path: blob for image in images},
    )
    page = making.make(version, {HOSTILE: 3}, [HOSTILE]).page

    became, picture, hosts = browser.shown(page, tmp_path)

    assert "<title>Dataset report</title>" in became
    assert became.rstrip().endswith("</html>")
    assert "Sizes and positions" in became
    assert "<script" not in became
    assert not [host for host in hosts if not host.endswith(browser.OWN)]
    with Image.open(picture) as seen:
        assert seen.size[0] == 1200
        colors = seen.convert("RGB").getcolors(1 << 24)
    assert colors is not None
    assert len(colors) > 50, "a page with figures, and none that could not be shown"
