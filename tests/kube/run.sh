#!/bin/bash
# The conformance tests against a real kube-apiserver: up, cargo test, down. Arguments go to the tests.
# Ends with 77 and a line "SKIPPED: ..." where a real API server cannot be had.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=$(mktemp -d "${TMPDIR:-/tmp}/pgwarden-kube.XXXXXX")
trap '"$HERE/control-plane.sh" down "$DIR"' EXIT

PGWARDEN_KUBECONFIG=$("$HERE/control-plane.sh" up "$DIR")
export PGWARDEN_KUBECONFIG
cd "$HERE/../.."
cargo test --test kube_api -- "$@"
