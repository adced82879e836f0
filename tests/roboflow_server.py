"""Roboflow's API for exports of versions, as the client roboflow 1.7.3 calls it, and the exports themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from fetched_sources import zipped
from web_servers import Reply, Request

KEY = "reef-key"


@dataclass
class Roboflow:
    """A workspace ``reef`` with version 3 of the project ``dives``. ``name`` is the address of its archives."""

    images: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    prepares: int = 1
    lost: set[str] = field(default_factory=set)

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path == "/storage/export.zip":
            # Like real signed addresses, it refuses requests that carry a second login.
            return Reply(b"", 400) if "api_key" in request.query else Reply(self.exported())
        if request.query.get("api_key") != KEY:
            return Reply({"error": {"message": "This API key does not exist (or has been revoked)."}}, 401)
        if request.path == "/reef/dives/3":
            version = {
                "id": "reef/dives/3",
                "name": "dives",
                "version": 3,
                "images": len(self.images),
                "created": 1780000000.5,
            }
            return Reply({"workspace": {"url": "reef"}, "version": version | {"splits": {}, "exports": []}})
        if request.path == "/reef/dives/3/coco":
            self.prepares -= 1
            if self.prepares >= 0:
                return Reply({"progress": 0.4}, 202)
            link = f"{self.name}/storage/export.zip?signature=secret"
            return Reply({"export": {"format": "coco", "link": link, "size": 1.5}, "version": {"id": "reef/dives/3"}})
        return Reply({"error": {"message": "Unsupported request"}}, 404)

    def exported(self) -> bytes:
        """A zip in the format coco, with everything in ``train``."""
        files = {f"train/{name}": content for name, content in self.images.items() if name not in self.lost}
        images = [{"id": place, "file_name": name, "width": 40, "height": 30} for place, name in enumerate(self.images)]
        boxes = [
            {
                "id": place,
                "image_id": place,
                "category_id": 1 + place % 2,
                "bbox": [2, 3, 18, 22],
                "area": 396,
                "iscrowd": 0,
            }
            for place in range(len(images))
        ]
        names = [{"id": 0, "name": "animals", "supercategory": "none"}]
        names += [
            {"id": number, "name": name, "supercategory": "animals"} for number, name in ((1, "crab"), (2, "fish"))
        ]
        document = {"images": images, "annotations": boxes, "categories": names}
        return zipped(
            files | {"train/_annotations.coco.json": json.dumps(document).encode(), "README.roboflow.txt": b"reef"}
        )
