#!/usr/bin/env bash
# Runs all checks, and all tests that need no cluster; `make test` has installed what they need. If the first argument is
# `cluster`, runs the tests on a real cluster instead. Other arguments go to pytest.
# Tests write to a temporary folder of the run, which is removed at its end; after failures it is kept, unless CI is set.
# The last line is plain: "N passed, N failed, N skipped". Each check counts as a test, and any failure makes the script fail.
# PELAGOS_TEST_STRICT=1 makes skipped tests failures, except for the reasons "no root" and "no GPU". The three numbers are appended
# to the file PELAGOS_TEST_COUNTS, and the names of failures to the file with ".failed" appended to its name.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
export PELAGOS_SAMPLES=${PELAGOS_SAMPLES:-${PELAGOS_HOME:-$PWD/.pelagos}/data/samples}
# Tests must not reach the user's installation or cluster.
unset PELAGOS_HOME KUBECONFIG
# As in the Makefile: without bytecode, each process compiles its imports again.
unset PYTHONDONTWRITEBYTECODE
# Everything that tests start inherits this mark, by which tests/orphans.py finds it.
export TESTS_OF_PELAGOS=${TESTS_OF_PELAGOS:-run-$$-$RANDOM}

# Most of the control plane's tests wait for servers, so more of them run at a time than there are cores, each module or folder in
# one process (tests/conftest.py). The longest start first, so that none of them is left to wait for at the end.
longest=(main_job monitoring engines ports reconcilers embedded manifests integration leadership)
at_a_time=(-n "${PELAGOS_TEST_PROCESSES:-3}" --dist loadscope --no-loadscope-reorder)

# Tests of pipelines and model servers: they need torch and run in the environment pipelines-dev. All other folders in tests/ are
# about the control plane. Tests on a real cluster run alone, so that it disturbs no others.
data_plane=(annotations evaluation export extensions fuzz preparation serving training)
# These start after the control plane's tests, which end first, so both cores stay busy until the end.
data_plane_later=(fetching flows publishing samples sandbox sources storage taxonomy)

reports=$(mktemp -d)
# Processes that tests kill cannot remove their temporary files, and over many runs these would fill the disk. The path is short,
# since those of Unix sockets below it have a limit, and open to other accounts as /tmp is, since tests change to such accounts.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/XXXX")
chmod 1777 "$TMPDIR"
export TMPDIR
# However this script ends, everything it started ends with it.
clean() {
  local code=$?
  "$environments/dev/bin/python" tests/orphans.py "$TESTS_OF_PELAGOS" --end >&2
  rm -rf "$reports"
  # What is mounted there is not ours to delete.
  if { [ "$code" = 0 ] || [ -n "${CI:-}" ]; } && ! grep -q " $TMPDIR/" /proc/mounts; then
    rm -rf "$TMPDIR"
  else
    echo "What the tests left is in $TMPDIR" >&2
  fi
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# timed NAME COMMAND...: records the command's duration in seconds for tools/summary.py
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
  # Run what is limited by the processor beside what mostly waits.
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
