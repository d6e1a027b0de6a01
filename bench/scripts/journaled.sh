#!/usr/bin/env bash
# Runs a command with `--dir` on an ext4 that has a journal, made for it on a loop device.
#
#   journaled.sh [-s GIB] [-w FOLDER] COMMAND [ARGUMENT...]
#   journaled.sh target/release/sapwood bench figures --only blocked-64
#
# The image (8 GiB unless -s says otherwise) lies in FOLDER (/var/tmp unless -w does), is written
# in full before mkfs, and is reached with direct I/O: neither the image's own extents nor a
# second page cache are part of what is measured. Everything is taken down again on any exit.
# Needs root, losetup and mkfs.ext4: without them it says SKIPPED and ends with 77.
set -euo pipefail

gib=8
place=/var/tmp
while getopts s:w: option; do
    case $option in
        s) gib=$OPTARG ;;
        w) place=$OPTARG ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if (($# == 0)); then
    echo "journaled.sh: which command?" >&2
    exit 2
fi

skip() { echo "SKIPPED: journaled.sh: $*" >&2; exit 77; }
((EUID == 0)) || skip "needs root for a loop device and a mount"
for tool in losetup mkfs.ext4 mount umount dd; do
    command -v "$tool" >/dev/null || skip "needs $tool"
done
free_kib=$(df --output=avail -k "$place" | tail -n 1)
((free_kib > (gib + 1) * 1048576)) || skip "needs $((gib + 1)) GiB free in $place"

work=$(mktemp -d "$place/journaled.XXXXXX")
loop=
mounted=
clean() {
    local code=$?
    trap - EXIT INT TERM
    if [[ $mounted ]]; then
        # A process that was killed may keep its ring, and so the mount, for some milliseconds.
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            umount "$work/mnt" 2>/dev/null && mounted= && break
            sleep 0.3
        done
        if [[ $mounted ]]; then umount -l "$work/mnt" || true; fi
    fi
    if [[ $loop ]]; then losetup -d "$loop" || true; fi
    rm -f "$work/image"
    rmdir "$work/mnt" "$work" 2>/dev/null || echo "journaled.sh: left $work behind" >&2
    exit "$code"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "journaled.sh: writing a $gib GiB image in $work" >&2
mkdir "$work/mnt"
dd if=/dev/zero of="$work/image" bs=1M count=$((gib * 1024)) oflag=direct conv=fsync status=none
loop=$(losetup --find --show --direct-io=on "$work/image") || skip "no loop device"
# Tables and journal now, not in the background while we measure; no discard into the image.
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$loop"
mount -t ext4 -o nodiscard "$loop" "$work/mnt" || skip "the kernel does not mount it"
mounted=yes
echo "journaled.sh: $loop on $work/mnt" >&2

"$@" --dir "$work/mnt"
