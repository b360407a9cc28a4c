"""The rows that only a running cluster can show: endpoints, query parameters, metrics, objects."""

import json
import re
import signal
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import psycopg
import yaml
from cluster import SCOPE, Failure, Playground, until

# What a member must do for `label: …` to be seen, if pgwarden knows the key.
TMP_LABEL, BOOTSTRAP_LABEL = "wire-tmp", "wire-bootstrap"
DIALECTS = {"endpoints": ("endpoints", ""), "configmaps": ("configmaps", "-leader")}
PATCH = {"Content-Type": "application/merge-patch+json"}


class Seen:
    """Every name of an annotation or label that was ever on an object of the cluster."""

    def __init__(self, playground, lock):
        self.playground, self.lock, self.names = playground, lock, set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def end(self):
        self.ended.set()
        self.thread.join()

    def _look(self):
        while not self.ended.wait(0.05):
            try:
                self.look()
            except OSError:
                continue

    def look(self):
        kind, leader = DIALECTS[self.lock]
        for path, item in self.playground.objects().items():
            meta = item["metadata"]
            notes, labels = meta.get("annotations") or {}, meta.get("labels") or {}
            if path.startswith("pods/"):
                status = json.loads(notes.get("status") or "{}")
                self.names |= {f"annotation pod: status.{key}" for key in status}
                self._labels(labels, status)
            for suffix, role in ((leader, "leader"), *((f"-{r}", r) for r in ("config", "failover", "sync"))):
                if path == f"{kind}/{SCOPE}{suffix}":
                    self.names |= {f"annotation {role}: {key}" for key in notes}

    def _labels(self, labels, status):
        if labels.get("cluster-name") == SCOPE:
            self.names.add("label: scope_label")
        if "role" in labels:
            self.names.add("label: role_label")
        values = {"primary": "leader_label_value", "replica": "follower_label_value"}
        if labels.get("role") in values:
            self.names.add(f"label: {values[labels['role']]}")
        if labels.get("role") == "primary" and status.get("role") == "standby_leader":
            self.names.add("label: standby_leader_label_value")
        if TMP_LABEL in labels:
            self.names.add("label: tmp_role_label")
        if labels.get(BOOTSTRAP_LABEL) and status.get("state") == "creating replica":
            self.names.add("label: bootstrap_labels")


@contextmanager
def sql(playground, name):
    config = playground.configs[name]["postgresql"]
    host, _, port = config["listen"].rpartition(":")
    password = config["authentication"]["superuser"]["password"]
    connection = psycopg.connect(
        host=host, port=port, user="postgres", password=password, dbname="postgres", autocommit=True
    )
    try:
        yield lambda text: connection.execute(text)
    finally:
        connection.close()


def configured(playground, name):
    """Gives one member tags, labels and a proxy's address, and starts it again with them."""
    path = playground.directory(name) / "pgwarden.yml"
    config = yaml.safe_load(path.read_text())
    config["tags"] = {"zone": "a"}
    config["kubernetes"]["tmp_role_label"] = TMP_LABEL
    config["kubernetes"]["bootstrap_labels"] = {BOOTSTRAP_LABEL: "yes"}
    config["postgresql"]["proxy_address"] = "127.0.0.1:6432"
    path.write_text(yaml.safe_dump(config))
    playground.stop_member(name, signal.SIGTERM)
    until(f"{name} has its tags", lambda: playground.status(name).get("tags") == {"zone": "a"})
    until("the cluster is settled", playground.settled)


def by_hand(playground, lock, notes):
    """Writes a request into the failover object, as a patronictl does that reaches no member."""
    path = f"/api/v1/namespaces/default/{DIALECTS[lock][0]}"
    body = {"metadata": {"name": f"{SCOPE}-failover", "annotations": notes}}
    status, _, said = playground.kube(
        f"{path}/{SCOPE}-failover", method="PATCH", body=body, headers=PATCH
    )
    if status == 404:
        body["metadata"]["labels"] = {"application": "pgwarden", "cluster-name": SCOPE}
        status, _, said = playground.kube(
            path, method="POST", body=body, headers={"Content-Type": "application/json"}
        )
    if status not in (200, 201):
        raise Failure(f"the failover object cannot be written: {status} {said}")


