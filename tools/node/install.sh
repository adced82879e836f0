#!/usr/bin/env bash
# Installs what the tests' Kubernetes node is made of: Debian's container engine, Kubernetes built from Debian's source
# package, and a small Debian as the images' base. Kept below ~/.cache/pelagos; nothing happens a second time, and nothing
# where no node can run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos
if ! reason=$("$here/supported.sh"); then
  echo "No Kubernetes node for tests on this machine: $reason"
  exit 0
fi
mkdir -p "$cache/control-plane" "$cache/cluster"

# The same lock as `pelagos control-plane install`, which builds into the same folder.
exec 9>"$cache/control-plane/lock"
flock 9

export DEBIAN_FRONTEND=noninteractive
packages=(docker.io iptables iproute2 dnsmasq-base debootstrap jq openssl socat conntrack util-linux)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  echo "Installing ${missing[*]} from Debian"
  apt-get update -qq
  # Keeps Debian from starting a container engine of the machine's own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

programs=()
for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  [ -x "$cache/control-plane/v1.20.2-debian/$program" ] || programs+=("$program")
done
if [ "${#programs[@]}" -gt 0 ]; then
  echo "Building ${programs[*]} from Debian's source package; this takes up to 15 minutes, once"
  bash "$here/../../operator/pelagos/embedded/build_control_plane.sh" "$cache/control-plane/v1.20.2-debian" "${programs[@]}" |
    sed 's/^::/ /'
fi
"$here/base_image.sh" "$cache/cluster/base.tar"
