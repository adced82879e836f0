#!/usr/bin/env bash
# Links the browser Chromium as $1/chromium, for the test that opens a report. Installs Debian's package if there is none.
# Without a browser on PATH and without root, no link is created and that test is skipped.
set -euo pipefail
target=$(realpath -m "$1")
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

[ -x "$target/chromium" ] && exit 0
if ! found >/dev/null && command -v apt-get >/dev/null && as_root true 2>/dev/null; then
  echo "Installing chromium from Debian (124 MB)"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  install() { DEBIAN_FRONTEND=noninteractive as_root apt-get install -qq -y --no-install-recommends chromium >"$log" 2>&1; }
  # A fresh machine has no package lists, and an old list names versions that no longer exist.
  install || { as_root apt-get update -qq; install; } || { cat "$log" >&2; exit 1; }
fi
program=$(found) || { echo "There is no Chromium, and no root to install it: the test that opens a report will be skipped." >&2; exit 0; }
mkdir -p "$target"
ln -sf "$program" "$target/chromium"
