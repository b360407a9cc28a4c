"""Every verb of the unmodified patronictl on a cluster of pgwarden's, in both dialects it can read.

    patronictl.py [endpoints|configmaps] [NAME…]     only that dialect, only these tests

A verb that needs what pgwarden has not is in NOT_YET and must fail; one that works must leave it.
"""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from cluster import SCOPE, Failure, Playground, until
from live import sql

PATRONICTL = Path(sys.executable).with_name("patronictl")
NOT_YET = {}
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def equal(found, wanted, what):
    if found != wanted:
        raise Failure(f"{what}: found {found!r}, expected {wanted!r}")


def contains(text, *patterns):
    for pattern in patterns:
        if not re.search(pattern, text, re.MULTILINE):
            raise Failure(f"no {pattern!r} in:\n{text}")


class Ctl:
    """patronictl as an operator calls it: his own file, a kubeconfig, and nothing else."""

    def __init__(self, playground, lock):
        self.playground = playground
        member = playground.configs[playground.names[0]]
        kube = yaml.safe_load(playground.kubeconfig.read_text())
        config = {
            "scope": SCOPE,
            "kubernetes": {
                "namespace": "default",
                "labels": member["kubernetes"]["labels"],
                "use_endpoints": lock == "endpoints",
                "context": kube["current-context"],
            },
            "postgresql": {"authentication": member["postgresql"]["authentication"]},
        }
        self.file = playground.home / "patronictl.yml"
        self.file.write_text(yaml.safe_dump(config))
        password = member["postgresql"]["authentication"]["superuser"]["password"]
        self.env = {
            **os.environ,
            "KUBECONFIG": str(playground.kubeconfig),
            "PGPASSWORD": password,
            "PGUSER": "postgres",
            "COLUMNS": "300",
            # Its configuration is looked for there as well.
            "HOME": str(playground.home),
        }

    def run(self, *args, typed="", code=0):
        ran = subprocess.run(
            [sys.executable, PATRONICTL, "-c", self.file, *args],
            input=typed,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=180,
            check=False,
        )
        said = ran.stdout + ran.stderr
        if ran.returncode != code or "Traceback" in said:
            raise Failure(f"patronictl {' '.join(args)}: ended with {ran.returncode}:\n{said}")
        return ran.stdout if code == 0 else said

    def leader(self):
        until("the cluster is settled", self.playground.settled)
        return self.playground.leader()

    def replicas(self):
        leader = self.leader()
        return [name for name in self.playground.names if name != leader]

    def standby(self):
        """The synchronous standby: the only one that a switchover may go to."""
        self.leader()
        chosen = lambda: [m["name"] for m in self.playground.view()["members"] if m["role"] == "sync_standby"]
        return until("a synchronous standby is chosen", chosen)[0]

    def started(self, name):
        return self.playground.status(name)["postmaster_start_time"]


