"""The outcome that a pipeline run left in its report folder, parsed; see docs/design/0001-data-plane-contract.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Report:
    """At most one of ``result`` and ``failure`` is set; neither while the run is in progress, or when it crashed.

    ``doubt`` describes content that was found but is not trusted; empty when there is none.
    """

    result: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    doubt: str = ""
    retry_key: str | None = None
    """For a result from a record, the retry key that it was made under. None: that of the pipeline run."""


@dataclass(frozen=True)
class Recording:
    """Where a result goes on record (``path``, ``uri``), and whether it is there already.

    ``of`` has the fields of every record of the resource; ``newest`` is the path of a second copy, as the newest record.
    """

    path: str = ""
    uri: str = ""
    of: Mapping[str, Any] = field(default_factory=dict)
    is_kept: bool = False
    newest: str = ""
