#!/usr/bin/env bash
# Both README commands on a bare machine: Debian with Python, venv, make and certificates.
#
#   tests/bare/bare.sh            needs Linux, root, debootstrap, git, and 12 GB of disk
#
# BARE_TESTS    arguments of pytest instead of all tests, such as "tests/unit/diagrams"
# BARE_LAB=0    leaves `make lab` out
# BARE_FOLDER   where the root is made (build/bare); it is removed at the end unless BARE_KEEP=1
# BARE_MIRROR   of Debian packages (http://deb.debian.org/debian); BARE_SUITE (bookworm)
#
# The commit that is checked out is what is tested. pip reaches packages as it does here: its
# configuration, PIP_* and proxies, certificates, and folders that PIP_FIND_LINKS names.
set -euo pipefail
cd "$(dirname "$0")/../.."

for program in debootstrap unshare chroot git; do
  if [ "$(id -u)" != 0 ] || ! command -v $program >/dev/null; then
    echo "make bare needs root and the programs debootstrap, unshare, chroot and git: run it as root on Linux, after apt-get install debootstrap git." >&2
    exit 1
  fi
done
if [ "${BARE_INSIDE:-}" != 1 ]; then
  BARE_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"  # mounts end with this process
fi

folder=$(realpath -m "${BARE_FOLDER:-build/bare}")
root=$folder/root
rm -rf "$folder"
mkdir -p "$folder"
[ "${BARE_KEEP:-0}" = 1 ] || trap 'cd /; umount -l "$root"/{dev,proc} 2>/dev/null || true; rm -rf --one-file-system "$folder"' EXIT

minutes() { awk -v s="$1" -v e="$(date +%s)" 'BEGIN { printf "%.1f", (e - s) / 60 }'; }

began=$(date +%s)
debootstrap --variant=minbase --include=python3,python3-venv,make,ca-certificates \
  "${BARE_SUITE:-bookworm}" "$root" "${BARE_MIRROR:-http://deb.debian.org/debian}" >"$folder/debootstrap.log" ||
  { tail -5 "$folder/debootstrap.log" >&2; exit 1; }
echo "bare root: $(minutes "$began") minutes, $(du -sm "$root" | cut -f1) MB"

git clone --quiet --no-hardlinks . "$root/mmlab"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ -e $file ] && cp -L --remove-destination $file "$root$file"
done
for place in ${PIP_FIND_LINKS:-}; do
  [ -d "$place" ] && mkdir -p "$root$place" && cp -r "$place/." "$root$place/"
done
for name in ${!PIP_*} ${!SSL_CERT_*} REQUESTS_CA_BUNDLE; do  # files of other places, by their name
  value=${!name:-}
  [ -f "$value" ] && mkdir -p "$root$(dirname "$value")" && cp -L "$value" "$root$value"
done
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"

# What the environment says of packages, and nothing else.
setting=(PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 PIP_NO_INPUT=1)
while IFS='=' read -r name value; do
  setting+=("$name=$value")
done < <(env | grep -iE '^(PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|(https?|no|all)_proxy)=' || true)
inside() { env -i "${setting[@]}" "$(command -v chroot)" "$root" sh -c "cd /mmlab && $1"; }

if [ "${BARE_LAB:-1}" = 1 ]; then
  began=$(date +%s)
  set -m  # a process group of its own, to end all of it
  inside "exec timeout --foreground 3600 make lab LAB_ARGS=--no-browser" >"$folder/lab.log" 2>&1 &
  lab=$!
  set +m
  until grep -q 'http://.*/lab?token=' "$folder/lab.log"; do
    kill -0 $lab 2>/dev/null || { tail -20 "$folder/lab.log" >&2; echo "make lab failed" >&2; exit 1; }
    sleep 2
  done
  echo "make lab: its address after $(minutes "$began") minutes, $(du -smx "$root" | cut -f1) MB"
  kill -- -$lab
  wait $lab 2>/dev/null || true
fi

began=$(date +%s)
if [ -n "${BARE_TESTS:-}" ]; then
  inside "make -s .venv/.ready && .venv/bin/python -m pytest -q $BARE_TESTS"
else
  inside "make test"
fi
echo "tests: $(minutes "$began") minutes"
