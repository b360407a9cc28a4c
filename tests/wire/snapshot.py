"""Everything a cluster shows in one state, flat: the answers of its members and its objects.

What differs from run to run is replaced by its form: positions by <int>, instants by their format,
addresses by their member. Everything else is compared as it is.
"""

import json
import re
import threading
from urllib.error import HTTPError

from cluster import Failure, until
from rig import NAMES

DOCUMENTS = ["/patroni", "/cluster", "/history", "/config"]
CHECKS = [
    "/", "/primary", "/read-write", "/master", "/leader", "/standby-leader", "/standby_leader",
    "/replica", "/read-only", "/synchronous", "/sync", "/read-only-sync", "/read-only-synchronous",
    "/quorum", "/read-only-quorum", "/asynchronous", "/async", "/health", "/liveness", "/readiness",
    "/patroni", "/cluster", "/history", "/config", "/metrics", "/failsafe", "/no-such-path",
    "/primary/more", "/replica/", "/healthz", "/primary-x",
]
QUERIES = ["lag=0", "lag=1MB", "lag=1GB", "lag=1048576", "lag=nonsense", "lag=1MB&lag=1GB", "tag_zone=a",
           "tag_zone=b", "tag_none=x", "tag_nosync=true", "replication_state=streaming"]
WITH_QUERIES = ["/primary", "/leader", "/replica", "/read-only", "/async", "/sync", "/health",
                "/read-only-sync", "/readiness"]
MODES = ["mode=apply", "mode=write", "mode=write&lag=0", "mode=apply&lag=1MB", "mode=write&lag=1MB", "mode=x&lag=1MB"]
POSITIONS = {"location", "received_location", "replayed_location", "xlog_location", "receive_lsn",
             "replay_lsn", "optime", "lsn", "dcs_last_seen"}
NAMES_OF_FORM = {"version", "database_system_identifier", "uid", "resourceVersion", "initialize",
                 "server_version", "proxy_url"}
INSTANT = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
# Lags and positions move while nothing happens; in the state that is about them, their size counts.
LAGS = {"lag", "receive_lag", "replay_lag"}
NOTES_IN_JSON = ("config", "history", "status", "failsafe", "slots", "retain_slots")


