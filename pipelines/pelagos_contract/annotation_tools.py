"""Models for the fields of ``spec.source`` that name servers of annotation tools."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.remote_sources import SecretRef, SourceUrl, secret

Number = Annotated[int, Field(ge=1, le=2**53)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=200)]
RoboflowFormat = Literal["Coco", "CocoSegmentation", "YoloV8", "YoloV8Obb"]


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


class BiigleSource(Strict):
    """A volume or a project of a BIIGLE server."""

    url: Annotated[SourceUrl, Field(description="Address of the server, such as https://biigle.de.")]
    volume: Annotated[Number | None, Field(description="Number of a volume of images.")] = None
    project: Annotated[Number | None, Field(description="Number of a project: all of its volumes of images.")] = None
    secret_ref: Annotated[SecretRef | None, secret("email and token (an API token of that account)")] = None


class RoboflowSource(Strict):
    """A version of a Roboflow project, which never changes."""

    url: Annotated[SourceUrl, Field(description="Address of the API.")] = "https://api.roboflow.com"
    workspace: Annotated[Slug, Field(description="Workspace, as addresses of Roboflow show it.")]
    project: Annotated[Slug, Field(description="Project, as addresses of Roboflow show it.")]
    version: Annotated[Number, Field(description="Number of the version.")]
    export: Annotated[
        RoboflowFormat, Field(description="Format in which Roboflow exports it; those with outlines keep them.")
    ] = "Coco"
    secret_ref: Annotated[SecretRef | None, secret("token (an API key of the workspace)")] = None


class LabelboxSource(Strict):
    """A project of Labelbox."""

    url: Annotated[SourceUrl, Field(description="Address of the API.")] = "https://api.labelbox.com"
    project: Annotated[Slug, Field(description="Identifier of the project, as its address shows it.")]
    secret_ref: Annotated[SecretRef | None, secret("token (an API key)")] = None
