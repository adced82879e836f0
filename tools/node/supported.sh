#!/usr/bin/env bash
# Prints one line with the reason why this machine cannot run the tests' Kubernetes node, and fails; prints nothing if it can.
set -uo pipefail
no() { echo "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || no "containers need Linux"
[ "$(id -u)" = 0 ] || no "making namespaces and running a container engine need root"
{ [ -e /etc/debian_version ] && command -v apt-get >/dev/null; } || no "runc, the builder of images and their base come from Debian's packages"
groups=/sys/fs/cgroup
for controller in cpu memory pids; do
  # Control groups of version 2, otherwise of version 1.
  if [ -e "$groups/cgroup.controllers" ]; then
    [ -w "$groups/cgroup.subtree_control" ] && grep -qw "$controller" "$groups/cgroup.controllers"
  else
    [ -w "$groups/$controller/cgroup.procs" ]
  fi || no "the kubelet needs a control group for $controller"
done
unshare --fork --pid --mount --net --uts --ipc true 2>/dev/null || no "namespaces are not allowed here"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch"/{lower,upper,work,merged}
# shellcheck disable=SC2016 # the inner shell expands it
unshare --mount sh -c 'mount -t tmpfs tmpfs "$1/upper" && mkdir "$1/upper/u" "$1/upper/w" &&
  mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/merged"' sh "$scratch" 2>/dev/null ||
  no "overlay file systems cannot be mounted here"
