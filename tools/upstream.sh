#!/usr/bin/env bash
# Builds programs of other projects for tests, from the modules of Go that these projects release: tools/upstream/PROGRAM names and
# pins them. Kept below ~/.cache/pelagos/upstream; nothing happens a second time.
#   upstream.sh PROGRAM...
#   upstream.sh --path PROGRAM      only prints where it is, or will be
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos/upstream

# Program -> the module whose version it has, the package of its main function
declare -A modules=([kstatus]=sigs.k8s.io/cli-utils)
declare -A packages=([kstatus]=.)

version_of() { awk -v module="${modules[$1]}" '$1 == "require" { $1 = $2; $2 = $3 } $1 == module { print substr($2, 2); exit }' "$here/upstream/$1/go.mod"; }

# What it is built from has a part in its name, so that work folders in different states share a cache.
path_of() {
  local source=$here/upstream/$1
  [ -n "${modules[$1]:-}" ] || { echo "There is no program $1; there are: ${!modules[*]}." >&2; return 2; }
  echo "$cache/$1/$(version_of "$1")-$(LC_ALL=C; cat "$source"/go.* "$source"/*.go | sha256sum | head -c 12)/$1"
}

build() {
  local name=$1 target=$2 version began=$SECONDS
  version=$(version_of "$name")
  command -v go >/dev/null || { echo "$name is built from a module of Go, which is not installed: put Go 1.26 or later on PATH." >&2; return 1; }
  echo "Building $name $version from its module (once; a minute of one processor)"
  mkdir -p "${target%/*}"
  (cd "$here/upstream/$name" && GO111MODULE=on GOFLAGS=-mod=readonly CGO_ENABLED=0 nice -n 10 go build -trimpath -buildvcs=false \
    -ldflags "-s -w" -o "$target.$$" "${packages[$name]}") ||
    { rm -f "$target.$$"; echo "$name could not be built: Go asks the module proxy of \`go env GOPROXY\`." >&2; return 1; }
  mv "$target.$$" "$target"
  echo "$name $version is in $target ($((SECONDS - began)) s)"
}

if [ "${1:-}" = --path ]; then
  path_of "$2"
  exit
fi
mkdir -p "$cache"
exec 9>"$cache/.tools.lock"
flock 9
for name in "$@"; do
  target=$(path_of "$name")
  [ -x "$target" ] || build "$name" "$target"
done
