#!/bin/bash
# The plain manifests, rendered from the chart into a directory.
#
#   manifests.sh DIRECTORY
#
# They take their passwords from a Secret of the user's, so that nothing secret is rendered and two
# renderings are equal.
set -euo pipefail

[ $# -eq 1 ] || { echo "manifests: expected a directory" >&2; exit 2; }
out=$1
repository=$(cd "$(dirname "$0")/.." && pwd)

helm=${HELM:-}
for found in "$(command -v helm || true)" "$repository/target/tools/helm"; do
  [ -n "$helm" ] || [ ! -x "$found" ] || helm=$found
done
[ -n "$helm" ] || { echo "manifests: no helm; run scripts/setup.sh helm" >&2; exit 1; }

mkdir -p "$out"
{
  cat <<'HEAD'
# A cluster named main in the namespace pgwarden. Rendered from deploy/chart by `make manifests`; change
# the chart, not this file.
#
#   kubectl apply -f namespace.yaml
#   kubectl -n pgwarden create secret generic main-passwords --from-literal=superuser-password=… \
#     --from-literal=replication-password=… --from-literal=restapi-password=…
#   kubectl apply -f pgwarden.yaml
#
# Put your registry before the image's name. The leader is the Service main, its replicas main-repl.
HEAD
  "$helm" template main "$repository/deploy/chart" --namespace pgwarden --kube-version 1.33 \
    --set auth.existingSecret=main-passwords |
    sed -e '/^ *helm.sh\/chart: /d' -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^# Source: /d'
} >"$out/pgwarden.yaml.new"
mv "$out/pgwarden.yaml.new" "$out/pgwarden.yaml"
