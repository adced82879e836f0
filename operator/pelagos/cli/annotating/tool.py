"""The interface of an annotation tool that accepts images with a model's suggestions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pelagos_contract.suggestions import Suggested


class ToolError(Exception):
    """The tool refused or failed a request; the message says why, in one line."""


@dataclass(frozen=True)
class Suggestion:
    """An image, and a model's answer for it.

    ``identity`` is derived from the image's content, so it is the same for equal images; ``read`` returns that content. ``found``
    is the model's answer in the service contract: task, width, height, and detections or classes, in pixels of the upright image.
    ``score``, from 0 to 1, is the model's confidence in the answer as a whole.
    """

    identity: str
    name: str
    read: Callable[[], Awaitable[bytes]]
    model: str
    found: Mapping[str, Any]
    score: float


class Records(Protocol):
    """Suggestions kept in the store, for tools that do not keep them. Both methods may raise ToolError."""

    @property
    def store(self) -> str:
        """The name of the store that keeps them."""

    async def keep(self, suggested: Suggested) -> None:
        """Keep a suggestion in the store, by its digest."""

    async def find(self, store: str, digest: str) -> Suggested | None:
        """A suggestion from this or another store of the namespace; None when it is missing or damaged."""


class Project(Protocol):
    """A project on a server. ``left_out`` counts parts of suggestions that it cannot hold, by kind."""

    left_out: Counter[str]

    async def prepare(self, task: str, classes: Sequence[str]) -> None:
        """Make sure that the project can hold the suggestions of a task and its classes.

        Raises:
            ToolError: it is configured for something else.
        """

    async def known(self, identities: Iterable[str]) -> set[str]:
        """The images that the project already has, with suggestions or annotations. Raises ToolError.

        An interrupted push is completed first, where the tool allows that.
        """

    async def add(self, suggestions: Sequence[Suggestion], added: Callable[[int], None]) -> None:
        """Add images with their suggestions, in this order; an existing image without suggestions only gets those.

        ``added`` is called with the number of images after each batch. Raises ToolError.
        """

    @property
    def address(self) -> str:
        """The address of the project's page, for people."""


@dataclass(frozen=True)
class Tool:
    """A tool. ``keys`` are the keys that its Secret must have, with a description each; ``open`` takes the Secret's content."""

    name: str
    keys: Mapping[str, str]
    open: Callable[[Mapping[str, str], Records], AbstractAsyncContextManager[Project]]
    choices: Sequence[tuple[str, Sequence[Sequence[str]]]] = ()
    """Alternatives: a description of what is needed, and the sets of keys of which one must be present."""
