#!/usr/bin/env bash
# Draws docs/images/demo.png, the output of `pelagos demo` in a terminal, and docs/images/prediction.png, an image with its model's
# detections, from a run of the demo in a home of its own. Takes two to eight minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
samples=$(realpath "${PELAGOS_SAMPLES:-.pelagos/data/samples}")
pelagos=$environments/control-plane/bin/pelagos
folder=$(mktemp -d)
export PELAGOS_HOME=$folder/pelagos PELAGOS_ENVIRONMENTS=$environments
# The demo stops what it started, except when it is interrupted.
trap '"$pelagos" down >/dev/null 2>&1; rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
install -d -m 0700 "$PELAGOS_HOME" "$PELAGOS_HOME/data"
cp -r "$samples" "$PELAGOS_HOME/data/samples"
# Record a terminal of 110 columns, with colours and frames as people see them.
script --quiet --return --command "stty cols 110 rows 60; '$pelagos' demo --samples ${RESOURCES:-manifests/samples}" "$folder/session"
"$environments/control-plane/bin/python" tools/demo_picture.py "$folder/session" "$environments/chromium/chromium" docs/images/demo.png
cp "$PELAGOS_HOME/demo/prediction.png" docs/images/prediction.png
