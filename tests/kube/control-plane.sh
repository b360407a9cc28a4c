#!/bin/bash
# A real kube-apiserver and etcd for the conformance tests and for agents run as processes.
#
#   control-plane.sh build                  compile kube-apiserver (about 6 minutes of CPU, once)
#   control-plane.sh up DIR [options]       start etcd and kube-apiserver with their state in DIR;
#                                           prints the path of the administrator's kubeconfig
#       --member NAME                       one more user: DIR/NAME.kubeconfig, token NAME (repeatable)
#       --netns NAME                        in this network namespace, made if it does not exist
#       --addresses N                       there: 198.18.0.1 to .N on lo (default 8); the API is on .1
#   control-plane.sh down DIR               end both, remove the namespace if up made it, and DIR
#
# Needs Go for `build`; etcd, openssl and curl are installed from Debian when root finds them missing.
# Ends with 77 and a line "SKIPPED: ..." where something needed cannot be had.
#
# The namespace is there because a real API server refuses loopback addresses in Endpoints and
# EndpointSlices: agents that are plain processes need others, and the API server beside them.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${PGWARDEN_KUBE_CACHE:-$HERE/../../target/kube-rig}
VERSION=v1.36.3
READY_WITHIN_S=120
STOP_WITHIN_S=3

say() { echo "control-plane: $*" >&2; }
skip() { echo "SKIPPED: $*" >&2; exit 77; }
fail() { say "$*"; exit 1; }
usage() { sed -n '4,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The program's name carries the module's checksum, so that a changed go.mod is built anew.
apiserver() { echo "$CACHE/kube-apiserver-$(cat "$HERE/go.mod" "$HERE/go.sum" "$HERE/main.go" | sha256sum | cut -c1-12)"; }

build() {
  local program; program=$(apiserver)
  [ -x "$program" ] && return
  command -v go >/dev/null || skip "no Go: kube-apiserver $VERSION cannot be built"
  mkdir -p "$CACHE"
  say "building kube-apiserver $VERSION (several minutes, once)"
  local stamp="-X k8s.io/component-base/version.git"
  (cd "$HERE" && CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false" nice -n 19 go build -trimpath \
    -ldflags "-s -w ${stamp}Version=$VERSION ${stamp}Major=1 ${stamp}Minor=36" \
    -o "$program.new" . >"$CACHE/build.log" 2>&1) ||
    skip "kube-apiserver does not build here: $(tail -n 1 "$CACHE/build.log")"
  mv "$program.new" "$program"
}

packages() {
  local missing=() one
  for one in etcd:etcd-server openssl:openssl curl:curl; do
    command -v "${one%%:*}" >/dev/null || missing+=("${one##*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null ||
    skip "${missing[*]} not installed, and only root on Debian can install it here"
  say "installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } \
    >/dev/null 2>&1 || skip "apt-get cannot install ${missing[*]}"
}

within() { if [ -n "$NETNS" ]; then ip netns exec "$NETNS" "$@"; else "$@"; fi; }

# A port nobody listens on. Another process may take it first; then the start fails and says so.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    within bash -c "exec 3<>/dev/tcp/$ADDRESS/$port" 2>/dev/null || { echo "$port"; return; }
  done
}

network() {
  [ -n "$NETNS" ] || return 0
  [ "$(id -u)" -eq 0 ] || skip "a network namespace needs root"
  command -v ip >/dev/null || skip "no ip command (package iproute2)"
  if ! ip netns list | grep -qw "$NETNS"; then
    ip netns add "$NETNS" || skip "this machine refuses network namespaces"
    echo "$NETNS" >"$DIR/netns"
  fi
  ip -n "$NETNS" link set lo up
  local last
  for last in $(seq 1 "$ADDRESSES"); do
    ip -n "$NETNS" addr replace "198.18.0.$last/32" dev lo
  done
}

certificates() {
  local lasting=(-days 3650 -newkey rsa:2048 -nodes)
  {
    openssl req -x509 "${lasting[@]}" -keyout ca.key -out ca.crt -subj /CN=pgwarden-test-ca
    openssl req "${lasting[@]:2}" -keyout server.key -out server.csr -subj /CN=kube-apiserver
    echo "subjectAltName=IP:$ADDRESS,IP:10.96.0.1,DNS:kubernetes.default.svc,DNS:localhost" >server.ext
    openssl x509 -req -days 3650 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
      -extfile server.ext -out server.crt
    openssl genrsa -out accounts.key 2048
  } >openssl.log 2>&1 || fail "openssl failed: see $DIR/openssl.log"
}

# Everyone is an administrator: what roles may do is the subject of other tests.
users() {
  local name
  for name in admin "$@"; do
    echo "$name,$name,$name,\"system:masters\"" >>tokens.csv
    cat >"$name.kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://$ADDRESS:$PORT", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $name, user: {token: "$name"}}]
contexts: [{name: test, context: {cluster: test, user: $name, namespace: default}}]
CONFIG
  done
  chmod 644 -- *.kubeconfig
}

