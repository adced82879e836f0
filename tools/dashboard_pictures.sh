#!/usr/bin/env bash
# Draws docs/images/dashboards/*.png from what a real Prometheus scrapes while tests/monitoring/test_incidents.py causes incidents.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
data=$(mktemp)
trap 'rm -f "$data"' EXIT
PELAGOS_DASHBOARD_DATA=$data "$environments/dev/bin/python" -m pytest -q --no-header --show-capture=no tests/monitoring/test_incidents.py
"$environments/pipelines/bin/python" tools/dashboard_pictures.py "$data" docs/images/dashboards
