#!/usr/bin/env bash
# Builds the documentation site from $2 (docs) into the folder $1 (build/site): static files that load nothing from elsewhere.
# A broken link, a link to a missing section, and a page missing from all lists are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
target=${1:-build/site}
"$environments/site/bin/sphinx-build" --quiet --fail-on-warning --builder html --doctree-dir "$target.cache" \
  --conf-dir tools/documentation "${2:-docs}" "$target"
echo "Open $(realpath "$target")/index.html"
