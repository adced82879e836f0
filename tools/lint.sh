#!/usr/bin/env bash
# Runs all linters, even if one fails. With an argument, writes "PASSED FAILED" into that file for tools/test.sh, and the names of
# the failed ones into the file with ".failed" appended to its name.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
bin=$environments/dev/bin
passed=0 failed=()

check() {
  local name=$1
  shift
  echo "== $name"
  if "$@"; then passed=$((passed + 1)); else failed+=("$name"); fi
}

check "ruff check" "$bin/ruff" check --quiet .
check "ruff format" "$bin/ruff" format --check --quiet .
check "types of the control plane" "$bin/mypy" -p pelagos
check "types of the hub" "$bin/mypy" -p pelagos_hub
check "types of the data plane" "$bin/mypy" --python-executable "$environments/pipelines-dev/bin/python" -p pelagos_contract -p pelagos_pipelines
check "types of the gateway" "$bin/mypy" -p pelagos_gateway
check "types of the generators" "$bin/mypy" -p generators
# The data plane, which tests import, is not reported on here: its libraries are not in this environment.
check "types of the tests" "$bin/mypy" --follow-imports=silent tests bench
check "import contracts" env PYTHONPATH=tools "$bin/lint-imports" --no-logo
check "import contracts of the hub" env PYTHONPATH=hub "$bin/lint-imports" --no-logo --config hub/importlinter.toml
mapfile -t texts < <(git ls-files -- . ':(exclude)requirements' ':(exclude)*.png' ':(exclude)*.svg' ':(exclude)*.json' ':(exclude)*.sum')
mapfile -t scripts < <(git ls-files -- '*.sh' .ci/run images/deepaas/deep-start)
check "spelling" "$bin/codespell" "${texts[@]}"
check "words of the glossary" "$bin/python" tools/words.py
check "shell scripts" "$bin/shellcheck" "${scripts[@]}"
check "one version" "$bin/python" tools/version.py
check "Dockerfiles" "$bin/hadolint" images/*/Dockerfile

if [ "$#" != 0 ]; then
  echo "$passed ${#failed[@]}" >"$1"
  [ "${#failed[@]}" = 0 ] || printf '%s\n' "${failed[@]}" >"$1.failed"
fi
[ "${#failed[@]}" = 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
