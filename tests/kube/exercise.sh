#!/bin/bash
# The exercise against a real kube-apiserver: members as processes in a network namespace with
# addresses of their own, because a real API server refuses loopback ones in EndpointSlices.
# Arguments go to `pgwarden playground` (--rounds 3, --sync off, --accidents …, --no-terminated).
# The harness makes the Pods and plays their kubelet; it says whether it reports `terminated`.
# Ends with 77 and a line "SKIPPED: ..." where a real API server cannot be had.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=$(mktemp -d "${TMPDIR:-/tmp}/pgw-kube.XXXXXX")
NETNS=pgwarden-exercise-$$
PROGRAM=${PGWARDEN:-$HERE/../../target/debug/pgwarden}
trap '"$HERE/control-plane.sh" down "$DIR"' EXIT

cd "$HERE/../.."
[ -n "${PGWARDEN:-}" ] || cargo build --quiet
KUBECONFIG_PATH=$("$HERE/control-plane.sh" up "$DIR" --netns "$NETNS" --addresses 16)
# Not exec: the trap takes the rig down after it.
ip netns exec "$NETNS" "$PROGRAM" playground --exercise --kubeconfig "$KUBECONFIG_PATH" \
  --addresses 198.18.0.11,198.18.0.12,198.18.0.13 "$@"
