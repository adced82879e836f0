#!/usr/bin/env bash
# Puts the programs prometheus and promtool from Debian's package into the folder $1, for the tests of rules and dashboards.
# The package is unpacked, not installed: no service starts, no user is created, and the machine is unchanged.
# On other systems, put both programs on PATH to have them linked.
set -euo pipefail
target=$(realpath -m "$1")
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
complete() { [ -x "$1/prometheus" ] && [ -x "$1/promtool" ]; }

complete "$target" && exit 0
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.prometheus.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"

if command -v apt-get >/dev/null; then
  echo "Fetching prometheus from Debian (19 MB)"
  fetch() { (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root prometheus >"$work/apt.log" 2>&1); }
  # A fresh machine has no package lists, and an old list names versions that no longer exist.
  fetch || { as_root apt-get update -qq; fetch; } || { cat "$work/apt.log" >&2; exit 1; }
  dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/prometheus ./usr/bin/promtool
  mv "$work/usr/bin/prometheus" "$work/usr/bin/promtool" "$work/bin"
else
  for program in prometheus promtool; do
    found=$(command -v "$program") || { echo "The tests need $program. Install Prometheus 2.42 or newer, or run them on Debian." >&2; exit 1; }
    ln -s "$found" "$work/bin/$program"
  done
fi
complete "$work/bin"
rm -rf "$target"
mv -T "$work/bin" "$target"
"$target/promtool" --version | head -n 1
