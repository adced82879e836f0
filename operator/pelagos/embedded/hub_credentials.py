"""The key that the hub and the operator share on one machine, with which the hub signs the Trials that it creates.

It is kept apart from the operator's own keys: every key among those is accepted for seals.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pelagos_contract import disk

if TYPE_CHECKING:
    from pelagos.embedded.layout import Layout

VARIABLE = "PELAGOS_HUB_SIGNING_KEY_FILE"
"""The setting, of both the operator and the hub, that names the key file."""
_BYTES = 32


def prepare(layout: Layout) -> None:
    """Create the key unless a complete one exists. Raises OSError."""
    folder = layout.hub_credentials
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "signing-key"
    try:
        is_whole = key.stat().st_size >= _BYTES
    except FileNotFoundError:
        is_whole = False
    if not is_whole:
        disk.write_atomically(key, os.urandom(_BYTES), mode=disk.PRIVATE)
