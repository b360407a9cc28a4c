#!/bin/bash
# Shows that an image works as pods run it: its root read-only, no privileges, the account it names
# and any other UID with group 0.
#
#   check.sh IMAGE     needs root and buildah; the image is one that buildah has
#
# STORAGE_DRIVER is honoured. Exit codes: 2 wrong command line, 1 something does not work.
set -euo pipefail

SELF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/check.sh
ACCOUNTS=(999:999 1000660000:0)
VOLUMES=(run/postgresql var/lib/postgresql/data tmp dev/shm)

say() { echo "check: $*" >&2; }
fail() { say "$*"; exit 1; }
in_store() { buildah ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"} "$@"; }

# In a mount and PID namespace of its own, so that nothing is left of it.
enter() { # enter ROOT UID:GID PATH
  local root=$1 account=$2 path=$3 one
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs tmpfs "$root/dev"
  mkdir "$root/dev/shm"
  for one in null zero random urandom; do
    touch "$root/dev/$one"
    mount --bind "/dev/$one" "$root/dev/$one"
  done
  for one in "${VOLUMES[@]}"; do
    mount -t tmpfs -o "mode=2770,gid=${account#*:}" tmpfs "$root/$one"
  done
  cp "$SELF" "$root/dev/check.sh"
  mount -o remount,bind,ro "$root"
  exec env -i PATH="$path" LANG=C.UTF-8 HOME=/ setpriv --no-new-privs \
    "$(command -v chroot)" --userspec="+${account%:*}:+${account#*:}" --groups= "$root" \
    bash /dev/check.sh inside
}

expect() { # expect WANTED WHAT COMMAND...
  local wanted=$1 what=$2 got
  shift 2
  got=$("$@" 2>&1) || true
  [[ $got == *"$wanted"* ]] || fail "$what: expected \"$wanted\" in: $got"
}

# PostgreSQL looks its own user up by number. The library answers from a file.
name_this_user() {
  id -un >/dev/null 2>&1 && return
  echo "postgres:x:$(id -u):$(id -g):PostgreSQL:/tmp:/bin/sh" >/run/postgresql/passwd
  cp /etc/group /run/postgresql/group
  export NSS_WRAPPER_PASSWD=/run/postgresql/passwd NSS_WRAPPER_GROUP=/run/postgresql/group
  export LD_PRELOAD=/usr/local/lib/libnss_wrapper.so
}

start_server() {
  local try
  postgres -D "$1" -c listen_addresses= >/tmp/server.log 2>&1 &
  server=$!
  for try in {1..100}; do
    pg_isready -q -U postgres && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  fail "no server after $try tries: $(tail -n 5 /tmp/server.log)"
}

inside() {
  local data=/var/lib/postgresql/data/pgdata jit=yes
  expect "Read-only file system" "a root that is written to" touch /probe
  expect "/etc/pgwarden" "the agent without a configuration" pgwarden agent /etc/pgwarden
  expect pgwarden "the agent's version" pgwarden --version
  [ -z "$(find / -xdev -type f -perm /6000 2>/dev/null)" ] || fail "a program becomes another user"
  name_this_user
  initdb -D "$data" -U postgres --no-sync -A peer >/tmp/initdb.log 2>&1 ||
    fail "initdb: $(tail -n 5 /tmp/initdb.log)"
  echo "everybody $(id -un) postgres" >>"$data/pg_ident.conf"
  echo 'local all,replication all peer map=everybody' >"$data/pg_hba.conf"
  start_server "$data"
  expect C.UTF-8 "the locale" psql -U postgres -d postgres -Atc 'show lc_collate' -c \
    "select datcollate from pg_database where datname = 'postgres'"
  expect t "ICU" psql -U postgres -d postgres -Atc "select 'ä' < 'b' collate \"de-x-icu\""
  expect t "time zones" psql -U postgres -d postgres -Atc \
    "select timestamptz '2026-07-01 12:00Z' at time zone 'Europe/Berlin' = '2026-07-01 14:00'"
  pg_basebackup -U postgres -D /tmp/copy --no-sync -c fast || fail "pg_basebackup failed"
  kill -INT "$server"
  wait "$server"
  expect backend "a server for one user" postgres --single -D "$data" postgres </dev/null
  [ -f "$(dirname "$(command -v postgres)")/../lib/llvmjit.so" ] || jit=no
  say "$(id -u):$(id -g): ok, $(postgres --version), JIT: $jit"
}

outside() {
  local container root account path
  [ "$(id -u)" -eq 0 ] || fail "only root can mount"
  container=$(in_store from --pull=never "$1") || fail "buildah has no image $1"
  # shellcheck disable=SC2064 # the name is known now
  trap "buildah ${STORAGE_DRIVER:+--storage-driver $STORAGE_DRIVER} rm $container >/dev/null" EXIT
  root=$(in_store mount "$container")
  path=$(in_store inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$container" |
    sed -n 's/^PATH=//p')
  for account in "${ACCOUNTS[@]}"; do
    unshare --mount --pid --fork --propagation private \
      bash "$SELF" enter "$root" "$account" "$path" || fail "$1 does not work as $account"
  done
}

case ${1:-} in
  enter) enter "$2" "$3" "$4" ;;
  inside) inside ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$SELF" ;;
  "" | -*) say "which image? --help shows more"; exit 2 ;;
  *) outside "$1" ;;
esac
