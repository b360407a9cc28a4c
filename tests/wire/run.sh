#!/bin/bash
# The tests of the wire, each against the published Patroni (PyPI, into target/patroni):
#
#   run.sh parity [--offline]     docs/patroni-parity.md against the package, and against pgwarden
#   run.sh patronictl             the unmodified patronictl on a playground's cluster
#   run.sh haproxy                the unmodified HAProxy before one, through a failover
#   run.sh differential           Patroni and pgwarden in the same states, compared key by key
#   run.sh migration              three members from Patroni to pgwarden and back (tests/migration)
#
# PGWARDEN=PATH: that program; without it target/debug/pgwarden is built.
# Ends with 77 and a line "SKIPPED: ..." where something needed cannot be had.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
what=${1:?which test: parity, patronictl, haproxy, differential or migration}
shift
PYTHON=$PWD/target/patroni/venv/bin/python

scripts/setup.sh patroni
if ! "$PYTHON" -c 'import patroni, psycopg, yaml' 2>/dev/null; then
  echo "SKIPPED: $what: Patroni's package cannot be had here (offline, or no pip)"
  exit 77
fi
if [ -z "${PGWARDEN:-}" ]; then
  cargo build --locked --quiet
  PGWARDEN=$PWD/target/debug/pgwarden
fi
export PGWARDEN PYTHONDONTWRITEBYTECODE=1
case $what in
  haproxy) scripts/setup.sh haproxy ;;
  parity | patronictl | differential | migration) ;;
  *)
    echo "unknown test \"$what\"; expected parity, patronictl, haproxy, differential or migration" >&2
    exit 2
    ;;
esac
where=tests/wire
[ "$what" != migration ] || where=tests/migration
exec "$PYTHON" "$where/$what.py" "$@"
