#!/bin/sh
# A machine with a systemd of its own, without a container engine: namespaces, a cgroup, an overlay
# over this machine's files. Nothing is written outside them, and they end with the process that
# asked for them.
#   boot.sh probe FOLDER        exits with 0 if this machine can
#   boot.sh start FOLDER ...    becomes the machine: FOLDER NAME is to be seen in it as /srv/NAME
#   boot.sh sweep               removes what is left of cgroups of machines that are gone, and
#                               names those of the others: rqd-box- and the pid of their `start`
# Its parts follow one another in ever more namespaces; FOLDER is empty, and stays so outside.
set -eu

mount_cgroups() {
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 rqd-box "$1"
    mkdir "$1/cgroup"
    mount -t cgroup2 cgroup2 "$1/cgroup"
}

in_own_cgroup() {
    mount_cgroups "$2"
    own="$2/cgroup/rqd-box-$$"
    mkdir "$own"
    echo 0 >"$own/cgroup.procs"
    exec unshare --fork --kill-child=KILL --pid --mount --uts --ipc --cgroup --net \
        "$0" inside "$@"
}

# Devices that can do no harm, each from outside, and none that systemd could change for others.
make_devices() {
    mount -t tmpfs -o mode=755 devices dev
    for name in null zero full random urandom tty; do
        : >"dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    mount -t tmpfs -o mode=1777 shm dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
}

# Kernel's settings and this machine's own services, logs and mounts are out of reach.
make_root() {
    mkdir "$1/upper" "$1/work" "$1/root"
    mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" rqd-box "$1/root"
    cd "$1/root"
    mount -t proc proc proc
    for kernels in proc/sys proc/sysrq-trigger; do
        if [ ! -e "$kernels" ]; then continue; fi
        mount --bind "$kernels" "$kernels"
        mount -o remount,bind,ro "$kernels"
    done
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    make_devices
    for folder in run tmp opt srv etc/systemd/system var/log var/lib/systemd; do
        mkdir -p "$folder"
        mount -t tmpfs -o mode=755 rqd-box "$folder"
    done
    chmod 1777 tmp
    for folder in etc/rqd var/lib/rqd; do # of an rqd that is installed outside
        if [ -e "$folder" ]; then mount -t tmpfs -o mode=755 rqd-box "$folder"; fi
    done
    : >etc/fstab
    # Not `uninitialized`: at a first boot systemd enables all units that are installed.
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    echo box >etc/hostname
}

become_the_machine() {
    make_root "$2"
    if [ "$1" = probe ]; then exit 0; fi
    shift 2
    while [ $# -gt 0 ]; do
        mkdir "srv/$2"
        mount --bind "$1" "srv/$2"
        mount -o remount,bind,ro "srv/$2"
        shift 2
    done
    mkdir .outside
    pivot_root . .outside
    umount -l /.outside
    export container=rqd-box
    exec setpriv --bounding-set \
        -sys_module,-sys_time,-sys_rawio,-syslog,-audit_control,-audit_read,-mac_admin \
        /lib/systemd/systemd systemd.unit=basic.target \
        systemd.mask=systemd-networkd-wait-online.service systemd.mask=timers.target
}

# A cgroup in which somebody lives can't be removed: what goes is of machines that are gone.
remove_cgroups() {
    folder=$(mktemp -d)
    trap 'umount -l "$folder"; rmdir "$folder"' EXIT
    mount_cgroups "$folder"
    for own in "$folder"/cgroup/rqd-box-*; do
        if grep -q '^populated 0' "$own/cgroup.events" 2>/dev/null; then
            find "$own" -depth -type d -exec rmdir {} +
        elif [ -e "$own" ]; then
            basename "$own"
        fi
    done
}

case $1 in
    probe | start) exec unshare --mount "$0" enter "$@" ;;
    enter)
        shift
        in_own_cgroup "$@"
        ;;
    inside)
        shift
        become_the_machine "$@"
        ;;
    sweep) exec unshare --mount "$0" remove ;;
    remove) remove_cgroups ;;
esac
