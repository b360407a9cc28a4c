#!/bin/bash
# The root filesystem that the database image begins from: Debian and PostgreSQL, nothing else.
#
#   base.sh --suite bookworm|trixie --pg 15|17 [--without-jit] [--out TAR]
#   base.sh --suite bookworm|trixie --pg 15|17 [--without-jit] --key
#
#   --suite NAME     Debian's release: bookworm has PostgreSQL 15, trixie has 17
#   --pg MAJOR       PostgreSQL's major version
#   --without-jit    leave LLVM out (160 MB); PostgreSQL then does without JIT, by itself
#   --out TAR        where to write (default target/images/base-SUITE-pgMAJOR.tar)
#   --key            print a hash of everything that decides what would be made, and make nothing
#
# MIRROR=URL and SECURITY_MIRROR=URL name other mirrors than deb.debian.org. What this host tells
# apt about fetching (proxies, dates, retries) is used while fetching, or the file APT_CONF=FILE
# instead. Neither mirrors nor settings get into what is made.
#
# Exit codes: 2 wrong command line, 69 a program is missing, 1 anything else that failed.
set -euo pipefail

SELF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/base.sh
TARGET=${SELF%/images/base.sh}/target/images
MIRROR=${MIRROR:-http://deb.debian.org/debian}
SECURITY_MIRROR=${SECURITY_MIRROR:-http://deb.debian.org/debian-security}
APT_CONF=${APT_CONF:-}
# The numbers of the official images, so that a volume can be used by either.
POSTGRES_ID=999

say() { echo "base: $*" >&2; }
fail() { local code=$1; shift; say "$*"; exit "$code"; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

check_versions() {
  case $suite in
    bookworm) has=15 ;;
    trixie) has=17 ;;
    "") fail 2 "--suite is missing; expected bookworm or trixie" ;;
    *) fail 2 "unknown suite \"$suite\"; expected bookworm or trixie" ;;
  esac
  case $pg in
    "$has") ;;
    "") fail 2 "--pg is missing; expected $has for $suite" ;;
    *) fail 2 "Debian $suite has PostgreSQL $has, not \"$pg\"; take another suite, or a registry's" \
      "image with images/build.sh --base" ;;
  esac
}

# A new month is a new key: a cached base does not stay without Debian's repairs for long.
key() {
  {
    cat "$SELF"
    echo "$suite $pg $jit $(uname -m) $MIRROR $SECURITY_MIRROR $(date -u +%Y-%m)"
  } | sha256sum | cut -c1-12
}

need_mmdebstrap() {
  command -v mmdebstrap >/dev/null && return
  local command="apt-get install -y --no-install-recommends mmdebstrap"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    fail 69 "missing: mmdebstrap. As root on Debian: $command"
  fi
  say "$command"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command; } </dev/null >&2 ||
    fail 69 "apt-get could not install mmdebstrap"
}

# How this host fetches packages; nothing of what it would do with them.
fetch_settings() {
  if [ -n "$APT_CONF" ]; then
    cat "$APT_CONF"
  elif command -v apt-config >/dev/null; then
    apt-config dump | grep -E \
      '^Acquire::((http|https|ftp|socks)::|(Check-|Max-|Retries|ForceIPv|AllowRelease))' || true
  fi
}

# Translations, manuals and the sources of locales: C.UTF-8 is part of libc, ICU has its own data.
# Copyright files stay. The rule stays in the image too, for who installs an extension there.
unwanted() {
  local path
  for path in '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/i18n/*' \
    '/usr/share/lintian/*' '/usr/share/linda/*' '/usr/share/bug/*' '/usr/share/doc/*'; do
    echo "path-exclude=$path"
  done
  echo 'path-include=/usr/share/doc/*/copyright'
  if [ "$jit" = no ]; then
    for path in '/usr/lib/*/libLLVM*' '/usr/lib/*/libz3*' '/usr/lib/llvm*' \
      '/usr/lib/postgresql/*/lib/llvmjit*' '/usr/lib/postgresql/*/lib/bitcode/*'; do
      echo "path-exclude=$path"
    done
  fi
}

