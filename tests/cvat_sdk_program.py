"""Run by tests/sources/test_cvat_server.py in the environment of the real SDK: calls everything that the fake server offers.

cvat_sdk_program.py URL TOKEN TASK PROJECT JOB FOLDER

Writes the answers to standard output as JSON. The SDK's models refuse answers that CVAT does not give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cvat_sdk import make_client
from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction
from cvat_sdk.core.uploading import DataUploader
from cvat_sdk.models import (
    LabeledImageRequest,
    LabeledShapeRequest,
    PatchedLabeledDataRequest,
    PatchedTaskWriteRequest,
    TaskWriteRequest,
)


def main(url: str, token: str, numbers: list[int], folder: Path) -> None:
    """Call everything."""
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
        made = client.tasks.create(TaskWriteRequest(name="pushed", labels=[{"name": "crab"}], segment_size=1))
        images = sorted(folder.glob("*.png"), reverse=True)
        order = {"image_quality": 95, "sorting_method": "predefined"}
        made.upload_data(images, params=order)
        # Files larger than one request are sent by the resumable upload protocol.
        other = client.tasks.create(TaskWriteRequest(name="pushed too"))
        address = f"{url}/api/tasks/{other.id}/data/"
        answer = DataUploader(client, max_request_size=1).upload_files(address, images, **order)
        client.wait_for_completion(json.loads(answer.data)["rq_id"], status_check_period=0)
        shape = LabeledShapeRequest(type="rectangle", frame=0, label_id=1, points=[1.0, 2.0, 3.0, 4.0], source="auto")
        turned = LabeledShapeRequest(
            type="rectangle", frame=1, label_id=1, points=[1.0, 2.0, 9.0, 4.0], rotation=30.0, source="auto"
        )
        mask = LabeledShapeRequest(type="mask", frame=2, label_id=1, points=[1, 2, 1, 3, 4, 4, 5], source="auto")
        tag = LabeledImageRequest(frame=1, label_id=1, source="auto")
        made.update_annotations(
            PatchedLabeledDataRequest(shapes=[shape, turned, mask], tags=[tag]), action=AnnotationUpdateAction.CREATE
        )
        made.update(PatchedTaskWriteRequest(name="renamed"))
        made.fetch()
        drawn = made.get_annotations()
        told |= {
            "made": made.id,
            "renamed": made.name,
            "uploaded": [[each.name for each in task.get_frames_info()] for task in (made, other)],
            "jobs": [[each.start_frame, each.stop_frame, str(each.state)] for each in made.get_jobs()],
            "drawn": [str(drawn.shapes[0].source), drawn.tags[0].frame],
            "kinds": [[each.type.value, each.rotation, each.points] for each in drawn.shapes],
            "requests": client.api_client.requests_api.list(task_id=made.id, action="create")[0].count,
        }
        other.remove()
        print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [*map(int, sys.argv[3:6])], Path(sys.argv[6]))
