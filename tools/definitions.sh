#!/usr/bin/env bash
# Keeps the manifests that install KServe and Kueue in ~/.cache/pelagos, for the tests on a real cluster. The full definitions of
# their kinds, roles, webhooks and settings are in no Python package, but in the Go modules that both projects publish. A second
# run does nothing.
set -euo pipefail
target=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos/installations
# Module, version, its sum in Go's checksum database, and the folders that are kept.
modules=(
  "github.com/kserve/kserve v0.20.0 h1:Bs7HxmGV4KFqqptDcWseKv+mwD4YOYHJWcuVgPG2Gug= config python/storage-initializer"
  "sigs.k8s.io/kueue v0.17.0 h1:7hzb38M4eKGzYW+CFv2s1L+swzzacUCHOCXxZmAV90I= config"
)
# This machine's Go, or the one installed for building programs (operator/pelagos/embedded/upstream/build.sh).
go=$(command -v go || ls -d "${target%/*}"/upstream/go/*/go/bin/go 2>/dev/null || true)
work=
trap '[ -z "$work" ] || { chmod -R u+w "$work"; rm -rf "$work"; }' EXIT

for module in "${modules[@]}"; do
  read -r path version sum folders <<<"$module"
  kept="$target/${path##*/}-$version"
  [ ! -d "$kept" ] || continue
  [ -x "$go" ] || { echo "What $path is installed with comes as a module of Go. Install Go (Debian: golang-go)." >&2; exit 1; }
  mkdir -p "$target"
  work=${work:-$(mktemp -d "$target/.modules.XXXXXX")}
  told=$(cd "$work" && GOMODCACHE="$work/cache" GOFLAGS='' "$go" mod download -json "$path@$version") ||
    { echo "$told" >&2; echo "$path $version could not be fetched: Go asks the module proxy of \`go env GOPROXY\`." >&2; exit 1; }
  [[ $told == *"\"Sum\": \"$sum\""* ]] || { echo "$path $version is not the one that was looked at ($sum):" >&2; echo "$told" >&2; exit 1; }
  mkdir "$work/found"
  # shellcheck disable=SC2086 # several words
  (cd "$work/cache/$path@$version" && cp --parents --recursive $folders "$work/found")
  chmod -R u+w "$work/found"
  mv -T "$work/found" "$kept"
  echo "What ${path##*/} $version is installed with is in $kept"
done