start() { # start NAME PROGRAM ARGUMENTS...
  local name=$1 inside=(); shift
  [ -z "$NETNS" ] || inside=(ip netns exec "$NETNS")
  # Every link of this chain replaces itself by the next: the id stays that of the program.
  setsid "${inside[@]}" "$@" </dev/null >"$DIR/$name.log" 2>&1 &
  echo $! >"$DIR/$name.pid"
}

# Its process still runs, and it is ours and not a later one of the same number.
running() {
  [ -f "$DIR/$1.pid" ] || return 1
  local pid; pid=$(cat "$DIR/$1.pid")
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$DIR/"
}

wait_ready() {
  local ends=$((SECONDS + READY_WITHIN_S))
  while [ $SECONDS -lt $ends ]; do
    [ "$(within curl -s -m 2 --cacert ca.crt -H 'Authorization: Bearer admin' \
      "https://$ADDRESS:$PORT/readyz" 2>/dev/null)" = ok ] && return
    local name
    for name in etcd apiserver; do
      kill -0 "$(cat "$name.pid")" 2>/dev/null && continue
      tail -n 5 "$name.log" >&2
      fail "$name ended: see $DIR/$name.log"
    done
    sleep 0.2
  done
  fail "not ready within $READY_WITHIN_S s: see $DIR/apiserver.log"
}

up() {
  [ $# -ge 1 ] || usage
  mkdir -p "$1"
  DIR=$(cd "$1" && pwd); shift
  NETNS='' ADDRESSES=8 ADDRESS=127.0.0.1
  local members=()
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
      --member) members+=("$2") ;;
      --netns) NETNS=$2 ADDRESS=198.18.0.1 ;;
      --addresses) ADDRESSES=$2 ;;
      *) usage ;;
    esac
    shift 2
  done
  running apiserver && fail "$DIR is in use: down it first"
  build
  packages
  cd "$DIR"
  network
  PORT=$(free_port)
  local etcd peer
  etcd=$(free_port) peer=$(free_port)
  certificates
  rm -f tokens.csv
  users "${members[@]}"
  start etcd etcd --data-dir "$DIR/etcd" --unsafe-no-fsync --logger zap --log-level warn \
    --listen-client-urls "http://$ADDRESS:$etcd" --advertise-client-urls "http://$ADDRESS:$etcd" \
    --listen-peer-urls "http://$ADDRESS:$peer" --initial-advertise-peer-urls "http://$ADDRESS:$peer" \
    --initial-cluster "default=http://$ADDRESS:$peer"
  start apiserver "$(apiserver)" --etcd-servers "http://$ADDRESS:$etcd" \
    --bind-address "$ADDRESS" --secure-port "$PORT" --advertise-address 198.18.0.1 \
    --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/16 \
    --tls-cert-file "$DIR/server.crt" --tls-private-key-file "$DIR/server.key" \
    --token-auth-file "$DIR/tokens.csv" --authorization-mode RBAC \
    --disable-admission-plugins ServiceAccount \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-signing-key-file "$DIR/accounts.key" \
    --service-account-key-file "$DIR/accounts.key"
  wait_ready
  echo "$DIR/admin.kubeconfig"
}

end() { # end NAME
  running "$1" || return 0
  local pid ends=$((SECONDS + STOP_WITHIN_S)); pid=$(cat "$DIR/$1.pid")
  kill "$pid" 2>/dev/null || true
  while running "$1"; do
    [ $SECONDS -lt $ends ] || { kill -9 "$pid" 2>/dev/null || true; }
    sleep 0.1
  done
}

down() {
  [ $# -eq 1 ] || usage
  [ -d "$1" ] || return 0
  DIR=$(cd "$1" && pwd)
  # Ours, or nothing is removed.
  [ -f "$DIR/tokens.csv" ] || [ -z "$(ls -A "$DIR")" ] || fail "$DIR was not made by up"
  end apiserver
  end etcd
  [ ! -f "$DIR/netns" ] || ip netns del "$(cat "$DIR/netns")"
  rm -rf "$DIR"
}

case ${1:-} in
  build) build; apiserver ;;
  up) shift; up "$@" ;;
  down) shift; down "$@" ;;
  *) usage ;;
esac
