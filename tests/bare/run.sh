#!/bin/sh
# The newcomer's first hour, on a Debian that holds python3, git and curl and nothing else:
# clone, ./just demo --json, ./just test; first without any data, then with the data folder.
#
#   ./just bare [--only nodata|data]        (root; some 3 GB under TMPDIR while it runs)
#
# Progress goes to stderr. Stdout gets one JSON line for each recipe; the exit status is 1 when one failed.
# What this machine needs to reach its indexes (CA bundle, pip's and apt's configuration) is handed in at run
# time and written nowhere else. Mounts and processes live in namespaces that end when this script ends.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
data=${LONGSTOP_DATA:-$repository/../shared/data}

say() { printf 'bare: %s\n' "$*" >&2; }
stop() { say "$*"; exit 2; }

case "$*" in
    '') if [ -d "$data" ]; then runs='nodata data'; else runs=nodata; say "no data at $data: one run instead of two"; fi ;;
    '--only nodata') runs=nodata ;;
    '--only data') runs=data; [ -d "$data" ] || stop "no data folder at $data; name one with LONGSTOP_DATA" ;;
    *) stop 'usage: ./just bare [--only nodata|data]' ;;
esac
[ "$(id -u)" = 0 ] || stop 'needs root, for debootstrap and its mounts'
for tool in debootstrap unshare; do
    command -v "$tool" >/dev/null || stop "needs $tool: apt-get install debootstrap util-linux"
done

place=$(mktemp -d "${TMPDIR:-/var/tmp}/longstop-bare.XXXXXX")
debian=$place/debian
# Nothing is mounted here in this namespace, so removing the folder cannot reach anything else.
trap 'rm -rf --one-file-system "$place"' EXIT
trap 'exit 130' HUP INT TERM

make_debian() {
    suite=bookworm
    if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then suite=$(. /etc/os-release && echo "$VERSION_CODENAME"); fi
    from_debian=$(apt-get indextargets --format '$(ORIGIN)|$(SITE)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
        sed -n "s/^Debian|\(.*\)|\($suite[a-z-]*\)|main\$/\1 \2 main/p")
    mirror=$(printf '%s\n' "$from_debian" | awk -v suite="$suite" '$2 == suite { print $1; exit }')
    say "making a bare $suite (about a minute)"
    debootstrap --variant=minbase --include=python3,git,curl,ca-certificates "$suite" "$debian" ${mirror:+"$mirror"} \
        >"$place/debootstrap.log" 2>&1 || { tail -n 20 "$place/debootstrap.log" >&2; stop 'debootstrap failed'; }
    [ -z "$from_debian" ] || printf '%s\n' "$from_debian" | sed 's/^/deb /' >"$debian/etc/apt/sources.list"
    grep -lE '^ *Acquire::' /etc/apt/apt.conf.d/* 2>/dev/null | while read -r settings; do
        cp "$settings" "$debian/etc/apt/apt.conf.d/"
    done
    cp -L /etc/resolv.conf /etc/hosts "$debian/etc/"
}

# Prints NAME=VALUE lines: all that a process inside learns of this machine.
environment_inside() {
    printf '%s\n' HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    env | grep -E '^(PIP_|UV_[A-Z_]*INDEX|[a-zA-Z]+_proxy=|[A-Z]+_PROXY=)' | grep -vE '^(PIP_CERT|PIP_FIND_LINKS)=' || :
    for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO; do
        printf '%s=/etc/ssl/handed-in.crt\n' "$name"
    done
}

hand_in() {
    bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    cp -L "$bundle" "$debian/etc/ssl/handed-in.crt"
    for settings in /etc/pip.conf /etc/xdg/pip/pip.conf; do
        if [ -f "$settings" ]; then mkdir -p "$debian${settings%/*}" && cp "$settings" "$debian$settings"; fi
    done
    for settings in "$HOME/.pip/pip.conf" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"; do
        if [ -f "$settings" ]; then mkdir -p "$debian/root/.config/pip" && cp "$settings" "$debian/root/.config/pip/"; fi
    done
}

# Runs one command line in the clone, in namespaces of its own.
inside() {
    environment_inside >"$place/environment"
    unshare --mount --pid --fork --kill-child --propagation private sh -eu -c '
        debian=$1 data=$2 environment=$3 line=$4
        mount -t proc proc "$debian/proc"
        mount --rbind /dev "$debian/dev"
        mount -t tmpfs -o mode=1777 tmpfs "$debian/dev/shm"
        set -- chroot "$debian" /usr/bin/env -i
        while read -r setting; do set -- "$@" "$setting"; done <"$environment"
        if [ -n "$data" ]; then
            mkdir -p "$debian/mnt/data"
            mount --bind -o ro "$data" "$debian/mnt/data"
            set -- "$@" LONGSTOP_DATA=/mnt/data
        fi
        exec "$@" sh -c "cd /srv/longstop/clone && $line"
    ' inside "$debian" "$1" "$place/environment" "$2"
}

# Prints {"run", "recipe", "rc", "seconds", "last"}; `last` is the recipe's last line, as JSON where it is JSON.
tell() {
    python3 - "$@" <<'PYTHON'
import json, sys
run, recipe, rc, seconds, log = sys.argv[1:]
lines = [line.strip() for line in open(log, errors="replace") if line.strip()]
lines = [line for line in lines if not line.startswith("error: recipe ")]  # just's word, after the recipe's
objects = [line for line in lines if line.startswith("{") and line.endswith("}")]
last = lines[-1] if lines else ""
if recipe.endswith("--json") and objects:
    try:
        last = json.loads(objects[-1])
    except ValueError:
        last = objects[-1]
print(json.dumps({"run": run, "recipe": recipe, "rc": int(rc), "seconds": int(seconds), "last": last}), flush=True)
PYTHON
}

make_debian
hand_in
say "cloning $(git -C "$repository" rev-parse --short HEAD); what is not committed is not in it"
failed=0
for run in $runs; do
    folder=
    [ "$run" = nodata ] || folder=$data
    rm -rf "$debian/srv/longstop" "$debian/root/.cache"
    mkdir -p "$debian/srv/longstop"
    git clone --quiet --no-hardlinks "file://$repository" "$debian/srv/longstop/clone"
    for recipe in 'demo --json' test; do
        say "$run: ./just $recipe"
        begun=$(date +%s)
        echo 0 >"$place/rc"
        { inside "$folder" "./just $recipe" 2>&1 || echo $? >"$place/rc"; } </dev/null | tee "$place/log" >&2
        rc=$(cat "$place/rc")
        [ "$rc" = 0 ] || failed=1
        tell "$run" "$recipe" "$rc" $(($(date +%s) - begun)) "$place/log"
    done
done
exit $failed