def soon(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


@test
def list_in_all_formats(ctl):
    leader = ctl.leader()
    # A receiver counts from the segment's beginning until something comes.
    with sql(ctl.playground, leader) as ask:
        ask("CREATE TABLE something (x int)")
    # A member's position is published later than the leader's: only the list itself says when it agrees.
    lags = lambda rows: {(m["Replay Lag"], m["Receive Lag"]) for m in rows if m["Member"] != leader}
    listed = lambda: json.loads(ctl.run("list", SCOPE, "-f", "json"))
    rows = until("nobody is behind", lambda: (rows := listed()) and lags(rows) == {(0, 0)} and rows)
    said = ctl.run("list", SCOPE)
    sysid = ctl.playground.status(leader)["database_system_identifier"]
    contains(said, rf"\+ Cluster: {SCOPE} \({sysid}\)", r"\| Member +\| Host +\| Role +\| State +\| TL \|")
    contains(said, rf"\| {leader} +\| 127.0.0.1:\d+ +\| Leader +\| running +\| +\d+ \|")
    contains(said, r"\| Sync Standby +\| streaming +\|", r"\| Replica +\| streaming +\|")
    equal({row["Member"]: row["Role"] for row in rows}[leader], "Leader", "json")
    for row in rows:
        if row["Member"] != leader:
            equal(row["State"], "streaming", row["Member"])
            contains(row["Replay LSN"], r"^[0-9A-F]+/[0-9A-F]+$")
    for form in ("yaml", "yml"):
        equal(yaml.safe_load(ctl.run("list", SCOPE, "-f", form))[0]["Cluster"], SCOPE, form)
    lines = ctl.run("list", SCOPE, "-f", "tsv").strip().splitlines()
    equal((lines[0].split("\t")[:3], len(lines)), (["Cluster", "Member", "Host"], 4), "tsv")


@test
def list_extended_and_with_the_time(ctl):
    contains(ctl.run("list", SCOPE, "-e"), r"\| Pending restart \|", r"\| Scheduled restart \|", r"\| Tags")
    contains(ctl.run("list", "-t"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@test
def topology(ctl):
    leader = ctl.leader()
    said = ctl.run("topology", SCOPE)
    contains(said, rf"^\| {leader} +\|", *(rf"^\| \+ {name} +\|" for name in ctl.replicas()))


@test
def show_config(ctl):
    equal(yaml.safe_load(ctl.run("show-config", SCOPE))["ttl"], 6, "ttl")


@test
def edit_config(ctl):
    leader = ctl.leader()
    said = ctl.run("edit-config", SCOPE, "--force", "-p", "work_mem=9MB", "-s", "loop_wait=2")
    contains(said, r"^\+ +work_mem: 9MB", "Configuration changed")
    with sql(ctl.playground, leader) as ask:
        show = lambda: ask("SHOW work_mem").fetchone()[0]
        until("work_mem is reloaded", lambda: show() == "9MB")
        ctl.run("edit-config", SCOPE, "--force", "-q", "--apply", "-",
                typed="postgresql: {parameters: {work_mem: 10MB}}")
        until("--apply", lambda: show() == "10MB")
        whole = yaml.safe_load(ctl.run("show-config", SCOPE))
        del whole["postgresql"]["parameters"]["work_mem"], whole["loop_wait"]
        ctl.run("edit-config", SCOPE, "--force", "--replace", "-", typed=yaml.safe_dump(whole))
        until("--replace", lambda: show() == "4MB")
    equal(yaml.safe_load(ctl.run("show-config", SCOPE)), whole, "the document replaced")


@test
def query(ctl):
    leader = ctl.leader()
    said = ctl.run("query", SCOPE, "-c", "SELECT 40 + 2 AS x, pg_is_in_recovery()", "-r", "primary", "-d", "postgres")
    equal(said.strip().splitlines(), ["x\tpg_is_in_recovery", "42\tFalse"], "on the primary")
    said = ctl.run("query", SCOPE, "-c", "SELECT pg_is_in_recovery() AS r", "-r", "replica", "--format", "json")
    equal(json.loads(said), [{"r": True}], "on a replica")
    path = ctl.playground.home / "q.sql"
    path.write_text("SELECT inet_server_port()")
    said = ctl.run("query", SCOPE, "-f", str(path), "-m", leader, "-U", "postgres", "--delimiter", ";")
    port = ctl.playground.configs[leader]["postgresql"]["listen"].rpartition(":")[2]
    contains(said, port)


@test
def dsn(ctl):
    address = lambda name: ctl.playground.configs[name]["postgresql"]["listen"].rpartition(":")
    for name, options in ((ctl.leader(), ()), (ctl.replicas()[0], ("-m", ctl.replicas()[0]))):
        host, _, port = address(name)
        equal(ctl.run("dsn", SCOPE, *options).strip(), f"host={host} port={port}", "dsn")
    contains(ctl.run("dsn", SCOPE, "-r", "replica"), r"^host=127.0.0.1 port=\d+$")


@test
def version(ctl):
    said = ctl.run("version", SCOPE)
    contains(said, *(rf"{name}: Patroni [\d.]+ PostgreSQL \d+\.\d+" for name in ctl.playground.names))


@test
def switchover(ctl):
    leader, new = ctl.leader(), ctl.standby()
    said = ctl.run("switchover", SCOPE, "--leader", leader, "--candidate", new, "--force")
    contains(said, rf'Successfully switched over to "{new}"')
    equal(ctl.leader(), new, "the leader")
    # Given nothing, it asks for everything.
    third = ctl.standby()
    said = ctl.run("switchover", SCOPE, typed=f"{new}\n{third}\nnow\ny\n")
    contains(said, "Current cluster topology", rf'Successfully switched over to "{third}"')
    equal(ctl.leader(), third, "the leader")
    said = ctl.run("switchover", SCOPE, "--leader", new, "--force", code=1)
    contains(said, "Error: Member .* is not the leader")


@test
def history(ctl):
    ctl.leader()
    lines = json.loads(ctl.run("history", SCOPE, "-f", "json"))
    if not lines:
        switchover(ctl)
        lines = json.loads(ctl.run("history", SCOPE, "-f", "json"))
    contains(ctl.run("history", SCOPE), r"\| TL \| +LSN +\| Reason +\| Timestamp +\| New Leader")
    equal(lines[-1]["New Leader"], ctl.leader(), "the last line")
    equal(lines[-1]["TL"] + 1, ctl.playground.status(ctl.leader())["timeline"], "the last line")
    datetime.fromisoformat(lines[-1]["Timestamp"])


@test
def failover(ctl):
    new = ctl.standby()
    contains(ctl.run("failover", SCOPE, "--candidate", new, "--force"), rf'Successfully failed over to "{new}"')
    equal(ctl.leader(), new, "the leader")


@test
def restart(ctl):
    replica = ctl.replicas()[0]
    before = {name: ctl.started(name) for name in ctl.playground.names}
    contains(ctl.run("restart", SCOPE, replica, "--force"), rf"Success: restart on member {replica}")
    restarted = lambda: [name for name in before if ctl.started(name) != before[name]]
    until("it alone is restarted", lambda: restarted() == [replica])
    until("the cluster is settled", ctl.playground.settled)
    said = ctl.run("restart", SCOPE, "-r", "replica", "--any", "--force", "--timeout", "60")
    equal(len(re.findall("^Success: restart on member", said, re.MULTILINE)), 1, "--any")
    until("the cluster is settled", ctl.playground.settled)
    said = ctl.run("restart", SCOPE, ctl.leader(), "--force", "--pg-version", "9.5.2")
    contains(said, "Failed: restart for member .* status code=503")


@test
def restart_of_what_is_pending(ctl):
    ctl.leader()
    ctl.run("edit-config", SCOPE, "--force", "-p", "max_connections=61")
    pending = lambda: [n for n in ctl.playground.names if ctl.playground.status(n).get("pending_restart")]
    until("a restart is pending", lambda: len(pending()) >= 1)
    until("list says why", lambda: "max_connections: 50->61" in ctl.run("list", SCOPE))
    contains(ctl.run("list", SCOPE), r"\| Pending restart \|")
    ctl.run("restart", SCOPE, "--pending", "--force")
    until("nothing is pending", lambda: not pending())


@test
def restart_scheduled_and_flushed(ctl):
    replica = ctl.replicas()[0]
    said = ctl.run("restart", SCOPE, replica, "--force", "--scheduled", soon(3600))
    contains(said, rf"Success: restart scheduled on member {replica}")
    until("list shows it", lambda: "Scheduled restart" in ctl.run("list", SCOPE))
    said = ctl.run("flush", SCOPE, replica, "restart", "--force")
    contains(said, rf"Success: flush scheduled restart for member {replica}")
    before = ctl.started(replica)
    ctl.run("restart", SCOPE, replica, "--force", "--scheduled", soon(4))
    until("it is restarted at its time", lambda: ctl.started(replica) != before)


@test
def switchover_scheduled_and_flushed(ctl):
    said = ctl.run("switchover", SCOPE, "--force", "--leader", ctl.leader(), "--scheduled", soon(3600))
    contains(said, "Switchover scheduled")
    until("list shows it", lambda: "Switchover scheduled at:" in ctl.run("list", SCOPE))
    contains(ctl.run("flush", SCOPE, "switchover", "--force"), "Success: scheduled switchover deleted")


@test
def switchover_at_a_set_time(ctl):
    leader, new = ctl.leader(), ctl.standby()
    ctl.run("switchover", SCOPE, "--force", "--leader", leader, "--candidate", new, "--scheduled", soon(6))
    until("it is carried out", lambda: ctl.playground.leader() == new)


@test
def reload(ctl):
    replica = ctl.replicas()[0]
    contains(ctl.run("reload", SCOPE, replica, "--force"), rf"Reload request received for member {replica}")


@test
def reinit(ctl):
    replica = ctl.replicas()[0]
    said = ctl.run("reinit", SCOPE, replica, "--force", "--wait")
    contains(said, rf"Success: reinitialize for member {replica}", rf"Reinitialize is completed on: {replica}")
    until("the cluster is settled", ctl.playground.settled)


@test
def pause_and_resume(ctl):
    ctl.leader()
    try:
        contains(ctl.run("pause", SCOPE, "--wait"), "cluster management is paused")
        contains(ctl.run("list", SCOPE), "Maintenance mode: on")
        paused = lambda name: ctl.playground.status(name).get("pause")
        until("all say that they are paused", lambda: all(map(paused, ctl.playground.names)))
        contains(ctl.run("pause", SCOPE, code=1), "Error: Cluster is already paused")
        said = ctl.run("restart", SCOPE, ctl.replicas()[0], "--force", "--scheduled", soon(3600), code=1)
        contains(said, "Error: Can't schedule restart in the paused state")
        # Only to a candidate that is named.
        new = ctl.standby()
        said = ctl.run("switchover", SCOPE, "--leader", ctl.leader(), "--candidate", new, "--force")
        contains(said, rf'Successfully switched over to "{new}"')
    finally:
        contains(ctl.run("resume", SCOPE, "--wait"), "cluster management is resumed")
    contains(ctl.run("resume", SCOPE, code=1), "Error: Cluster is not paused")
    until("the cluster is settled", ctl.playground.settled)


@test
def demote_and_promote_cluster(ctl):
    ctl.leader()
    said = ctl.run("demote-cluster", SCOPE, "--force", "--host", "127.0.0.1", "--port", "1")
    contains(said, "cluster is successfully demoted")
    contains(ctl.run("list", SCOPE), r"\| Standby Leader \|")
    leads = lambda: [m["name"] for m in ctl.playground.view()["members"] if m["role"] == "standby_leader"]
    name = until("one leads the standby cluster", lambda: len(leads()) == 1 and leads())[0]
    codes = lambda: [ctl.playground.ask(name, path)[0] for path in ("/standby-leader", "/leader", "/primary")]
    until("the standby leader's checks", lambda: codes() == [200, 200, 503])
    contains(ctl.run("promote-cluster", SCOPE, "--force"), "cluster is successfully promoted")
    until("the cluster is settled", ctl.playground.settled)


@test
def remove(ctl):
    leader = ctl.leader()
    said = ctl.run("remove", SCOPE, typed=f"{SCOPE}\nno\n", code=1)
    contains(said, "You did not exactly type")
    ctl.run("remove", SCOPE, typed=f"{SCOPE}\nYes I am aware\n{leader}\n")
    # The members live on: what was removed under them comes back, and nobody else leads meanwhile.
    until("the cluster is whole again", lambda: ctl.playground.settled() and ctl.run("show-config", SCOPE))
    equal(ctl.leader(), leader, "the leader")


def run_one(function, ctl, lock):
    """One test's outcome as a word and a reason."""
    missing = NOT_YET.get(function.__name__)
    try:
        function(ctl)
    except (Failure, OSError, TypeError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
        if missing:
            return "not yet", missing
        return "FAILED", str(error)
    if missing:
        return "FAILED", f"it works: take {function.__name__} from NOT_YET"
    return "ok", ""


def main():
    locks = [name for name in sys.argv[1:] if name in ("endpoints", "configmaps")]
    only = [name for name in sys.argv[1:] if name not in locks]
    passed = failed = 0
    for lock in locks or ["endpoints", "configmaps"]:
        with Playground(lock) as playground:
            ctl = Ctl(playground, lock)
            for function in TESTS:
                if only and function.__name__ not in only:
                    continue
                outcome, why = run_one(function, ctl, lock)
                print(f"{outcome:8}{lock}: {function.__name__}{': ' if why else ''}{why}", flush=True)
                passed, failed = passed + (outcome != "FAILED"), failed + (outcome == "FAILED")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
