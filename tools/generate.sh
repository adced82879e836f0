#!/usr/bin/env bash
# Regenerates everything that is generated and committed: compiled pipelines, CRDs, RBAC, reference pages, alerts, dashboards.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
"$environments/pipelines/bin/python" -m pelagos_pipelines.flows
# Last, because the Helm chart contains copies of the others.
PYTHONPATH=tools "$environments/control-plane/bin/python" -m generators.monitoring.generate
PYTHONPATH=tools "$environments/control-plane/bin/python" -m generators.definitions
