#!/usr/bin/env bash
# Builds the documentation site from $2 (docs) into the folder $1 (build/site): files that need no server and ask nobody for anything.
# A broken link, a section that is not there, and a page that no list names are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
target=${1:-build/site}
"$environments/site/bin/sphinx-build" --quiet --fail-on-warning --builder html --doctree-dir "$target.cache" \
  --conf-dir tools/documentation "${2:-docs}" "$target"
echo "Open $(realpath "$target")/index.html"
