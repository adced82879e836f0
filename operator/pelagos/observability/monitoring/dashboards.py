"""The four dashboards. `make generate` writes them to manifests/dashboards.

Metrics come from the operator, from Triton (nv_*), and, where single resources are shown in detail, from kube-state-metrics.
"""

from __future__ import annotations

from pelagos.observability.monitoring.data import DATA
from pelagos.observability.monitoring.fleet import FLEET
from pelagos.observability.monitoring.serving import SERVING
from pelagos.observability.monitoring.training import TRAINING

DASHBOARDS = (FLEET, TRAINING, SERVING, DATA)