def obeyed(playground, lock, seen):
    """The request's annotations count as here when a request by hand moves the leader."""
    old = playground.leader()
    new = next(name for name in playground.names if name != old)
    by_hand(playground, lock, {"leader": old, "member": new})
    try:
        until("a request by hand is obeyed", lambda: playground.leader() == new, 60)
        seen.names |= {"annotation failover: leader", "annotation failover: member"}
    except Failure:
        pass
    until("the cluster is settled", playground.settled)


def scenario(playground, lock, seen):
    """Brings the cluster through what makes the rarer annotations; a refusal is an answer too."""
    leader = until("a leader", playground.leader)
    other = next(name for name in playground.names if name != leader)
    playground.ask(leader, "/config", method="PATCH",
                   body={"failsafe_mode": True, "postgresql": {"parameters": {"max_connections": 60}}})
    until("a restart is pending", lambda: "pending_restart" in playground.status(leader))
    at = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    playground.ask(leader, "/switchover", method="POST", body={"leader": leader, "scheduled_at": at})
    playground.ask(other, "/restart", method="POST", body={"schedule": at})
    time.sleep(1.0)
    playground.ask(leader, "/switchover", method="DELETE")
    playground.ask(other, "/restart", method="DELETE")
    obeyed(playground, lock, seen)
    leader = until("a leader", playground.leader)
    playground.ask(leader, "/config", method="PATCH", body={"pause": True})
    try:
        until("a pod says that it is paused", lambda: "annotation pod: status.pause" in seen.names, 60)
    except Failure:
        pass
    playground.ask(leader, "/config", method="PATCH", body={"pause": None})
    # The pod's label follows the answer.
    labelled = lambda: "label: standby_leader_label_value" in seen.names
    demoted(playground, leader, "/standby-leader", labelled)
    leader = until("a leader", playground.leader)
    last = playground.names[-1]
    if leader == last:
        playground.ask(leader, "/switchover", method="POST", body={"leader": leader})
        until("another leads", lambda: playground.leader() not in (None, last))
        until("the cluster is settled", playground.settled)
    taken = lambda: playground.ask(last, "/reinitialize", method="POST", body={})[0] == 200
    started = playground.status(last)["postmaster_start_time"]
    until("a new copy is begun", taken)
    # The copy itself may be over before it is looked at.
    until("it is there", lambda: playground.status(last).get("postmaster_start_time", started) != started)
    until("the cluster is settled", playground.settled)


def demoted(playground, leader, path, shown=lambda: True):
    """What the leader answers while the cluster follows one that is not to be reached."""
    follow = lambda whom: playground.ask(leader, "/config", method="PATCH", body={"standby_cluster": whom})
    follow({"host": "127.0.0.1", "port": 1})
    try:
        until("a standby leader", lambda: playground.ask(leader, path)[0] == 200 and shown(), 60)
    except Failure:
        pass
    answer = playground.ask(leader, path)
    follow(None)
    until("the cluster is settled", playground.settled)
    return answer


def in_quorum(playground, leader, path):
    """What the members answer while they commit by quorum."""
    mode = lambda value: playground.ask(leader, "/config", method="PATCH", body={"synchronous_mode": value})
    before = json.loads(playground.ask(leader, "/config")[2]).get("synchronous_mode")
    answers = lambda: [playground.ask(name, path) for name in playground.names]
    mode("quorum")
    try:
        until("a member of the quorum", lambda: any(status == 200 for status, _, _ in answers()), 60)
    except Failure:
        pass
    found = answers()
    mode(before)
    until("the cluster is settled", playground.settled)
    return found