# Before PostgreSQL's packages come: the account with its number, and no cluster of Debian's.
before_packages() { # before_packages ROOT
  echo "postgres:x:$POSTGRES_ID:" >>"$1/etc/group"
  echo "postgres:*:$POSTGRES_ID:$POSTGRES_ID:PostgreSQL:/var/lib/postgresql:/bin/bash" \
    >>"$1/etc/passwd"
  mkdir -p "$1/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
}

# What installing leaves behind. A certificate's key that all who have the image share is no secret.
after_packages() { # after_packages ROOT
  cd "$1"
  rm -rf etc/ssl/private/ssl-cert-snakeoil.key etc/ssl/certs/ssl-cert-snakeoil.pem \
    etc/apt/apt.conf.d/99mmdebstrap etc/apt/sources.list etc/apt/sources.list.d/* \
    etc/resolv.conf etc/hostname etc/machine-id var/lib/dbus/machine-id \
    var/lib/apt/lists/* var/cache/* var/log/* var/lib/dpkg/*-old etc/*- \
    usr/share/postgresql/*/man run/* tmp/* var/tmp/*
  # Links to what is no longer there; PostgreSQL's own manuals could not go earlier, its packages
  # insist on naming them as alternatives.
  find etc/ssl/certs etc/alternatives usr/share/man -type l ! -exec chroot . test -e '/{}' \; -delete
  mkdir -p etc/apt/sources.list.d var/cache/apt/archives/partial var/cache/debconf \
    var/lib/apt/lists/partial
  : >etc/machine-id
  public_sources >etc/apt/sources.list.d/debian.sources
  # Nobody in this image becomes somebody else.
  find . -xdev -type f -perm /6000 -exec chmod a-s {} +
}

public_sources() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  printf 'Types: deb\nURIs: http://deb.debian.org/debian\nSuites: %s %s-updates\n' "$suite" "$suite"
  printf 'Components: main\nSigned-By: %s\n\n' "$keyring"
  printf 'Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: %s-security\n' "$suite"
  printf 'Components: main\nSigned-By: %s\n' "$keyring"
}

make_root() {
  local scratch=$1
  fetch_settings >"$scratch/apt.conf"
  unwanted >"$scratch/dpkg.conf"
  mmdebstrap --variant=minbase --skip=output/dev \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --aptopt="$scratch/apt.conf" --dpkgopt="$scratch/dpkg.conf" \
    --include="postgresql-$pg,libnss-wrapper,ca-certificates" \
    --essential-hook="$hook before '$suite' '$pg' \"\$1\"" \
    --customize-hook="$hook after '$suite' '$pg' \"\$1\"" \
    "$suite" "$scratch/root.tar" \
    "deb $MIRROR $suite main" "deb $MIRROR $suite-updates main" \
    "deb $SECURITY_MIRROR $suite-security main" </dev/null >"$scratch/log" 2>&1 ||
    {
      tail -n 40 "$scratch/log" >&2
      fail 1 "mmdebstrap failed; is $MIRROR reachable, and the keyring of $suite installed here?"
    }
}

# mmdebstrap calls this script back, inside of its namespace.
if [ "${1:-}" = before ] || [ "${1:-}" = after ]; then
  suite=$2 pg=$3
  "$1_packages" "$4"
  exit
fi

suite='' pg='' jit=yes out='' only_key=
while [ $# -gt 0 ]; do
  case $1 in
    --suite | --pg | --out)
      [ $# -ge 2 ] || fail 2 "$1 wants a value"
      declare "${1#--}=$2"
      shift
      ;;
    --without-jit) jit=no ;;
    --key) only_key=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail 2 "unknown argument \"$1\"; --help shows what there is" ;;
  esac
  shift
done
check_versions
if [ -n "$only_key" ]; then key; exit; fi

out=${out:-$TARGET/base-$suite-pg$pg.tar}
need_mmdebstrap
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pgwarden-base.XXXXXX")
trap 'rm -rf --one-file-system "$scratch"' EXIT
chmod 0755 "$scratch"
hook="bash '$SELF'"
say "Debian $suite with PostgreSQL $pg (a minute)"
make_root "$scratch"
mkdir -p "$(dirname "$out")"
mv "$scratch/root.tar" "$out.part"
mv "$out.part" "$out"
say "$out: $(($(stat -c %s "$out") / 1000000)) MB, $SECONDS s"
