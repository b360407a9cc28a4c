#!/bin/bash
# Real pods: builds the image, makes it known to a cluster, and runs tests/e2e there.
#
#   e2e.sh smoke | whole
#
#   KUBECONFIG           the cluster; unset: the one of ../shared/kube where that is, as root
#   IMAGE_LOADER         a command that takes an OCI archive: "kind load image-archive",
#                        "k3d image import"; the image is never pulled
#   AGENT                a binary to put into the image instead of building one
#   E2E_NODE_SHELL       a shell on the node, for what only a node can do ("docker exec -i NODE sh")
#   E2E_API_STOP, E2E_API_START   lines of shell that stop and start the API server
#   E2E_VOLUMES_READY    a line of shell that makes new volumes writable where fsGroup does not
#   E2E_ONLY             names of scenarios, with commas
#   E2E_KEEP             leave the releases (and a cluster started here) for a look
#
# Exit codes: 77 no cluster can be had here, 2 wrong command line, else as the tests end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  smoke) ;;
  whole) export E2E_WHOLE=1 ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

say() { echo "e2e: $*" >&2; }
rig=../shared/kube/cluster
started=

# The cluster that is made on this machine: its node is this machine.
own_cluster() {
  if [ ! -x "$rig" ] || [ "$(id -u)" -ne 0 ]; then
    say "SKIPPED: no cluster; set KUBECONFIG and IMAGE_LOADER (deploy/README.md)"
    exit 77
  fi
  rig=$(realpath "$rig")
  local run=${KUBE_RIG:-/var/tmp/kube-rig}/run
  if [ ! -f "$run/kubelet.pid" ] || ! kill -0 "$(cat "$run/kubelet.pid")" 2>/dev/null; then
    started=1
    # What a cluster that died with its machine has left would all start again.
    [ -f "$run/apiserver.pid" ] && kill -0 "$(cat "$run/apiserver.pid")" 2>/dev/null || "$rig" down >&2
  fi
  KUBECONFIG=$("$rig" up | tail -n 1)
  export KUBECONFIG IMAGE_LOADER="$rig load"
  export E2E_API_STOP="kill -KILL \$(cat $run/apiserver.pid)" E2E_API_START="$rig control-plane"
  # Its host paths belong to root and know no fsGroup.
  export E2E_VOLUMES_READY="chmod 0777 /tmp/hostpath_pv/* 2>/dev/null || true"
}

finish() { [ -z "$started" ] || [ -n "${E2E_KEEP:-}" ] || "$rig" down; }
trap finish EXIT

[ -n "${KUBECONFIG:-}" ] || own_cluster
: "${IMAGE_LOADER:?e2e: KUBECONFIG is set and IMAGE_LOADER is not; see scripts/e2e.sh}"
scripts/setup.sh helm
HELM=$(command -v helm || echo "$PWD/target/tools/helm")
[ -x "$HELM" ] || { say "SKIPPED: no helm"; exit 77; }
export HELM

if [ -z "${AGENT:-}" ]; then
  cargo build --locked --profile quick
  AGENT=${CARGO_TARGET_DIR:-target}/quick/pgwarden
fi
mkdir -p target/images
load() { # load MAJOR TAG [OPTION...]
  images/build.sh --pg "$1" --agent "$AGENT" --tag "${@:2}" --archive target/images/e2e.tar
  $IMAGE_LOADER target/images/e2e.tar
  rm -f target/images/e2e.tar
}
# Two names for what a rolling update takes for two versions.
export E2E_IMAGE=localhost/pgwarden:e2e E2E_NEXT_IMAGE=localhost/pgwarden:e2e-next
load 15 "$E2E_IMAGE"
if [ -n "${E2E_WHOLE:-}${E2E_ONLY:-}" ]; then
  load 15 "$E2E_NEXT_IMAGE"
  load 15 "$E2E_IMAGE" --init tini
  export E2E_INIT_IMAGE=$E2E_IMAGE-tini
  export E2E_PG17_IMAGE=localhost/pgwarden:e2e-17
  load 17 "$E2E_PG17_IMAGE"
  # The guardian's own scenarios, to be run in containers.
  E2E_GUARDIAN_TESTS=$(cargo test --locked --no-run --test guardian --message-format json |
    sed -n 's/.*"executable":"\([^"]*\/deps\/guardian-[^"]*\)".*/\1/p')
  export E2E_GUARDIAN_TESTS
fi

cargo test --locked --test e2e
