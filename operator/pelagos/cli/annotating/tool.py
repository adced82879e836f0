"""What an annotation tool must offer to be given images with a model's suggestions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pelagos_contract.suggestions import Suggested


class ToolError(Exception):
    """The tool did not do what was asked; the message says why, in one line."""


@dataclass(frozen=True)
class Suggestion:
    """An image, and what a model finds in it.

    ``identity`` is made of the image's content, and so the same for the same image; ``read`` gives that content. ``found`` is the
    answer of the model in the service contract: task, width, height, and detections or classes, in pixels of the upright image.
    ``score``, from 0 to 1, is how sure the model is of it as a whole.
    """

    identity: str
    name: str
    read: Callable[[], Awaitable[bytes]]
    model: str
    found: Mapping[str, Any]
    score: float


class Records(Protocol):
    """Suggestions in the store, for tools that do not keep them. Both methods may raise ToolError."""

    @property
    def store(self) -> str:
        """The name of the store that they are kept in."""

    async def keep(self, suggested: Suggested) -> None:
        """Have it in the store, by its digest."""

    async def find(self, store: str, digest: str) -> Suggested | None:
        """One of this or another store of the namespace; None when it is not there, or damaged."""


class Project(Protocol):
    """A project on a server. ``left_out`` counts what it could not be given of suggestions, by what that is."""

    left_out: Counter[str]

    async def prepare(self, task: str, classes: Sequence[str]) -> None:
        """Make sure that it can take the suggestions of a task and its classes.

        Raises:
            ToolError: it is configured for something else.
        """

    async def known(self, identities: Iterable[str]) -> set[str]:
        """Those of the images that are there, with suggestions or annotations. Raises ToolError.

        What a push left half done is completed first, where the tool allows that.
        """

    async def add(self, suggestions: Sequence[Suggestion], added: Callable[[int], None]) -> None:
        """Add images with their suggestions, in this order; one that is there without them gets these alone.

        ``added`` is called with a number of images as soon as they are there. Raises ToolError.
        """

    @property
    def address(self) -> str:
        """Of its page, for people."""


@dataclass(frozen=True)
class Tool:
    """A tool. ``keys`` are those that its Secret must have, and what stands in each; ``open`` takes the Secret's content."""

    name: str
    keys: Mapping[str, str]
    open: Callable[[Mapping[str, str], Records], AbstractAsyncContextManager[Project]]
    choices: Sequence[tuple[str, Sequence[Sequence[str]]]] = ()
    """What is needed in words, and the sets of keys of which one says it."""
