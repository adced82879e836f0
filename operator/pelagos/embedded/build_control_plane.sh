#!/usr/bin/env bash
# Builds kube-apiserver from Debian's own `kubernetes` source package, for machines where neither the official envtest archive
# nor the Go modules can be reached. Called by pelagos.embedded.binaries; usable by hand:
#
#   build_control_plane.sh DESTINATION_FOLDER
#
# Leaves DESTINATION_FOLDER/kube-apiserver and a link to Debian's etcd; a broken build leaves no half program there.
# Lines that begin with "::" are progress for the caller.
set -euo pipefail

destination=$1
version=v1.20.2
work=$(mktemp -d "${TMPDIR:-/tmp}/pelagos-control-plane.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

echo ":: installing the Go compiler and etcd from Debian's packages"
export DEBIAN_FRONTEND=noninteractive
packages=(golang-go etcd-server rsync jq make golang-github-modern-go-reflect2-dev dpkg-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  as_root apt-get update -qq
  # The policy file keeps Debian from starting an etcd service of its own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod +x /usr/sbin/policy-rc.d
    remove_policy=1
  fi
  as_root apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
  [ -z "${remove_policy:-}" ] || as_root rm -f /usr/sbin/policy-rc.d
fi

echo ":: fetching Debian's source package kubernetes (34 MB)"
# An apt configuration of its own, derived from the machine's sources with deb-src in place of deb, so
# that nothing of the machine's own configuration changes.
mkdir -p "$work"/{apt/lists/partial,apt/cache/archives/partial,apt/parts,source}
sources="$work/apt/sources.list"
: >"$sources"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ -e "$file" ] && sed -n 's/^deb\(\s\)/deb-src\1/p' "$file" >>"$sources" || true
done
for file in /etc/apt/sources.list.d/*.sources; do
  [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/apt/parts/$(basename "$file")" || true
done
apt_options=(-o "Dir::Etc::sourcelist=$sources" -o "Dir::Etc::sourceparts=$work/apt/parts"
  -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Sandbox::User=root)
apt-get "${apt_options[@]}" update -qq 2>/dev/null || true
(cd "$work/source"; apt-get "${apt_options[@]}" source --download-only -qq kubernetes=1.20.5* >/dev/null 2>&1 ||
  apt-get "${apt_options[@]}" source --download-only -qq kubernetes >/dev/null)

echo ":: unpacking"
mkdir -p "$work/gopath/src/k8s.io/kubernetes"
tar -xf "$work"/source/kubernetes_*.orig.tar.gz -C "$work/gopath/src/k8s.io/kubernetes" --strip-components=1
cd "$work/gopath/src/k8s.io/kubernetes"
# The vendored reflect2 1.0.1 crashes the server at the first custom resource when built with Go >= 1.18.
# The old files go first: newer ones have other names and declare the same functions.
rm vendor/github.com/modern-go/reflect2/*.{go,s}
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} vendor/github.com/modern-go/reflect2/

echo ":: generating code (about 1 minute)"
export GOPATH="$work/gopath" GO111MODULE=off GOFLAGS="" CGO_ENABLED=0 GOCACHE="$work/gocache"
export KUBE_GIT_TREE_STATE=archive KUBE_GIT_VERSION=$version KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_COMMIT=debian
make generated_files >"$work/generate.log" 2>&1 || { tail -n 40 "$work/generate.log" >&2; exit 1; }

# The program tells its version from the one package, and answers requests with that of the other.
flags="-s -w"
for package in component-base/version client-go/pkg/version; do
  for value in gitVersion=$version gitMajor=1 gitMinor=20; do
    flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$package.$value"
  done
done
mkdir -p "$destination"
echo ":: compiling kube-apiserver (up to 3 minutes)"
go build -trimpath -ldflags "$flags" -o "$work/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
install -m 0755 "$work/kube-apiserver" "$destination/.kube-apiserver.new"
mv "$destination/.kube-apiserver.new" "$destination/kube-apiserver"
ln -sf "$(command -v etcd)" "$destination/etcd"
echo ":: done"
