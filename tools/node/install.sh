#!/usr/bin/env bash
# Installs the parts of the tests' Kubernetes node: Kubernetes, etcd, containerd and network plug-ins built from their released
# Go modules, Debian's runc and image builder, and a small Debian as the images' base. Everything is kept in ~/.cache/pelagos. A
# second run does nothing, and neither does a run on a machine that cannot have a node.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos
if ! reason=$("$here/supported.sh"); then
  echo "No Kubernetes node for tests on this machine: $reason"
  exit 0
fi
mkdir -p "$cache/cluster"
# On a full disk, tests fail anywhere, each with another error.
for folder in "$cache" "${TMPDIR:-/tmp}"; do
  free=$(($(df --output=avail --block-size=1M "$folder" | tail -1)))
  [ "$free" -ge 6144 ] || { echo "The tests' Kubernetes node needs 6 GiB in $folder, where $free MiB are free: make room there" >&2; exit 1; }
done

# One installation at a time.
exec 9>"$cache/cluster/lock"
flock 9

export DEBIAN_FRONTEND=noninteractive
packages=(docker.io runc iptables iproute2 dnsmasq-base debootstrap openssl util-linux)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  echo "Installing ${missing[*]} from Debian"
  apt-get update -qq
  # Keeps Debian from starting a container engine for the machine itself.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

# Each line of the file: a folder with a Go module, and the programs to build from it. Programs in later.txt are built during the
# test run, when the few tests that need them wait for it (tests/cluster/harness/later.py).
root=$here/../..
while read -r folder programs; do
  # shellcheck disable=SC2086 # several words
  nice "$root/operator/pelagos/embedded/upstream/build.sh" "$root/$folder" $programs </dev/null | sed 's/^::/ /'
done <"$here/programs.txt"
"$here/base_image.sh" "$cache/cluster/base.tar"
