"""Writes the files generated from the API types: ``python -m generators.definitions [root]``, with tools/ on the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from generators import documents, examples
from generators.installation import generated, writing
from pelagos.api import crds, kinds
from pelagos.api.training_run import TrainingRunSpec
from pelagos.cli import demo
from pelagos.ports.serving import DesiredService
from pelagos_contract import extensions, history
from pelagos_contract.dataset import Recipe
from pelagos_contract.extensions import Plane

SUBJECTS = {"Dataset": Recipe, "TrainingRun": TrainingRunSpec, "ModelService": DesiredService}
"""Models whose fields and defaults are recorded, because digests depend on them."""


def rendered() -> dict[str, str]:
    """Content of every generated file by its path in the repository."""
    samples = {f"manifests/samples/{file.name}": file.read_text(encoding="utf-8") for file in demo.SAMPLES.iterdir()}
    pages = {"docs/reference.md": documents.reference_page(), "docs/reasons.md": documents.reasons_page()}
    installation = {f"manifests/{name}": text for name, text in generated.files().items()}
    return (
        pages
        | samples
        | installation
        | {"pipelines/pelagos_contract/history.json": history.updated(SUBJECTS)}
        | {
            f"manifests/crds/{kind.crd}.yaml": writing.HEADER
            + yaml.safe_dump(crds.render(kind), sort_keys=False, width=120, allow_unicode=True)
            for kind in kinds.KINDS
        }
    )


def main() -> None:
    """Write all files."""
    extensions.load(os.environ.get(extensions.VARIABLE, ""), Plane.CONTROL)
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, text in (rendered() | examples.pages()).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
