"""Names of metrics: ``<split>/<metric>/<class>`` with characters that MLflow accepts, one name per class."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 100


def metric_names(labels: Sequence[str]) -> list[str]:
    """A distinct name for every class: characters that a metric name cannot hold become underscores."""
    names: list[str] = []
    for index, label in enumerate(labels):
        # A leading dot or a slash would make it a path; the server refuses those.
        name = re.sub(r"[^\w.\- ]", "_", label).strip(" .")[:LONGEST] or "_"
        names.append(f"{name}-{index}" if name in names or not label.strip() else name)
    return names
