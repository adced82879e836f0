"""What an annotation tool must offer to be given images with a model's suggestions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class ToolError(Exception):
    """The tool did not do what was asked; the message says why, in one line."""


@dataclass(frozen=True)
class Suggestion:
    """An image, and what a model finds in it.

    ``identity`` is made of the image's content, and so the same for the same image. ``found`` is the answer of the model in the
    service contract: task, width, height, and detections or classes, in pixels of the upright image. ``score``, from 0 to 1, is
    how sure the model is of it as a whole.
    """

    identity: str
    name: str
    content: bytes
    model: str
    found: Mapping[str, Any]
    score: float


class Project(Protocol):
    """A project on a server."""

    async def prepare(self, task: str, classes: Sequence[str]) -> None:
        """Make sure that it can take the suggestions of a task and its classes.

        Raises:
            ToolError: it is configured for something else.
        """

    async def known(self, identities: Iterable[str]) -> set[str]:
        """Those of the images that are there, with suggestions or annotations. Raises ToolError."""

    async def add(self, suggestion: Suggestion) -> None:
        """Add an image with its suggestions; one that is there without them gets these alone. Raises ToolError."""

    @property
    def address(self) -> str:
        """Of its page, for people."""


@dataclass(frozen=True)
class Tool:
    """A tool. ``keys`` are those that its Secret must have, and what stands in each; ``open`` takes the Secret's content."""

    name: str
    keys: Mapping[str, str]
    open: Callable[[Mapping[str, str]], AbstractAsyncContextManager[Project]]
