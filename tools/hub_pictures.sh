#!/usr/bin/env bash
# Draws pages of the hub into the folder $1 (build/hub), from the installation in PELAGOS_HOME, which `make demo KEEP=1` leaves.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
target=${1:-build/hub}
mkdir -p "$target"
export PELAGOS_HOME=${PELAGOS_HOME:-$PWD/.pelagos}
export PATH=$environments/control-plane/bin:$PATH KUBECONFIG=$PELAGOS_HOME/kubeconfig
"$environments/dev/bin/python" tools/hub_pictures.py "${PELAGOS_SAMPLES:-.pelagos/data/samples}" "$environments/chromium/chromium" "$target"
