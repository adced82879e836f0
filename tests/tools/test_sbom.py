"""The bill of materials of an image names what its lock names."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("image", "lock"), [("serving", "triton-gpu"), ("serving-cpu", "triton"), ("deepaas", "deepaas")]
)
def test_every_locked_package_is_in_the_bill_with_its_version_and_hash(image: str, lock: str, tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools" / "sbom.sh", tmp_path, image], check=True, capture_output=True)
    (file,) = tmp_path.iterdir()
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "pelagos")
    locked = re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
    assert sorted((part["name"], part["version"]) for part in bill["components"]) == sorted(locked)
    for part in bill["components"]:
        assert any(reference["hashes"] for reference in part["externalReferences"])
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
