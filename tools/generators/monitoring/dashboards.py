"""The four dashboards. `make generate` writes them to manifests/dashboards.

Metrics come from the operator, from Triton (nv_*), and, where single resources are shown in detail, from kube-state-metrics.
"""

from __future__ import annotations

from generators.monitoring.data import DATA
from generators.monitoring.fleet import FLEET
from generators.monitoring.serving import SERVING
from generators.monitoring.training import TRAINING

DASHBOARDS = (FLEET, TRAINING, SERVING, DATA)
