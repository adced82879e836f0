#!/usr/bin/env bash
# The first process of a test node: makes the node's own network and file systems inside new namespaces (see unshare(1)),
# then adopts and reaps processes until it is killed, and everything in the node with it. Nothing outside is changed.
#   init.sh FOLDER NAME SERVICE_RANGE BRIDGE ADDRESS
# BRIDGE is the link that pods will be on, and ADDRESS (with the length of its prefix) the node's own there.
set -euo pipefail
folder=$1 name=$2 services=$3 bridge=$4 address=$5
# Read through the old /proc, hence the number that the machine knows this process by.
read -r pid _ </proc/self/stat

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/pids /run/kept/upper /run/kept/work /run/cgroup /run/sysctl
mount -t proc proc /proc
# A /sys of the new network, with the control groups of the machine.
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount --lazy /run/cgroup
# The kubelet writes below these folders, whatever it is told.
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/kept/upper,workdir=/run/kept/work /var/lib
mount -t tmpfs tmpfs /var/log
# The kubelet insists on settings of the whole machine's kernel. It gets files that say so, and the kernel keeps its own.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/sysctl/$(tr / . <<<"${setting%=*}")
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
# Volumes that one container mounts may be seen by others, as on a real node; only now, or the moves above would not end well.
mount --make-rshared /

hostname "$name"
ip link set lo up
# Cluster addresses have a route that ends here: no packet for them leaves the node, even before kube-proxy knows them.
ip link add svc0 type bridge
ip link set svc0 up
ip route add "$services" dev svc0
ip link add "$bridge" type bridge
ip address add "$address" dev "$bridge"
ip link set "$bridge" up
echo 1 >/proc/sys/net/ipv4/ip_forward

echo "$pid" >"$folder/init.pid.new"
mv "$folder/init.pid.new" "$folder/init.pid"
while :; do
  sleep 3600 &
  wait || true
done
