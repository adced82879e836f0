#!/usr/bin/env bash
# Builds helm-template from Debian's packages, without any module: build.sh DESTINATION_FILE. Exit code 3: Go or sprig is not here.
set -euo pipefail
cd "$(dirname "$0")"
command -v go >/dev/null || { echo "Go is not installed" >&2; exit 3; }
libraries=/usr/share/gocode
if [ ! -d "$libraries/src/github.com/Masterminds/sprig" ] && command -v apt-get >/dev/null; then
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
  as_root apt-get install -qq -y --no-install-recommends golang-github-masterminds-sprig-dev golang-gopkg-yaml.v3-dev >/dev/null 2>&1 ||
    { as_root apt-get update -qq && as_root apt-get install -qq -y --no-install-recommends golang-github-masterminds-sprig-dev golang-gopkg-yaml.v3-dev >/dev/null; } || true
fi
[ -d "$libraries/src/github.com/Masterminds/sprig" ] || { echo "the library sprig is not installed" >&2; exit 3; }
GOPATH=$libraries GO111MODULE=off GOFLAGS= CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1" .
