"""The unmodified HAProxy with Patroni's documented checks before a playground's cluster.

A writer goes through it while the leader is killed and while it is switched over: no acknowledged
row may be missing. A reader goes through it to the replicas, and never finds a primary there.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psycopg
from cluster import Failure, Playground, until
from live import sql

CONFIG = """\
global
    maxconn 100
defaults
    mode tcp
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout check 1s
listen primary
    bind 127.0.0.1:{write}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
listen replicas
    bind 127.0.0.1:{read}
    balance roundrobin
    option httpchk OPTIONS /replica
    http-check expect status 200
    default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Client(threading.Thread):
    """One connection after the other, and one statement after the other on each."""

    def __init__(self, playground, port):
        super().__init__(daemon=True)
        login = playground.configs[playground.names[0]]["postgresql"]["authentication"]["superuser"]
        self.how = dict(host="127.0.0.1", port=port, user="postgres", password=login["password"],
                        dbname="postgres", connect_timeout=3, autocommit=True)
        self.ended, self.broken, self.last = threading.Event(), 0, time.monotonic()
        self.gap_s, self.error = 0.0, None

    def run(self):
        while not self.ended.is_set():
            try:
                with psycopg.connect(**self.how) as connection:
                    while not self.ended.is_set():
                        self.once(connection)
                        now = time.monotonic()
                        self.gap_s, self.last = max(self.gap_s, now - self.last), now
                        self.ended.wait(0.005)
            except psycopg.Error as error:
                self.broken, self.error = self.broken + 1, error
                self.ended.wait(0.05)

    def end(self):
        self.ended.set()
        self.join(30)


class Writer(Client):
    def __init__(self, playground, port):
        super().__init__(playground, port)
        self.next, self.acknowledged = 0, []

    def once(self, connection):
        # A number is used once: an unanswered one may be there or not.
        number, self.next = self.next, self.next + 1
        connection.execute("INSERT INTO through VALUES (%s)", (number,))
        self.acknowledged.append(number)


class Reader(Client):
    def __init__(self, playground, port):
        super().__init__(playground, port)
        self.replicas, self.primaries, self.ports = 0, 0, set()

    def once(self, connection):
        port, replica = connection.execute(
            "SELECT inet_server_port(), pg_is_in_recovery() FROM (SELECT count(*) FROM through) AS t"
        ).fetchone()
        self.ports.add(port)
        self.replicas += replica
        self.primaries += not replica
        raise psycopg.OperationalError("a new connection each time")


def more(writer, rows):
    goal = len(writer.acknowledged) + rows
    until(f"{rows} more rows are written", lambda: len(writer.acknowledged) >= goal)


def only_replicas(reader):
    """HAProxy has checked everybody, and the cluster is at rest."""
    reader.replicas = reader.primaries = 0
    until("replicas are read", lambda: reader.replicas >= 30)
    if reader.primaries:
        raise Failure(f"{reader.primaries} of {reader.primaries + reader.replicas} reads came to a primary")


def killed(playground, writer):
    old = playground.leader()
    playground.stop_member(old, signal.SIGKILL)
    until("another leads", lambda: playground.leader() not in (None, old))
    more(writer, 50)
    until("the cluster is settled", playground.settled)


def switched_over(playground, writer):
    old = playground.leader()
    status, _, said = playground.ask(old, "/switchover", method="POST", body={"leader": old})
    if status != 200:
        raise Failure(f"switchover: {status} {said}")
    more(writer, 50)
    until("the cluster is settled", playground.settled)


def main():
    failures = []
    with Playground("endpoints") as playground:
        write, read = free_ports(2)
        servers = "\n".join(
            f"    server {name} {config['postgresql']['listen']} check port "
            f"{config['restapi']['listen'].rpartition(':')[2]}"
            for name, config in playground.configs.items()
        )
        path = playground.home / "haproxy.cfg"
        path.write_text(CONFIG.format(write=write, read=read, servers=servers))
        with sql(playground, playground.leader()) as ask:
            ask("CREATE TABLE through (n bigint PRIMARY KEY)")
        haproxy = subprocess.Popen(["haproxy", "-db", "-f", path], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        writer, reader = Writer(playground, write), Reader(playground, read)
        try:
            writer.start()
            reader.start()
            more(writer, 100)
            # Before its first check HAProxy takes every server for a good one.
            until("both replicas are read", lambda: len(reader.ports) >= 2, 60)
            for accident in (killed, switched_over):
                writer.gap_s = 0.0
                try:
                    accident(playground, writer)
                    only_replicas(reader)
                    print(f"ok      {accident.__name__}: longest gap {writer.gap_s * 1000:.0f} ms")
                except Failure as failure:
                    failures.append(f"{accident.__name__}: {failure}")
        finally:
            writer.end()
            reader.end()
            haproxy.send_signal(signal.SIGTERM)
            haproxy.wait(30)
        with sql(playground, playground.leader()) as ask:
            there = {row[0] for row in ask("SELECT n FROM through").fetchall()}
        missing = set(writer.acknowledged) - there
        print(f"{len(writer.acknowledged)} rows acknowledged through HAProxy, {len(missing)} missing")
        if missing:
            failures.append(f"missing rows: {sorted(missing)[:10]}")
        if haproxy.returncode not in (0, -signal.SIGTERM, 143):
            failures.append(f"HAProxy ended with {haproxy.returncode}")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{4 - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
