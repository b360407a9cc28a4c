"""Patroni and pgwarden in the same states, compared key by key.

    differential.py [--dialect endpoints|configmaps] [--state NAME] [--keep DIR]

Three members of each, from the same configuration files, beside a real API server with Pod objects
made by hand. What differs must be in differences.yml with its reason, and what is there must differ.
--state: only until that state, and only it is compared.
"""

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError

import yaml
from cluster import ROOT, Failure
from rig import NAMES, Kube, Side
from snapshot import Seen, snapshot

HERE = Path(__file__).parent
CONTROL_PLANE = ROOT / "tests/kube/control-plane.sh"


# The states: each brings a settled cluster into one, and what follows it back into a settled one.


def running(side):
    side.bring_up()


def lagging(side):
    """A replica that receives and does not replay: 20 MB behind.

    Its startup process is frozen: a paused replay is resumed by Patroni.
    """
    freeze(side, signal.SIGSTOP)
    side.sql("m-0", "CREATE TABLE lag AS SELECT md5(x::text) FROM generate_series(1, 300000) x")
    side.wait("the lag is published", lambda: behind(side) > 10_000_000)


def write(side, leader):
    """After a start a receiver counts from the segment's beginning, until something comes."""
    side.sql(leader, "INSERT INTO first VALUES (2)")
    side.wait("it is received", lambda: side.settled(leader))


def behind(side):
    view = {m["name"]: m for m in side.json("m-0", "/cluster")["members"]}
    lag = view["m-2"].get("replay_lag", view["m-2"].get("lag"))
    return lag if isinstance(lag, int) else 0


