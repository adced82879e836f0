"""What tests/sources/test_cvat_server.py runs in the environment of the real SDK: it asks a server for all that the fake one has.

    cvat_sdk_program.py URL TOKEN TASK PROJECT JOB FOLDER

Writes what it was told to standard output, as JSON. The SDK's models refuse answers that CVAT does not give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cvat_sdk import make_client
from cvat_sdk.models import LabeledShapeRequest, PatchedLabeledDataRequest, TaskWriteRequest


def main(url: str, token: str, numbers: list[int], folder: Path) -> None:
    """Ask for everything."""
    task, project, job = numbers
    with make_client(url, access_token=token) as client:
        client.config.status_check_period = 0
        found = client.tasks.retrieve(task)
        told = {
            "version": str(client.get_server_version()),
            "task": found.name,
            "size": found.size,
            "frames": [each.name for each in found.get_frames_info()],
            "labels": [each.name for each in found.get_labels()],
            "shapes": [each.type.value for each in found.get_annotations().shapes],
            "project": client.projects.retrieve(project).name,
            "tasks": [each.id for each in client.projects.retrieve(project).get_tasks()],
            "job": client.jobs.retrieve(job).frame_count,
            "formats": [each.name for each in client.api_client.server_api.retrieve_annotation_formats()[0].exporters],
        }
        for kind, thing in (("task", found), ("project", client.projects.retrieve(project))):
            thing.export_dataset("CVAT for images 1.1", folder / f"{kind}.zip", include_images=True)
        made = client.tasks.create(TaskWriteRequest(name="pushed", labels=[{"name": "crab"}]))
        shape = LabeledShapeRequest(type="rectangle", frame=0, label_id=1, points=[1.0, 2.0, 3.0, 4.0])
        found.update_annotations(PatchedLabeledDataRequest(shapes=[shape]))
        print(json.dumps(told | {"made": made.id}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [*map(int, sys.argv[3:6])], Path(sys.argv[6]))
