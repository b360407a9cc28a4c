#!/bin/bash
# The exercise is trusted only because it sees: with the guardian's kill and its hung-agent verdict
# switched off (debug builds obey, see src/sys/fault.rs) and asynchronous replication, an agent
# frozen for two TTLs leaves a second writer behind. The exercise must say so and fail.
# Ends with 77 and a line "SKIPPED: ..." where no PostgreSQL is installed.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$HERE/.."
PROGRAM=${PGWARDEN:-target/debug/pgwarden}
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ||
  { echo "SKIPPED: no PostgreSQL under /usr/lib/postgresql"; exit 77; }
[ -n "${PGWARDEN:-}" ] || cargo build --quiet

KEPT=$(mktemp -d "${TMPDIR:-/tmp}/pgw-sees.XXXXXX")
trap 'rm -rf "$KEPT"' EXIT
chmod 711 "$KEPT"

code=0
TMPDIR=$KEPT PGWARDEN_TEST_NO_KILL_ALL=1 PGWARDEN_TEST_NO_HUNG_KILL=1 \
  "$PROGRAM" playground --exercise --sync off --accidents frozen-agent >"$KEPT/out" 2>&1 || code=$?

grep -E '^(passed|FAILED) frozen-agent' "$KEPT/out" || cat "$KEPT/out"
[ "$code" -eq 105 ] || { echo "expected exit code 105, found $code"; exit 1; }
grep -q 'two writers: YES: ' "$KEPT/out" || { echo "two writers were not reported"; exit 1; }
echo "the exercise sees two writers where the guardian does not kill"
