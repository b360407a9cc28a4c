#!/bin/bash
# What building, testing and showing pgwarden need, installed where it is missing.
#
#   setup.sh [build] [postgres] [deny] [helm] [patroni] [haproxy]     default: build postgres
#
# Only what is missing is installed, from Debian's repositories and only by root; anybody else is told
# the command. Nothing that is already there is upgraded or changed.
set -euo pipefail

# The version whose report `deny.toml` was written against.
DENY_VERSION=0.20.2
# Built from its Go module into target/tools where there is no helm 3 on PATH; and the Kubernetes that
# it takes for granted when it asks no cluster.
HELM_VERSION=v3.20.2
HELM_KUBERNETES_MINOR=33
# What the tests of the wire compare with, from PyPI; into target/patroni.
PATRONI="patroni[kubernetes]==4.1.*"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

packages=()
need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null || packages+=("$2")
}

has_postgres() {
  local initdb
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return 0
  done
  return 1
}

# Debian's own version, whichever it is: 15 on bookworm, 17 on trixie.
postgres_package() {
  local one
  for one in postgresql-15 postgresql-17 postgresql-16; do
    if apt-cache show "$one" >/dev/null 2>&1; then
      echo "$one"
      return
    fi
  done
  echo postgresql
}

refreshed=
refresh() {
  if [ -z "$refreshed" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq </dev/null >&2 || say "apt-get update failed; the lists may be old"
    refreshed=yes
  fi
}

install_packages() {
  [ ${#packages[@]} -eq 0 ] && return
  local command="apt-get install -y --no-install-recommends ${packages[*]}"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    fail "missing: ${packages[*]}. As root on Debian: $command"
  fi
  refresh
  say "$command"
  # Debian's package makes a cluster of its own and starts it; nobody asked for one.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi
  DEBIAN_FRONTEND=noninteractive $command </dev/null >&2 ||
    fail "apt-get could not install ${packages[*]}"
  packages=()
}

setup_build() {
  need cc build-essential
  need make make
  need git git
  need setpriv util-linux
  need ps procps
  if ! command -v cargo >/dev/null; then
    fail "missing: cargo. Install rustup (https://rustup.rs); rust-toolchain.toml names the version"
  fi
}

setup_postgres() {
  has_postgres && return
  refresh
  packages+=("$(postgres_package)")
}

setup_deny() {
  local found
  need cc build-essential
  found=$(cargo deny --version 2>/dev/null | cut -d' ' -f2) || true
  [ "$found" = "$DENY_VERSION" ] && return
  # It is compiled: with what the other parts have asked for.
  install_packages
  say "cargo install cargo-deny $DENY_VERSION (several minutes, once; kept in cargo's own home)"
  cargo install cargo-deny --locked --version "$DENY_VERSION" >&2 ||
    fail "cargo-deny $DENY_VERSION could not be installed"
}

# Not an error where it cannot be had: what needs it says so and is left out.
setup_helm() {
  local tools found module=helm.sh/helm/v3
  tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
  for found in "$(command -v helm || true)" "$tools/helm"; do
    [ -x "$found" ] && [[ $("$found" version --short 2>/dev/null) == v3* ]] && return
  done
  if ! command -v go >/dev/null; then
    say "SKIPPED: no helm 3 on PATH and no Go to build it with; the chart's tests are left out"
    return
  fi
  say "go install $module $HELM_VERSION (several minutes, once; into target/tools)"
  mkdir -p "$tools"
  GOBIN=$tools go install -trimpath -ldflags "-s -w \
    -X $module/internal/version.version=$HELM_VERSION \
    -X $module/pkg/chartutil.k8sVersionMajor=1 \
    -X $module/pkg/chartutil.k8sVersionMinor=$HELM_KUBERNETES_MINOR" \
    "$module/cmd/helm@$HELM_VERSION" >&2 ||
    say "SKIPPED: helm $HELM_VERSION could not be built; the chart's tests are left out"
}

# Not an error either where it cannot be had. The copied interpreter runs for the user postgres too.
setup_patroni() {
  local venv python
  venv=$(cd "$(dirname "$0")/.." && pwd)/target/patroni/venv
  "$venv/bin/python" -c 'import patroni, psycopg, yaml' 2>/dev/null && return
  for python in /usr/bin/python3 python3; do
    "$python" -c 'import ensurepip, venv' 2>/dev/null && break
  done
  say "pip install $PATRONI (into target/patroni)"
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  { "$python" -m venv --copies "$venv" &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$PATRONI" "psycopg[binary]"; } >&2 ||
    say "SKIPPED: no Python with venv, or PyPI is out of reach; nothing is compared with Patroni"
}

setup_haproxy() {
  need haproxy haproxy
}

[ $# -gt 0 ] || set -- build postgres
for part in "$@"; do
  case $part in
    build | postgres | deny | helm | patroni | haproxy) "setup_$part" ;;
    *) fail "unknown part \"$part\"; expected build, postgres, deny, helm, patroni or haproxy" ;;
  esac
done
install_packages
