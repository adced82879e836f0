"""What the hub and the operator share on one machine: the key by which the hub vouches for the Trials that it makes.

Apart from the operator's own keys: whatever lies among those is believed as a seal.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pelagos_contract import disk

if TYPE_CHECKING:
    from pelagos.embedded.layout import Layout

VARIABLE = "PELAGOS_HUB_SIGNING_KEY_FILE"
"""Of the operator and of the hub."""
_BYTES = 32


def prepare(layout: Layout) -> None:
    """Make the key unless there is a whole one. Raises OSError."""
    folder = layout.hub_credentials
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "signing-key"
    try:
        is_whole = key.stat().st_size >= _BYTES
    except FileNotFoundError:
        is_whole = False
    if not is_whole:
        disk.write_atomically(key, os.urandom(_BYTES), mode=disk.PRIVATE)
