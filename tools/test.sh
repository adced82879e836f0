#!/usr/bin/env bash
# Runs all checks, and all tests that need no cluster; `make test` has installed what they need. Or, when the first argument is
# `cluster`, those on a real cluster. Other arguments go to pytest.
# Ends with one plain line, "N passed, N failed, N skipped", in which each check counts like a test, and fails on any failure.
# PELAGOS_TEST_STRICT=1 makes a skipped test a failure, but for the reasons "no root" and "no GPU"; PELAGOS_TEST_COUNTS is a
# file that the three numbers are added to; what failed is added to the one beside it that ends with ".failed".
set -uo pipefail
cd "$(dirname "$0")/.." || exit
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
export PELAGOS_SAMPLES=${PELAGOS_SAMPLES:-${PELAGOS_HOME:-$PWD/.pelagos}/data/samples}
# No test may reach the installation or the cluster that the user works with.
unset PELAGOS_HOME KUBECONFIG
# As in the Makefile.
unset PYTHONDONTWRITEBYTECODE
# What the tests start inherits it: tests/orphans.py.
export TESTS_OF_PELAGOS=${TESTS_OF_PELAGOS:-run-$$-$RANDOM}

# Most of the control plane's tests wait for servers, so that more of them than there are cores run at a time, each module or folder
# in one process (tests/conftest.py). The longest come first, and nothing is left to wait for at the end.
longest=(main_job monitoring engines ports reconcilers embedded manifests integration leadership)
at_a_time=(-n "${PELAGOS_TEST_PROCESSES:-3}" --dist loadscope --no-loadscope-reorder)

# Tests of what runs inside pipelines and model servers: they need torch and run in the environment pipelines-dev. All other
# folders below tests/ are about the control plane; those on a real cluster run by themselves, so that it disturbs no others.
data_plane=(annotations evaluation export extensions fuzz preparation serving training)
# Those that wait for the control plane's tests, which end first: so both cores are busy until the end.
data_plane_later=(fetching flows publishing samples sandbox sources storage taxonomy)

reports=$(mktemp -d)
# However this ends, what it started does.
clean() {
  "$environments/dev/bin/python" tests/orphans.py "$TESTS_OF_PELAGOS" --end >&2
  rm -rf "$reports"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# timed NAME COMMAND...: notes for tools/summary.py how many seconds it took
timed() {
  local name=$1 began=$SECONDS code=0
  shift
  "$@" || code=$?
  echo $((SECONDS - began)) >"$reports/$name.seconds"
  return $code
}

# run NAME ENVIRONMENT ARGUMENT...
run() {
  local name=$1 environment=$2
  shift 2
  echo "== tests of the ${name//-/ }"
  timed "$name" "$environments/$environment/bin/pytest" -q --durations=15 --junitxml="$reports/$name.xml" "$@"
  echo $? >"$reports/$name.code"
}

if [ "${1:-}" = cluster ]; then
  shift
  run cluster dev tests/cluster "$@"
else
  control_plane=("${longest[@]/#/tests/}")
  for folder in tests/*/; do
    name=$(basename "$folder")
    [[ " ${data_plane[*]} ${data_plane_later[*]} ${longest[*]} " == *" $name "* || $name == cluster || $name == __pycache__ ]] || control_plane+=("tests/$name")
  done
  present=() later=()
  for name in "${data_plane[@]}"; do [ -d "tests/$name" ] && present+=("tests/$name"); done
  for name in "${data_plane_later[@]}"; do [ -d "tests/$name" ] && later+=("tests/$name"); done
  # What only computes runs beside what mostly waits.
  {
    timed lint tools/lint.sh "$reports/lint"
    run data-plane pipelines-dev "${present[@]}" "$@"
  } >"$reports/beside" 2>&1 &
  beside=$!
  run control-plane dev "${at_a_time[@]}" "${control_plane[@]}" "$@"
  run data-plane-later pipelines-dev "${later[@]}" "$@"
  wait "$beside"
  cat "$reports/beside"
fi

"$environments/dev/bin/python" tests/orphans.py "$TESTS_OF_PELAGOS"
echo $? >"$reports/processes-that-are-left.code"
"$environments/dev/bin/python" tools/summary.py "$reports" ${PELAGOS_TEST_COUNTS:+"$PELAGOS_TEST_COUNTS"}
