"""What the steps of a training share: their parameters, their state in the workspace, and how a refusal is reported.

Used by train, evaluate and export. It must import fast: a step that has nothing to do returns before a framework loads.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos_pipelines import contract
from pelagos_pipelines.contract import Reason, RefusedError, TrainingRequest, write_atomically


@dataclass(frozen=True)
class Run:
    """The parameters of a step, parsed."""

    request: TrainingRequest
    data_root: Path
    store: Path
    report: Path
    workspace: Path
    tracking_uri: str
    tracking_run: str

    def finished(self, step: str) -> bool:
        """Whether the step has left its state."""
        return self._state(step).exists()

    def read(self, step: str) -> Any:
        """The state that a finished step left."""
        return json.loads(self._state(step).read_text(encoding="utf-8"))

    def finish(self, step: str, state: dict[str, Any]) -> None:
        """Leave the state of the step, which marks it as finished."""
        write_atomically(self._state(step), json.dumps(state, indent=2, ensure_ascii=False) + "\n")

    @property
    def checkpoints(self) -> Path:
        """The folder of a family: checkpoints, and ``best.pt`` after training."""
        return self.workspace / "checkpoints"

    @property
    def history(self) -> Path:
        """Metrics by epoch."""
        return self.workspace / "history.json"

    @property
    def figures(self) -> Path:
        """Pictures for the run's artifacts."""
        return self.workspace / "figures"

    def _state(self, step: str) -> Path:
        return self.workspace / f"{step}.json"


def parse(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> Run:
    """The run; the environment is set up for the frameworks that the step will import."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = Path(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    # A pod's user has no home to write to, and two runs must not share settings.
    os.environ["YOLO_CONFIG_DIR"] = str(folder / "ultralytics")
    # Threads of torch wait for each other by spinning, which on a busy machine makes a step take ten times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    parsed = TrainingRequest.model_validate_json(request)
    return Run(parsed, Path(data_root), Path(store), Path(report), folder, tracking_uri, tracking_run)


@contextmanager
def reporting(report: str) -> Iterator[None]:
    """Write ``failure.json`` for a refusal and pass it on. Anything else passes without: it is a bug or an outage."""
    (Path(report) / "failure.json").unlink(missing_ok=True)  # of an earlier attempt
    try:
        yield
    except RefusedError as refused:
        contract.report_failure(Path(report), refused.failure)
        raise
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        full = RefusedError(
            Reason.DISK_FULL,
            f"no space is left to write {error.filename or 'a result'}; free space on the volume, then retry",
        )
        contract.report_failure(Path(report), full.failure)
        raise full from error
