#!/bin/bash
# `make demo EXERCISE=1` and `make test` in a Debian that has nothing yet, from a fresh clone.
#
#   fresh-debian.sh [DIR]     needs root and mmdebstrap; DIR is made, and removed at the end
#
#   TARGETS="demo test"       what to run, in this order: demo, test, ci (.ci/run), build
#   MIRROR=URL                Debian's mirror, default deb.debian.org
#   APT_CONF=FILE             apt's settings, where the mirror is not reached directly
#
# A chroot of bookworm in its smallest variant. The Rust toolchain comes from this host, bound
# read-only; cargo's home is a new one, so that every crate is fetched anew.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DIR=${1:-$(mktemp -d "${TMPDIR:-/tmp}/pgwarden-fresh.XXXXXX")}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
TARGETS=${TARGETS:-demo test}
APT_CONF=${APT_CONF:-}
CARGO=${CARGO_HOME:-$HOME/.cargo}
ROOT=$DIR/root
MOUNTS=("$ROOT/opt/rust" "$ROOT/proc" "$ROOT/sys" "$ROOT/dev" "$ROOT")

say() { echo "fresh-debian: $*" >&2; }
fail() { say "$*"; exit 1; }

clean_up() {
  local one
  for one in "${MOUNTS[@]}"; do
    if mountpoint -q "$one"; then umount -l "$one"; fi
  done
  for one in "${MOUNTS[@]}"; do
    if mountpoint -q "$one"; then
      say "$one is still mounted; $DIR stays"
      return
    fi
  done
  rm -rf --one-file-system "$DIR"
}

timed() { # timed WHAT COMMAND...
  local what=$1 began=$SECONDS
  shift
  "$@" || fail "$what FAILED after $((SECONDS - began)) s"
  say "$what: ok, $((SECONDS - began)) s"
}

inside() {
  nice -n 15 env -i HOME=/root PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_HOME=/var/cache/cargo CARGO_HTTP_CAINFO=/etc/ssl/host-ca.crt LANG=C.UTF-8 CI=true \
    chroot "$ROOT" /bin/bash -euc "$1" </dev/null
}

bootstrap() {
  nice -n 15 mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make \
    ${APT_CONF:+--aptopt="$APT_CONF"} bookworm "$ROOT" "$MIRROR" </dev/null
}

enter() {
  mkdir -p "$ROOT/opt/rust" "$ROOT/var/cache/cargo"
  # A root that is no mount keeps the tests from making mount namespaces.
  mount --bind "$ROOT" "$ROOT"
  mount --make-private "$ROOT"
  mount -t proc proc "$ROOT/proc"
  mount --rbind /sys "$ROOT/sys"
  mount --make-rslave "$ROOT/sys"
  mount --rbind /dev "$ROOT/dev"
  mount --make-rslave "$ROOT/dev"
  # Without rustup in between, which would write into its home.
  mount --bind "$TOOLCHAIN" "$ROOT/opt/rust"
  mount -o remount,bind,ro "$ROOT/opt/rust"
  cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
  # Whom this host trusts: it may see the registry through a proxy of its own.
  cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$ROOT/etc/ssl/host-ca.crt"
  if [ -n "$APT_CONF" ]; then cp "$APT_CONF" "$ROOT/etc/apt/apt.conf.d/90fresh"; fi
  if [ -f "$CARGO/config.toml" ]; then cp "$CARGO/config.toml" "$ROOT/var/cache/cargo/"; fi
  git clone --quiet "$HERE" "$ROOT/srv/pgwarden"
}

[ "$(id -u)" -eq 0 ] || fail "only root can make a chroot"
TOOLCHAIN=$(cd "$HERE" && rustc --print sysroot) || fail "no Rust toolchain on this host"
command -v mmdebstrap >/dev/null || fail "missing: mmdebstrap. As root on Debian: apt-get install mmdebstrap"
mkdir -p "$DIR"
trap clean_up EXIT
timed "bookworm" bootstrap
timed "toolchain and clone" enter
for target in $TARGETS; do
  case $target in
    demo) timed "make demo EXERCISE=1" inside "cd /srv/pgwarden && make demo EXERCISE=1" ;;
    test) timed "make test" inside "cd /srv/pgwarden && make test" ;;
    ci) timed ".ci/run" inside "cd /srv/pgwarden && bash .ci/run" ;;
    build) timed "make build" inside "cd /srv/pgwarden && scripts/setup.sh && make build" ;;
    *) fail "unknown target \"$target\"; expected demo, test, ci or build" ;;
  esac
done
say "all done, $SECONDS s"
