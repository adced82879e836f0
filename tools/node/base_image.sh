#!/usr/bin/env bash
# Makes a small Debian 12 with Python 3.11 as a tar archive, which the tests import as the base of all images, so that they need
# no container registry.   base_image.sh ARCHIVE
set -euo pipefail
archive=$1
# Includes libraries that wheels link to and that Debian packages separately: for Triton's Python stub, GLib and GL for OpenCV.
include=python3,python3-venv,libpython3.11,libglib2.0-0,libgl1,ca-certificates,tzdata
recipe="bookworm $include"
if [ -e "$archive" ] && [ "$(cat "$archive.recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi
echo "Making a small Debian as the base of images; this takes 1 to 3 minutes, once"
tree=$(mktemp -d "${TMPDIR:-/tmp}/pelagos-base.XXXXXX")
trap 'rm -rf "$tree" "$archive.new"' EXIT
chmod 755 "$tree"
# The machine's own Debian mirror, if it has one.
mirror=$( (cat /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null || true) |
  sed -nE 's/^(URIs: |deb (\[[^]]*\] )?)(https?:[^ ]+).*/\3/p;T;q')
debootstrap --variant=minbase --include="$include" bookworm "$tree" ${mirror:+"$mirror"} >"$tree.log" 2>&1 ||
  { tail -n 20 "$tree.log" >&2; exit 1; }
rm -rf "$tree.log" "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* "$tree"/usr/share/{doc,man,locale,info}/*
tar --numeric-owner --one-file-system -cf "$archive.new" -C "$tree" .
mv "$archive.new" "$archive"
echo "$recipe" >"$archive.recipe"
