#!/usr/bin/env bash
# Keeps the full definitions of the kinds of KServe and Kueue below ~/.cache/pelagos, for the tests on a real cluster: they are in
# no Python package, but in the modules of Go that both projects publish. Nothing happens a second time.
set -euo pipefail
target=${XDG_CACHE_HOME:-$HOME/.cache}/pelagos/definitions
# Module, version, the sum that Go's checksum database holds for it, and the folder of the definitions.
modules=(
  "github.com/kserve/kserve v0.20.0 h1:Bs7HxmGV4KFqqptDcWseKv+mwD4YOYHJWcuVgPG2Gug= config/crd/full"
  "sigs.k8s.io/kueue v0.17.0 h1:7hzb38M4eKGzYW+CFv2s1L+swzzacUCHOCXxZmAV90I= config/components/crd/bases"
)
work=
trap '[ -z "$work" ] || { chmod -R u+w "$work"; rm -rf "$work"; }' EXIT

for module in "${modules[@]}"; do
  read -r path version sum folder <<<"$module"
  kept="$target/${path##*/}-$version"
  [ ! -d "$kept" ] || continue
  command -v go >/dev/null || { echo "The definitions of $path come as a module of Go. Install Go (Debian: golang-go)." >&2; exit 1; }
  mkdir -p "$target"
  work=${work:-$(mktemp -d "$target/.modules.XXXXXX")}
  told=$(cd "$work" && GOMODCACHE="$work/cache" GOFLAGS='' go mod download -json "$path@$version") ||
    { echo "$told" >&2; echo "$path $version could not be fetched: Go asks the module proxy of \`go env GOPROXY\`." >&2; exit 1; }
  [[ $told == *"\"Sum\": \"$sum\""* ]] || { echo "$path $version is not the one that was looked at ($sum):" >&2; echo "$told" >&2; exit 1; }
  mkdir "$work/found"
  cp "$work/cache/$path@$version/$folder"/*_*.yaml "$work/found"
  chmod u+w "$work/found"/*
  mv -T "$work/found" "$kept"
  echo "The definitions of ${path##*/} $version are in $kept"
done
