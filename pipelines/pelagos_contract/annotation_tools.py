"""Servers of annotation tools, as specs name them: what stands in the fields of ``spec.source`` that are theirs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.remote_sources import SecretRef, SourceUrl, secret

Number = Annotated[int, Field(ge=1, le=2**53)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=200)]
RoboflowFormat = Literal["coco", "coco-segmentation", "yolov8", "yolov8-obb"]


class CvatSource(Strict):
    """A project, a task or a job on a CVAT server."""

    url: Annotated[SourceUrl, Field(description="Address of the server, such as https://app.cvat.ai.")]
    project: Annotated[Number | None, Field(description="Number of a project: all of its tasks.")] = None
    task: Annotated[Number | None, Field(description="Number of a task.")] = None
    job: Annotated[Number | None, Field(description="Number of a job: the images of this part of a task.")] = None
    secret_ref: Annotated[SecretRef | None, secret("token (a personal access token), or username and password")] = None


class LabelStudioSource(Strict):
    """A project on a Label Studio server."""

    url: Annotated[SourceUrl, Field(description="Address of the server, such as https://app.humansignal.com.")]
    project: Annotated[Number, Field(description="Number of the project, as its address shows it.")]
    secret_ref: Annotated[SecretRef | None, secret("token (a personal access token, or a legacy token)")] = None
