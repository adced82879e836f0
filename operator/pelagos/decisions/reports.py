"""The outcome that a pipeline run left in its report folder, parsed; see docs/design/0001-data-plane-contract.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Report:
    """At most one of ``result`` and ``failure`` is set; neither while the run goes on, or when it broke.

    ``doubt`` says what is there and is not believed.
    """

    result: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    doubt: str = ""
    retry_key: str | None = None
    """Of a result from a record: what it answered to. None: what the pipeline run does."""


@dataclass(frozen=True)
class Recording:
    """Where a result is put on record, what every record of the resource says, and whether this result is on record already.

    ``newest`` is where it is put as the newest one, too.
    """

    path: str = ""
    uri: str = ""
    of: Mapping[str, Any] = field(default_factory=dict)
    is_kept: bool = False
    newest: str = ""