def flatten(value, path=""):
    if isinstance(value, dict):
        if not value:
            yield path, "{}"
        for key, inner in value.items():
            yield from flatten(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        if not value:
            yield path, "[]"
        for number, inner in enumerate(value):
            named = inner.get("name") or inner.get("application_name") if isinstance(inner, dict) else None
            yield from flatten(inner, f"{path}[{named or number}]")
    else:
        yield path, value


def form(key, value):
    """A value without what differs from run to run."""
    last = re.split(r"[.\[ ]", key)[-1]
    if last in ("replayed_timestamp", "patroni_xlog_replayed_timestamp"):
        # None, or 0, until the first transaction after a start is replayed.
        return "<instant or none>"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if last in LAGS:
            return "0" if value == 0 else "<some>" if value < 10_000_000 else "<much>"
        # The second of a line of the history is a position as well.
        position = last in POSITIONS | NAMES_OF_FORM or (last == "1]" and "[" in key and value > 65536)
        return "<int>" if position else value
    # PostgreSQL leaves zeros at the end of a fraction out.
    text = re.sub(r"(:\d\d)\.\d{1,6}(?!\d)", r"\1.999999", str(value))
    if re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", text):
        return "<X/X>"
    if INSTANT.match(text) or last in POSITIONS | NAMES_OF_FORM:
        if re.fullmatch(r"\d+", text):
            return "<digits>"
        return re.sub(r"[0-9A-Fa-f]{2,}|\d", "9", text) if last in NAMES_OF_FORM else re.sub(r"\d", "9", text)
    return text


def normal(side, found):
    """With the members' names for their addresses, and the forms of values."""
    result = {}
    for key, value in found.items():
        for name, ip in side.ips.items():
            if isinstance(value, str):
                value = re.sub(rf"\b{re.escape(ip)}\b", f"<{name}>", value)
        if isinstance(value, str):
            value = value.replace(side.namespace, "<namespace>")
        result[key] = form(key, value)
    return result


def documents(side, name):
    for path in DOCUMENTS:
        status, headers, body = side.ask(name, path)
        where = f"{name} GET {path}"
        yield f"{where}: type", next((v for k, v in headers.items() if k.lower() == "content-type"), None)
        try:
            yield from ((f"{where}: {key}", value) for key, value in flatten(json.loads(body), "$"))
        except ValueError:
            yield f"{where}: text", body
    for line in side.ask(name, "/metrics")[2].splitlines():
        if line.startswith("# TYPE patroni_"):
            yield f"{name} metric type {line.split()[2]}", line.split()[3]
        elif line.startswith("patroni_"):
            metric, labels, value = re.match(r"(\w+)(\{.*\}) (.+)", line).groups()
            number = float(value)
            yield f"{name} metric {metric}", f"{labels} {value if number < 1000 else '<large>'}"


def probes(side, name):
    paths = CHECKS + [f"{path}?{query}" for path in WITH_QUERIES for query in QUERIES]
    paths += [f"/readiness?{query}" for query in MODES]
    for path in paths:
        for method in ("GET", "HEAD", "OPTIONS"):
            yield f"{name} {method} {path}", side.ask(name, path, method)[0]


def objects(side):
    for role in ("leader", "config", "failover", "sync"):
        try:
            found = side.kube.call("GET", side.object(role))
        except HTTPError as error:
            if error.code != 404:
                raise
            yield f"object {role}", "none"
            continue
        yield from about(f"object {role}", found)
        if role == "leader" and side.dialect == "endpoints":
            for key, value in flatten(found.get("subsets") or [], "subsets"):
                yield f"object leader: {key}", value
    for name in NAMES:
        yield from about(f"object pod {name}", side.kube.call("GET", f"{side.base}/pods/{name}"))


def about(where, found):
    for key, value in (found["metadata"].get("labels") or {}).items():
        yield f"{where}: label {key}", value
    for key, value in (found["metadata"].get("annotations") or {}).items():
        if key in NOTES_IN_JSON:
            for inner, leaf in flatten(json.loads(value), key):
                yield f"{where}: {inner}", leaf
        else:
            yield f"{where}: {key}", value


def at_rest(side):
    """What the members publish is where they are."""
    published = []
    for name in side.processes:
        notes = side.kube.call("GET", f"{side.base}/pods/{name}")["metadata"].get("annotations") or {}
        published.append(json.loads(notes.get("status") or "{}").get("xlog_location"))
    now = []
    for name in side.processes:
        xlog = side.json(name, "/patroni").get("xlog") or {}
        now.append(xlog.get("location") or max(xlog.get("received_location") or 0, xlog.get("replayed_location") or 0))
    # Nobody is a little behind: either not at all, or in the state that is about it.
    view = side.json(sorted(side.processes)[-1], "/cluster")["members"]
    lags = [member[key] for member in view for key in LAGS & member.keys() if key != "receive_lag"]
    return published == now and not any(isinstance(lag, int) and 0 < lag < 10_000_000 for lag in lags)


def snapshot(side):
    try:
        until("at rest", lambda: at_rest(side), 30)
    except Failure as failure:
        print(f"{side.namespace}: {failure}")
    # What moves comes first.
    members, found = sorted(side.processes), {}
    for name in members:
        found.update(documents(side, name))
    found.update(objects(side))
    for name in members:
        found.update(probes(side, name))
    return normal(side, found)


class Seen:
    """The states and labels that the members' Pods went through."""

    def __init__(self, side):
        self.side, self.found, self.ended = side, {}, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.ended.wait(0.05):
            for name in NAMES:
                try:
                    meta = self.side.kube.call("GET", f"{self.side.base}/pods/{name}")["metadata"]
                except OSError:
                    continue
                status = json.loads((meta.get("annotations") or {}).get("status") or "{}")
                label = (meta.get("labels") or {}).get("role")
                self.found[f"{name}: {status.get('state')}, {status.get('role')}, label {label}"] = "seen"

    def end(self):
        self.ended.set()
        self.thread.join()
        return self.found
