#!/usr/bin/env bash
# Creates the environment with uv, which installs all others. Needs Python 3.11 and, where the
# distribution packages it separately, its venv module (installed here on Debian).
set -euo pipefail
target=$1
cd "$(dirname "$0")/.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

command -v "$PYTHON" >/dev/null || { echo "Pelagos needs Python 3.11 as '$PYTHON'. Install it (Debian: apt-get install python3.11), or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
  echo "Installing Debian's python3.11-venv"
  as_root apt-get update -qq && as_root apt-get install -qq -y --no-install-recommends python3.11-venv >/dev/null
fi
# Libraries that wheels link to and that Debian packages separately: for Triton's Python stub and OpenCV.
if command -v dpkg-query >/dev/null; then
  missing=()
  for package in libpython3.11 libgl1 libglib2.0-0 ca-certificates; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "Installing ${missing[*]} from Debian"
    as_root apt-get update -qq && as_root apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
  fi
fi
rm -rf "$target"
"$PYTHON" -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt 2>&1 | grep -v "is ignored: it is neither" || true
"$target/bin/uv" --version