def endpoints(result, document, playground):
    leader = until("a leader", playground.leader)
    replicas = [name for name in playground.names if name != leader]
    unknown = playground.ask(leader, "/no-such-path")
    for row, (state, _) in document.items():
        method, path = row.split(" ", 1)
        if path == "(health checks)":
            answers = [playground.ask(leader, "/primary", method=method),
                       playground.ask(replicas[0], "/replica", method=method)]
            here = all(status == 200 and not body for status, _, body in answers)
        elif method == "GET" and "standby" in path:
            answers = [demoted(playground, leader, path)]
            here = answers[0][0] == 200
        elif method == "GET":
            ask = lambda: [playground.ask(name, path) for name in (leader, *replicas)]
            answers = in_quorum(playground, leader, path) if path == "/quorum" else ask()
            here = any(status == 200 and status != unknown[0] for status, _, _ in answers)
        else:
            answers = [playground.ask(leader, path, method=method, body="[")]
            # What is never scheduled can be deleted all the same: with 404.
            here = answers[0][0] not in (501, 502) if method != "DELETE" else None
        said = [status for status, _, _ in answers]
        right = here is None or state == "different" or (state == "yes") == here
        result.check(right, f"endpoints: `{row}` is {state!r}, answers {said}")


def parameters(result, document, playground):
    """On a replica whose replay is held: it has received everything and replayed less."""
    leader = until("a leader", playground.leader)
    replica = next(m["name"] for m in playground.view()["members"] if m["role"] == "sync_standby")
    with sql(playground, replica) as ask_replica, sql(playground, leader) as ask_leader:
        ask_replica("SELECT pg_wal_replay_pause()")
        try:
            ask_leader("CREATE TABLE IF NOT EXISTS wire (x int); INSERT INTO wire VALUES (1)")
            code = lambda path: playground.ask(replica, path)[0]
            proofs = {
                "lag": lambda: code("/replica?lag=0") == 503 and code("/replica?lag=1GB") == 200,
                "mode": lambda: (code("/readiness?lag=0&mode=apply"),
                                 code("/readiness?lag=0&mode=write")) == (503, 200),
            }
            for name, proof in proofs.items():
                proved(result, document, name, proof)
        finally:
            ask_replica("SELECT pg_wal_replay_resume()")
    tagged = playground.names[-1]
    until("the cluster is settled", playground.settled)
    code = lambda path: playground.ask(tagged, path)[0]
    proved(result, document, "tag_*",
           lambda: (code("/health?tag_zone=a"), code("/health?tag_zone=b")) == (200, 503))


def proved(result, document, name, proof):
    try:
        until(f"{name}=", proof, 60)
        here = True
    except Failure:
        here = False
    result.check((document[name][0] == "yes") == here, f"parameters: `{name}`: shown: {here}")


def metrics(result, document, playground):
    pages = "".join(playground.ask(name, "/metrics")[2] for name in playground.names)
    there = set(re.findall(r"^(\w+)\{", pages, re.MULTILINE))
    for name, (state, _) in document.items():
        result.check(state == "different" or (state == "yes") == (name in there),
                     f"metrics: `{name}` is {state!r}, on the page: {name in there}")


def objects(result, document, seen):
    for name, (state, _) in document.items():
        result.check(state == "different" or (state == "yes") == (name in seen),
                     f"kubernetes: `{name}` is {state!r}, seen: {name in seen}")


def check(result, document):
    seen = None
    for lock in DIALECTS:
        with Playground(lock) as playground:
            now = Seen(playground, lock)
            try:
                configured(playground, playground.names[-1])
                scenario(playground, lock, now)
                if lock == "endpoints":
                    parameters(result, document["parameters"], playground)
                    metrics(result, document["metrics"], playground)
                    endpoints(result, document["endpoints"], playground)
            finally:
                now.end()
        # A row counts for both dialects, or for none.
        seen = now.names if seen is None else seen & now.names
    objects(result, document["kubernetes"], seen)