def freeze(side, how):
    found = side.sql("m-2", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
    os.kill(found[0][0], how)


def after_lagging(side):
    freeze(side, signal.SIGCONT)
    side.wait("nobody is behind", lambda: behind(side) == 0)


def pending_restart(side):
    change = {"postgresql": {"parameters": {"max_connections": 60}}}
    status, _, said = side.ask("m-0", "/config", "PATCH", change)
    if status != 200:
        raise Failure(f"{side.namespace}: PATCH /config: {status} {said}")
    side.wait("a restart is pending", lambda: side.json("m-0", "/patroni").get("pending_restart"))
    side.wait("it is published", lambda: pending(side) == NAMES)


def pending(side):
    return [m["name"] for m in side.json("m-1", "/cluster")["members"] if m.get("pending_restart")]


def after_pending_restart(side):
    for name in NAMES:
        side.ask(name, "/restart", "POST", {})
        side.wait("settled", side.settled)
    write(side, "m-0")
    side.wait("nothing is pending", lambda: not pending(side))


def replica_stopped(side):
    side.stop("m-2")
    others = NAMES[:2]
    state = lambda: {m["name"]: m for m in side.json("m-0", "/cluster")["members"]}["m-2"]["state"]
    side.wait("m-2 is seen to be stopped", lambda: side.settled(members=others) and state() != "streaming")


def after_replica_stopped(side):
    side.start("m-2")
    side.wait("m-2 is back", side.settled)


def paused(side):
    side.annotate("config", {"config": json.dumps({**side.json("m-0", "/config"), "pause": True})})
    side.wait("the change is seen", lambda: side.json("m-1", "/config").get("pause"))
    pod = lambda name: side.kube.call("GET", f"{side.base}/pods/{name}")["metadata"]["annotations"]
    says = lambda name: json.loads(pod(name)["status"]).get("pause")
    side.wait("every pod says that it is paused", lambda: all(map(says, NAMES)))


def after_paused(side):
    side.ask("m-0", "/config", "PATCH", {"pause": None})
    over = lambda name: "pause" not in side.json(name, "/patroni")
    side.wait("it is over", lambda: all(map(over, NAMES)))


def failsafe(side):
    """By itself: a replica of Patroni's goes on showing the map after the mode has ended."""
    side.ask("m-0", "/config", "PATCH", {"failsafe_mode": True})
    listed = lambda name: sorted(side.json(name, "/failsafe")) == NAMES if side.ask(name, "/failsafe")[0] == 200 else False
    side.wait("the map names everybody", lambda: all(map(listed, NAMES)))


def switchover_requested(side):
    """At a time that does not come."""
    at = "2099-01-01T00:00:00+00:00"
    asked = {"leader": "m-0", "candidate": "m-1", "scheduled_at": at}
    status, _, said = side.ask("m-0", "/switchover", "POST", asked)
    if status != 202:
        raise Failure(f"{side.namespace}: POST /switchover: {status} {said}")
    side.wait("it is published", lambda: "scheduled_switchover" in side.json("m-1", "/cluster"), 30)


def after_switchover_requested(side):
    side.ask("m-0", "/switchover", "DELETE")


def switched_over(side):
    status, _, said = side.ask("m-0", "/switchover", "POST", {"leader": "m-0", "candidate": "m-1"})
    if status != 200:
        raise Failure(f"{side.namespace}: POST /switchover: {status} {said}")
    side.wait("m-1 leads", lambda: side.settled("m-1"))
    write(side, "m-1")


def after_switched_over(side):
    side.ask("m-1", "/switchover", "POST", {"leader": "m-1", "candidate": "m-0"})
    side.wait("m-0 leads", side.settled)


def synchronous(side):
    side.ask("m-0", "/config", "PATCH", {"synchronous_mode": True})
    roles = lambda: [m["role"] for m in side.json("m-0", "/cluster")["members"]]
    side.wait("one is synchronous", lambda: "sync_standby" in roles())
    side.wait("it says so itself", lambda: any(side.ask(n, "/sync")[0] == 200 for n in NAMES[1:]))


def after_synchronous(side):
    side.ask("m-0", "/config", "PATCH", {"synchronous_mode": False})
    side.wait("none is", lambda: all(side.ask(name, "/sync")[0] == 503 for name in NAMES))


def no_leader(side):
    """Only a member that must not lead is left."""
    side.stop("m-2")
    side.tags["m-2"] = {"zone": "a", "nosync": True, "nofailover": True}
    side.start("m-2")
    side.wait("m-2 is back", side.settled)
    side.stop("m-1")
    side.stop("m-0")
    side.wait("m-2 says so", lambda: side.json("m-2", "/patroni").get("cluster_unlocked"))


STATES = [running, lagging, pending_restart, replica_stopped, paused, switchover_requested,
          switched_over, synchronous, no_leader]
# A cluster of its own, only when asked for.
ALONE = [failsafe]


def go_through(side, until_state):
    """The snapshots of one side, by state."""
    found = {}
    alone = [state for state in ALONE if state.__name__ == until_state]
    for state in [running, *alone] if alone else STATES:
        seen = Seen(side) if state is running else None
        state(side)
        if seen:
            found["bootstrap"] = seen.end()
        found[state.__name__] = snapshot(side)
        print(f"{side.namespace}: {state.__name__}", flush=True)
        if state.__name__ == until_state:
            break
        back = globals().get(f"after_{state.__name__}")
        if back:
            back(side)
    return found


def differences(patroni, pgwarden):
    """(state/key, what Patroni has, what pgwarden has) of everything that is not the same."""
    for state in patroni:
        for key in sorted(patroni[state].keys() | pgwarden[state].keys()):
            old, new = patroni[state].get(key, "-"), pgwarden[state].get(key, "-")
            if old != new:
                yield f"{state}/{key}", old, new


def judge(found, listed, dialect, whole):
    """Prints what is unlisted and what is listed for nothing; the two counts for the closing line."""
    used, bad = set(), 0
    for key, old, new in found:
        matches = [i for i, one in enumerate(listed) if fnmatch.fnmatchcase(key, one["at"])]
        used.update(matches)
        if not matches:
            bad += 1
            print(f"UNLISTED {dialect}: {key}: Patroni {old!r}, pgwarden {new!r}")
    for number, one in enumerate(listed):
        if whole and number not in used and one.get("dialect", dialect) == dialect:
            bad += 1
            print(f"NO LONGER {dialect}: {one['at']}: {one['why']}")
    return len(used), bad


def compare(arguments, kubeconfig, home):
    listed = yaml.safe_load((HERE / "differences.yml").read_text()) or []
    passed = failed = 0
    for dialect in [arguments.dialect] if arguments.dialect else ["endpoints", "configmaps"]:
        sides, found = [], {}
        try:
            for kind in ("patroni", "pgwarden"):
                side = Side(kind, dialect, Kube(kubeconfig), home)
                sides.append(side)
                found[kind] = go_through(side, arguments.state)
                side.end()
        finally:
            for side in sides:
                side.end()
        if arguments.keep:
            Path(arguments.keep, f"{dialect}.json").write_text(json.dumps(found, indent=1, sort_keys=True))
        if arguments.state:
            only = {kind: {arguments.state: states[arguments.state]} for kind, states in found.items()}
            found = only
        good, bad = judge(list(differences(found["patroni"], found["pgwarden"])), listed, dialect,
                          not arguments.state)
        same = sum(len(keys) for keys in found["patroni"].values())
        print(f"{dialect}: {same} values compared, {good} listed differences, {bad} failures")
        passed, failed = passed + same, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def outside(arguments):
    """Brings the API server up in a namespace of its own, and goes into it."""
    if os.geteuid() != 0:
        print("SKIPPED: differential: needs root, for a network namespace")
        return 77
    home = tempfile.mkdtemp(prefix="pgww-")
    os.chmod(home, 0o755)
    netns = f"pgwarden-wire-{os.getpid()}"
    try:
        up = subprocess.run([CONTROL_PLANE, "up", f"{home}/kube", "--netns", netns, "--addresses", "32"],
                            stdout=subprocess.PIPE, text=True, check=False)
        if up.returncode != 0:
            return up.returncode
        inside = ["ip", "netns", "exec", netns, sys.executable, __file__, *arguments]
        inside += ["--inside", up.stdout.strip(), "--home", home]
        return subprocess.run(inside, check=False).returncode
    finally:
        subprocess.run([CONTROL_PLANE, "down", f"{home}/kube"], check=False)
        subprocess.run(["rm", "-rf", home], check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialect", choices=["endpoints", "configmaps"])
    parser.add_argument("--state", choices=[state.__name__ for state in STATES + ALONE])
    parser.add_argument("--keep", help="write the snapshots into this directory")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--home", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return outside(sys.argv[1:])
    try:
        return compare(arguments, arguments.inside, arguments.home)
    except (Failure, HTTPError) as failure:
        print(f"FAILED: {failure}")
        print("0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
