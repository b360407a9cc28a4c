#!/bin/bash
# One statement after the other over libpq, each outcome with its times: what an application sees.
#
#   client.sh FILE CONNINFO STATEMENT PAUSE_MS RETRY_MS
#
# STATEMENT must answer one row that begins with "ack|N|"; the word NUMBER in it becomes N. With
# RETRY_MS above 0 a failed statement is tried once more after that pause. Appends to FILE:
#   BEGAN ENDED ok|failed N REST
# Not -u, and not -e: bash takes a coprocess's variables away the moment it ends.
file=$1 conninfo=$2 statement=$3 pause_ms=$4 retry_ms=$5
# A server that went away is an outcome, not the end of this script.
trap '' PIPE
exec {never}<> <(:)
to= from= psql=

nap() { IFS= read -rt "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))" -u "$never" _ || true; }

disconnect() {
  [ -n "$psql" ] || return 0
  exec {to}>&- {from}<&-
  kill -KILL "$psql" 2>/dev/null
  wait "$psql" 2>/dev/null
  psql=
}

connect() {
  coproc SERVER { exec psql -XqAt "$conninfo" 2>&1; } 2>/dev/null
  # One that has ended already takes its descriptors along.
  local pid=${SERVER_PID:-} ends=("${SERVER[@]:-}")
  if [ -z "$pid" ] || [ -z "${ends[1]:-}" ]; then
    reply=refused
    return 1
  fi
  psql=$pid
  exec {from}<&"${ends[0]}" {to}>&"${ends[1]}"
}

# The outcome in $reply; false unless the row came.
attempt() {
  local n=$1
  [ -n "$psql" ] || connect || return 1
  if ! printf '%s\n' "${statement//NUMBER/$n}" 2>/dev/null >&"$to"; then
    reply=disconnected
    disconnect
    return 1
  fi
  while IFS= read -rt 20 -u "$from" reply; do
    case $reply in
      "ack|$n|"*) return 0 ;;
      # A replica, as asked: the connection stays.
      "ERROR:  cannot execute"*) return 1 ;;
      # Also a warning that the commit is not confirmed by the standby: not acknowledged.
      *) break ;;
    esac
  done
  reply=${reply:-silent}
  disconnect
  return 1
}

n=0
while :; do
  n=$((n + 1))
  began=$EPOCHREALTIME
  reply=
  if attempt "$n"; then
    result=ok
  elif [ "$retry_ms" -gt 0 ]; then
    nap "$retry_ms"
    if attempt "$n"; then result=ok; else result=failed; fi
  else
    result=failed
  fi
  echo "$began $EPOCHREALTIME $result $n ${reply//$'\n'/ }" >>"$file"
  nap "$pause_ms"
done
