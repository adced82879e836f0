#!/usr/bin/env bash
# Draws the pictures of docs/images again, one after the other, from what runs here now. Where measuring takes hours, pictures are
# drawn from recorded figures if possible; `make sample-results` and `make bench` draw docs/images/samples and docs/images/scaling.png.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
tools/demo_picture.sh
tools/report_picture.sh
tools/dashboard_pictures.sh
"$environments/pipelines/bin/python" tools/honest_splits.py --write
git status --short docs/images
