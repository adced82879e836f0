#!/usr/bin/env bash
# Draws docs/images/training-report.png from a real training on the sample images.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
"$environments/pipelines/bin/python" tools/report_picture.py "${PELAGOS_SAMPLES:-.pelagos/data/samples}" "$environments/chromium/chromium" docs/images/training-report.png
