#!/bin/bash
# Builds the database image.
#
#   build.sh --pg 15|17 [--suite bookworm|trixie] [--without-jit] [--agent PATH] [--tag NAME]
#            [--archive TAR] [--init tini|dumb-init] [--refresh]
#   build.sh --pg MAJOR --base IMAGE [--agent PATH] [--tag NAME] [--archive TAR] ...
#
#   --pg MAJOR       PostgreSQL's major version
#   --suite NAME     Debian's release to make the base of (default: the one that has this version)
#   --without-jit    a base without LLVM
#   --base IMAGE     begin from this image instead, local or from a registry (see README.md)
#   --agent PATH     the agent's binary (default: cargo build --release --locked)
#   --tag NAME       the image's name (default localhost/pgwarden:MAJOR)
#   --archive TAR    also write it as an OCI archive, replacing TAR
#   --init NAME      put this init in front of the agent, for tests; the default tag gets "-NAME"
#   --refresh        make the base anew, even if a cached one fits
#
# Bases are cached, under target/images and by buildah. A missing buildah or mmdebstrap is installed for root on
# Debian. STORAGE_DRIVER and BUILDAH_ISOLATION are honoured; unset, what works here is found out.
#
# Exit codes: 2 wrong command line, 65 the binary is not for this machine, 66 no such binary,
# 69 a program is missing or does not work here, 1 anything else that failed.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
CACHE=$ROOT/target/images

say() { echo "image: $*" >&2; }
fail() { local code=$1; shift; say "$*"; exit "$code"; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }

need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null && return
  local command="apt-get install -y --no-install-recommends $2"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    fail 69 "missing: $1. As root on Debian: $command"
  fi
  say "$command"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command; } </dev/null >&2 ||
    fail 69 "apt-get could not install $2"
}

default_suite() {
  case $pg in
    15) suite=bookworm ;;
    17) suite=trixie ;;
    *) fail 2 "no Debian release here has PostgreSQL $pg; expected 15 or 17, or an image with --base" ;;
  esac
}

find_agent() {
  if [ -z "$agent" ]; then
    (cd "$ROOT" && cargo build --release --locked --bin pgwarden >&2) ||
      fail 1 "the agent could not be built; --agent PATH takes one that is there"
    agent=${CARGO_TARGET_DIR:-$ROOT/target}/release/pgwarden
  fi
  [ -f "$agent" ] || fail 66 "no binary at $agent"
}

# From the ELF header: which machine, and that it is a program for it at all.
check_agent() {
  local magic machine wanted
  magic=$(head -c 4 "$agent" | od -An -tx1 | tr -d ' \n')
  [ "$magic" = 7f454c46 ] || fail 65 "$agent is no Linux program"
  machine=$(od -An -tx1 -j18 -N2 "$agent" | tr -d ' \n')
  case $(uname -m) in
    x86_64) wanted=3e00 ;;
    aarch64) wanted=b700 ;;
    *) fail 65 "pgwarden images are made for x86_64 and aarch64, not for $(uname -m)" ;;
  esac
  case $machine in
    "$wanted") ;;
    3e00) fail 65 "$agent is for x86_64, this machine makes images for $(uname -m)" ;;
    b700) fail 65 "$agent is for aarch64, this machine makes images for $(uname -m)" ;;
    *) fail 65 "$agent is for ELF machine 0x$machine, this machine makes images for $(uname -m)" ;;
  esac
}

# With the driver as an option: the variable loses against what an earlier attempt left behind.
in_store() { buildah ${driver:+--storage-driver "$driver"} "$@"; }

# Overlay needs a filesystem and a kernel that agree; vfs copies, which works everywhere.
choose_storage() {
  driver=${STORAGE_DRIVER:-}
  storage_works && return
  [ -z "$driver" ] || fail 69 "buildah can store no image here with STORAGE_DRIVER=$driver"
  driver=vfs
  storage_works || fail 69 "buildah can store no image here, neither with overlay nor with vfs"
  say "overlay does not work here; using vfs (buildah --storage-driver vfs finds the images)"
}

storage_works() {
  local container mounted=
  container=$(in_store from scratch 2>/dev/null) || return 1
  if [ "$(id -u)" -eq 0 ]; then
    mounted=$(in_store mount "$container" 2>/dev/null) || true
    if [ -n "$mounted" ] && ! touch "$mounted/probe"; then mounted=; fi
  else
    mounted=unprivileged
  fi
  in_store rm "$container" >/dev/null 2>&1 || true
  [ -n "$mounted" ]
}

# Without a container runtime, or inside of a container, only chroot may be left.
choose_isolation() {
  [ -n "${BUILDAH_ISOLATION:-}" ] && return
  local container way
  container=$(in_store from --pull=never "$base")
  for way in oci chroot; do
    if in_store run --isolation "$way" "$container" -- /bin/true >/dev/null 2>&1; then
      export BUILDAH_ISOLATION=$way
      break
    fi
  done
  in_store rm "$container" >/dev/null
  [ -n "${BUILDAH_ISOLATION:-}" ] || fail 69 "buildah runs no program of $base, not even in a chroot"
}

