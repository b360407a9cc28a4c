"""Writers that go to every member directly, and the oracle of what they were told.

A writer knows no route: it asks its one member again and again, whoever leads. So a member that is
writable when it must not be is found out by its own writer.
"""

import threading
import time
from dataclasses import dataclass

import psycopg

TABLE = "CREATE TABLE IF NOT EXISTS written (member text, number bigint, timeline bigint, PRIMARY KEY (member, number))"
# The timeline of the very server that answers, from the name of the WAL file that it writes.
INSERT = (
    "INSERT INTO written SELECT %s, %s, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint "
    "RETURNING timeline"
)
PAUSE_S = 0.01


@dataclass(frozen=True)
class Row:
    """An acknowledged row: times are those of one monotonic clock."""

    member: str
    number: int
    timeline: int
    sent: float
    told: float


class Writer:
    """One member's own writer; a statement in doubt is never counted and never sent again."""

    def __init__(self, member, host, port, password):
        self.member, self.rows, self.number = member, [], 0
        self.where = {"host": host, "port": port, "user": "postgres", "password": password, "dbname": "postgres",
                      "autocommit": True, "connect_timeout": 2}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        connection = None
        while not self.ended.is_set():
            try:
                if connection is None:
                    connection = psycopg.connect(**self.where)
                self._write(connection)
            except psycopg.Error:
                if connection is not None and connection.closed:
                    connection = None
            self.ended.wait(PAUSE_S)
        if connection is not None:
            connection.close()

    def _write(self, connection):
        self.number += 1
        number, warned = self.number, []
        note = lambda diagnostic: warned.append(diagnostic.message_primary)
        connection.add_notice_handler(note)
        try:
            sent = time.monotonic()
            (timeline,) = connection.execute(INSERT, (self.member, number)).fetchone()
            told = time.monotonic()
        finally:
            connection.remove_notice_handler(note)
        # "The transaction has already committed locally, but might not have been replicated": no
        # acknowledgement, PostgreSQL says.
        if not warned:
            self.rows.append(Row(self.member, number, timeline, sent, told))


class Writers:
    """One for each member."""

    def __init__(self, ips, port, password):
        self.all = [Writer(name, ip, port, password) for name, ip in ips.items()]

    def start(self):
        for writer in self.all:
            writer.thread.start()

    def end(self):
        for writer in self.all:
            writer.ended.set()
        for writer in self.all:
            writer.thread.join(30)

    def rows(self):
        return sorted((row for writer in self.all for row in list(writer.rows)), key=lambda row: row.told)


def two_writers(rows):
    """The first acknowledgement by an old primary of what was sent after a new one's first."""
    firsts = {}
    for row in rows:
        firsts.setdefault((row.timeline, row.member), row)
    for row in rows:
        for first in firsts.values():
            later = first.timeline >= row.timeline and first.member != row.member
            if later and row.sent > first.told:
                return row, first
    return None


def handovers(rows):
    """How often another server was the one that acknowledged."""
    leaders = [(row.timeline, row.member) for row in rows]
    return len(dict.fromkeys(leaders)) - 1


def longest_gap(rows):
    """The longest time in which nobody was told of a row, in milliseconds."""
    times = [row.told for row in rows]
    return round(1000 * max((b - a for a, b in zip(times, times[1:])), default=0))


def missing(rows, stored):
    """Acknowledged rows that the server does not have, or has otherwise."""
    return [row for row in rows if stored.get((row.member, row.number)) != row.timeline]


def check_the_oracle():
    """What it must see, and what it must not: an oracle that sees nothing proves nothing."""
    old = Row("m-0", 1, 1, sent=0.0, told=1.0)
    new = Row("m-1", 1, 2, sent=2.0, told=3.0)
    # Sent before the new one's first acknowledgement and told after it: the answer was late.
    late = Row("m-0", 2, 1, sent=2.9, told=3.5)
    second = Row("m-0", 3, 1, sent=3.1, told=3.5)
    beside = Row("m-0", 3, 2, sent=3.1, told=3.5)
    assert two_writers([old, new, late]) is None
    assert two_writers([old, new, second]) == (second, new)
    assert two_writers([old, new, beside]) == (beside, new), "one timeline of two servers"
    assert missing([old, new], {("m-0", 1): 1, ("m-1", 1): 2}) == []
    assert missing([old, new], {("m-0", 1): 1}) == [new]
    assert missing([old], {("m-0", 1): 2}) == [old], "a row of another line"
    assert (handovers([old, new, late]), longest_gap([old, new])) == (1, 2000)