make_base() {
  local key tar container
  local options=(--suite "$suite" --pg "$pg" ${without_jit:+--without-jit})
  key=$("$HERE/base.sh" "${options[@]}" --key) || exit
  base=localhost/pgwarden-base:$suite-pg$pg-$key
  tar=$CACHE/base-$suite-pg$pg-$key.tar
  if [ -z "$refresh" ] && [ -n "$(image_id "$base")" ]; then
    say "cached base $base"
    return
  fi
  if [ -n "$refresh" ] || [ ! -f "$tar" ]; then
    "$HERE/base.sh" "${options[@]}" --out "$tar" || exit
  fi
  container=$(in_store from scratch)
  in_store add --quiet "$container" "$tar" / >/dev/null
  in_store config --cmd /bin/bash --env LANG=C.UTF-8 "$container"
  in_store commit --quiet "$container" "$base" >/dev/null
  in_store rm "$container" >/dev/null
}

# What buildah says is shown only if it fails, and without the whole step that failed.
build() { # build TAG CONTAINERFILE CONTEXT ARGUMENT...
  local name=$1 file=$2 context=$3 before one arguments=()
  shift 3
  for one in "$@"; do arguments+=(--build-arg "$one"); done
  before=$(image_id "$name")
  cp "$HERE/$file" "$context/"
  if ! in_store build --pull=never --layers=false --tag "$name" --file "$context/$file" \
    "${arguments[@]}" "$context" </dev/null >"$scratch/log" 2>&1; then
    grep -Ev '^(STEP|Error: building at STEP) ' "$scratch/log" | tail -n 20 >&2 || true
    fail 1 "buildah could not build $name"
  fi
  forget "$before"
}

image_id() { in_store inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null || true; }

# An image that had the name before and now has none would stay for ever.
forget() {
  if [ -n "$1" ] && in_store images --quiet --no-trunc --filter dangling=true | grep -q "$1"; then
    in_store rmi "$1" >/dev/null 2>&1 || true
  fi
}

build_image() {
  local version revision
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
  revision=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)
  mkdir "$scratch/database"
  cp "$agent" "$scratch/database/pgwarden"
  build "$tag" Containerfile "$scratch/database" BASE="$base" PG_MAJOR="$pg" AGENT=pgwarden \
    VERSION="$version" REVISION="$revision"
}

put_init_in_front() {
  need "$init" "$init"
  mkdir "$scratch/init"
  cp "$(command -v "$init")" "$scratch/init/init"
  build "$tag-$init" Containerfile.init "$scratch/init" IMAGE="$tag" INIT=init
  tag=$tag-$init
}

write_archive() {
  mkdir -p "$(dirname "$archive")"
  rm -f "$archive.part"
  in_store push --quiet "$tag" "oci-archive:$archive.part:$tag" >&2 ||
    fail 1 "the image could not be written to $archive"
  mv "$archive.part" "$archive"
}

report() {
  local size
  size=$(in_store images --json "$tag" | sed -n 's/^ *"size": "\(.*\)",*$/\1/p' | head -n 1)
  say "$tag, from $base"
  say "  image:   $size unpacked"
  say "  agent:   $(megabytes "$(stat -c %s "$agent")")"
  [ -z "$archive" ] || say "  archive: $(megabytes "$(stat -c %s "$archive")") in $archive"
  say "  $SECONDS s"
}

suite='' pg='' base='' agent='' tag='' archive='' init='' without_jit='' refresh=''
while [ $# -gt 0 ]; do
  case $1 in
    --pg | --suite | --base | --agent | --tag | --archive | --init)
      [ -n "${2:-}" ] || fail 2 "$1 wants a value"
      declare "${1#--}=$2"
      shift
      ;;
    --without-jit) without_jit=yes ;;
    --refresh) refresh=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail 2 "unknown argument \"$1\"; --help shows what there is" ;;
  esac
  shift
done
[[ $pg =~ ^[0-9]+$ ]] || fail 2 "--pg must be PostgreSQL's major version, like 15, not \"$pg\""
case $init in
  "" | tini | dumb-init) ;;
  *) fail 2 "unknown init \"$init\"; expected tini or dumb-init" ;;
esac
if [ -n "$base" ]; then
  [ -z "$suite$without_jit$refresh" ] || fail 2 "--base stands against --suite, --without-jit and --refresh"
else
  [ -n "$suite" ] || default_suite
  "$HERE/base.sh" --suite "$suite" --pg "$pg" --key >/dev/null || exit
fi
tag=${tag:-localhost/pgwarden:$pg}

find_agent
check_agent
need buildah buildah
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pgwarden-image.XXXXXX")
trap 'rm -rf --one-file-system "$scratch"' EXIT
mkdir -p "$CACHE"
choose_storage
if [ -z "$base" ]; then
  make_base
else
  in_store pull --quiet --policy missing "$base" >/dev/null ||
    fail 1 "$base is neither here nor can it be pulled"
fi
choose_isolation
build_image
[ -z "$init" ] || put_init_in_front
[ -z "$archive" ] || write_archive
report
