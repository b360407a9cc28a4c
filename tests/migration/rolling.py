"""Three members that are rolled from Patroni to pgwarden and back, each with its own file and data.

Every step of the runbook, docs/migration.md, that is done here has its name; a test compares them.
"""

import json
import re
import signal
import subprocess
from pathlib import Path
from urllib.error import HTTPError

import psycopg
from cluster import PROGRAM, Failure
from rig import API_PORT, NAMES, PASSWORD, PG_PORT, SCOPE, Side
from writers import TABLE, Writers, handovers, longest_gap, missing, two_writers

# An address of their own, beside those of the other rigs.
FIRST_ADDRESS = 11
STEPS = {}


def step(name):
    """A function that does a step of the runbook."""

    def named(function):
        STEPS[name] = function
        return function

    return named


class Rolling(Side):
    """A cluster in which each member runs what it was started as last."""

    def __init__(self, dialect, kube, home):
        super().__init__("patroni", dialect, kube, home)
        self.namespace = f"rolling-{dialect}"
        self.home = Path(home) / dialect[:2]
        self.base = f"/api/v1/namespaces/{self.namespace}"
        self.ips = {name: f"198.18.0.{FIRST_ADDRESS + number}" for number, name in enumerate(NAMES)}
        self.kinds = dict.fromkeys(NAMES, "patroni")
        self.lease = False
        self.files = {}
        self.leftovers = []

    def kind_of(self, name):
        return self.kinds[name]

    def config(self, name):
        """One text for both programs."""
        if name not in self.files:
            config = super().config(name)
            config["bootstrap"]["dcs"]["synchronous_mode"] = True
            config.pop("tags")
            self.files[name] = json.dumps(config)
        config = json.loads(self.files[name])
        if self.lease:
            config["kubernetes"].pop("use_endpoints")
            config["kubernetes"]["lock"] = "lease"
        return config

    def state(self, role, kind=None):
        """The path of the configuration or of the set, wherever it is now."""
        kind = kind or ("configmaps" if self.lease else self.dialect)
        return f"{self.base}/{kind}/{SCOPE}-{role}"

    def sql(self, name, text):
        try:
            return super().sql(name, text)
        except psycopg.Error as error:
            raise LookupError(f"{name}: {error}") from None

    # What people ask.

    def list(self, name):
        """`ctl list`, asked of one member."""
        command = [PROGRAM, "ctl", "list", "--api", f"http://{self.ips[name]}:{API_PORT}"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode != 0:
            raise LookupError(answer.stderr)
        return answer.stdout

    def says_mixed(self, name):
        return re.search(r"^ mixed: Patroni runs on (.*)$", self.list(name), re.M)

    def leader(self):
        """The one that answers as the primary; nobody while there are none or two."""
        leaders = [name for name in self.processes if self.leads(name)]
        return leaders[0] if len(leaders) == 1 else None

    def published(self):
        """The synchronous set, as its object says."""
        notes = self.kube.call("GET", self.state("sync"))["metadata"].get("annotations", {})
        return notes.get("leader"), notes.get("sync_standby") or ""

    def whole(self):
        """One leads, the others stream, and the set names the leader and a standby of its own."""
        leader = self.leader()
        if leader is None or not all(self.streams(name) for name in NAMES if name != leader):
            return None
        recorded, standbys = self.published()
        enforced = self.sql(leader, "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
        good = recorded == leader and standbys and enforced[0][0] > 0
        return leader if good else None

    def led_by(self):
        """Who leads, once the cluster is whole: a moment's stutter of a stream is no answer."""
        return self.wait("one leads and is followed", self.whole)

    def idle_slots(self):
        """Slots that nobody uses on replicas that run pgwarden: a Patroni moves its own on."""
        leader = self.leader()
        if leader is None:
            raise LookupError("nobody leads")
        replicas = [name for name in NAMES if name != leader and self.kinds[name] == "pgwarden"]
        idle = ("SELECT slot_name FROM pg_replication_slots WHERE NOT active AND NOT temporary "
                "AND pg_wal_lsn_diff(pg_last_wal_replay_lsn(), restart_lsn) > 2 * 16777216")
        return {name: slots for name in replicas if (slots := self.sql(name, idle))}

    def is_said(self):
        """Every pgwarden names exactly the Patronis; nobody does where there are none, or only they."""
        theirs = {name for name in NAMES if self.kinds[name] == "patroni"}
        for name in NAMES:
            said = self.says_mixed(name)
            named = set(said[1].split(", ")) if said else set()
            if named != (theirs if self.kinds[name] == "pgwarden" else set()):
                return False
        return True


@step("before-you-begin")
def before(cluster):
    """Everybody streams, the set is published, and `pgwarden check` takes Patroni's file."""
    cluster.wait("the cluster is whole", cluster.whole)
    for name in NAMES:
        path = cluster.home / name / "member.yml"
        check = subprocess.run([PROGRAM, "check", path], capture_output=True, text=True, timeout=30, check=False)
        if check.returncode != 0:
            raise Failure(f"check refuses the file of {name}: {check.stdout}{check.stderr}")
    cluster.wait("nobody says mixed", cluster.is_said)


def replace(cluster, name, kind):
    """Stop the member as a Pod's restart does, and start the other program in its place."""
    before = (cluster.home / name / "member.yml").read_bytes()
    if not cluster.stop(name):
        cluster.leftovers.append(f"{name} ({cluster.kinds[name]})")
    cluster.kinds[name] = kind
    cluster.start(name)
    if (cluster.home / name / "member.yml").read_bytes() != before:
        raise Failure(f"the file of {name} has changed")
    cluster.wait(f"whole again after {name} came back as {kind}", cluster.whole)


@step("replace-a-member")
def forward(cluster, name):
    replace(cluster, name, "pgwarden")


@step("look-while-mixed")
def look(cluster):
    cluster.wait(f"ctl list says what is mixed: {cluster.kinds}", cluster.is_said)
    cluster.wait("no slot of a replica stays behind", lambda: not cluster.idle_slots())


@step("go-back")
def back(cluster, name):
    replace(cluster, name, "patroni")


@step("move-the-leader")
def move(cluster):
    """A switchover to the synchronous standby by name, whatever the two run."""
    leader = cluster.led_by()
    _, standbys = cluster.published()
    wanted = standbys.split(",")[0]
    status, _, said = cluster.ask(leader, "/switchover", "POST", {"leader": leader, "candidate": wanted})
    if status != 200:
        raise Failure(f"switchover to {wanted}: {status} {said}")
    cluster.wait(f"{wanted} leads", lambda: cluster.whole() == wanted)


@step("all-replaced")
def pgwardens_own(cluster):
    look(cluster)
    move(cluster)


@step("a-leader-dies")
def die(cluster):
    """All processes of the leader at once; one of the other kind has to lead, by the lock's age."""
    dead = cluster.led_by()
    kind = cluster.kinds[dead]
    cluster.stop(dead, signal.SIGKILL)
    follows = cluster.wait(f"another leads than {dead} ({kind})", cluster.leader)
    if cluster.kinds[follows] == kind:
        raise Failure(f"{follows} leads, and runs {kind} as the dead {dead} did")
    cluster.start(dead)
    cluster.wait(f"whole again after {dead} came back", cluster.whole)


def there_and_back(cluster, order):
    """Every member in this order, and again."""
    before(cluster)
    for name in order:
        forward(cluster, name)
        look(cluster)
    pgwardens_own(cluster)
    for name in order:
        back(cluster, name)
        look(cluster)


def switchovers(cluster):
    """From a Patroni to a pgwarden and from that to a Patroni, as an operator asks for them."""
    before(cluster)
    first = cluster.led_by()
    replicas = [name for name in NAMES if name != first]
    for name in replicas:
        forward(cluster, name)
    look(cluster)
    move(cluster)
    second = cluster.led_by()
    # With the other replica gone back nobody but a Patroni can be the synchronous standby.
    (third,) = [name for name in replicas if name != second]
    back(cluster, third)
    look(cluster)
    move(cluster)
    if (cluster.kinds[second], cluster.kinds[cluster.led_by()]) != ("pgwarden", "patroni"):
        raise Failure(f"the leader did not move from a pgwarden to a Patroni: {cluster.kinds}")
    look(cluster)
    back(cluster, second)
    look(cluster)


def deaths(cluster):
    """A Patroni that leads pgwardens dies, then a pgwarden that leads Patronis."""
    before(cluster)
    first = cluster.led_by()
    for name in NAMES:
        if name != first:
            forward(cluster, name)
    look(cluster)
    die(cluster)
    second = cluster.led_by()
    for name in NAMES:
        if name not in (first, second):
            back(cluster, name)
    if cluster.led_by() != second:
        raise Failure(f"{second} does not lead any more")
    look(cluster)
    die(cluster)
    back(cluster, second)
    look(cluster)


def copy_state(cluster, source, target):
    """Labels and annotations of what both dialects keep, into objects of the other kind."""
    for role in ("config", "sync"):
        there = cluster.kube.call("GET", cluster.state(role, source))["metadata"]
        copy = {"metadata": {key: there.get(key, {}) for key in ("name", "labels", "annotations")}}
        try:
            cluster.kube.call("DELETE", cluster.state(role, target))
        except HTTPError as error:
            if error.code != 404:
                raise
        cluster.kube.call("POST", f"{cluster.base}/{target}", copy)


def stop_all(cluster):
    """The leader last; who that was. Its lock is released."""
    leader = cluster.led_by()
    for name in [*(name for name in NAMES if name != leader), leader]:
        if not cluster.stop(name):
            cluster.leftovers.append(f"{name} ({cluster.kinds[name]})")
    return leader


def start_all(cluster, first):
    """Who led last comes first: nobody has more."""
    cluster.start(first)
    cluster.wait(f"{first} leads", lambda: cluster.leads(first))
    for name in NAMES:
        if name != first:
            cluster.start(name)
    cluster.wait("whole again", cluster.whole)


def lock_of(cluster):
    group = "/apis/coordination.k8s.io/v1"
    if cluster.lease:
        return f"{group}/namespaces/{cluster.namespace}/leases/{SCOPE}"
    return cluster.object("leader")


def gives_up(cluster, path):
    """The released lock, before it is deleted: nobody may hold it."""
    lock = cluster.kube.call("GET", path)
    holder = lock.get("spec", {}).get("holderIdentity") or lock["metadata"].get("annotations", {}).get("leader")
    if holder:
        raise Failure(f"all members have stopped, and {holder} holds {path}")
    cluster.kube.call("DELETE", path)


def set_selector(cluster, selector):
    if cluster.dialect == "configmaps":
        cluster.kube.patch(f"{cluster.base}/services/{SCOPE}", {"spec": {"selector": selector}})


def move_lock(cluster, to_lease):
    """With a stop of all members: the old lock goes, the state and the Service follow."""
    first = stop_all(cluster)
    gives_up(cluster, lock_of(cluster))
    if cluster.dialect == "endpoints":
        kinds = ["endpoints", "configmaps"]
        copy_state(cluster, *(kinds if to_lease else reversed(kinds)))
    set_selector(cluster, None if to_lease else {"cluster-name": SCOPE, "role": "primary"})
    cluster.lease = to_lease
    start_all(cluster, first)
    move(cluster)


@step("to-the-lease")
def to_the_lease(cluster):
    move_lock(cluster, to_lease=True)


@step("from-the-lease")
def from_the_lease(cluster):
    move_lock(cluster, to_lease=False)


def lease(cluster):
    """All members to pgwarden, the lock into a Lease and back, and all to Patroni."""
    before(cluster)
    for name in NAMES:
        forward(cluster, name)
    look(cluster)
    to_the_lease(cluster)
    from_the_lease(cluster)
    for name in NAMES:
        back(cluster, name)
    look(cluster)


def under_writers(cluster, course):
    """The figures of this course of steps, and what was wrong in words."""
    writers = Writers(cluster.ips, PG_PORT, PASSWORD)
    leader = cluster.wait("the cluster is whole", cluster.whole)
    cluster.sql(leader, TABLE)
    cluster.sql(leader, "TRUNCATE written")
    cluster.leftovers = []
    writers.start()
    try:
        course(cluster)
        cluster.wait("the cluster is whole at the end", cluster.whole)
    finally:
        writers.end()
    return judge(cluster, writers.rows())


def judge(cluster, rows):
    leader = cluster.wait("the cluster is whole", cluster.whole)
    stored = {(member, number): timeline
              for member, number, timeline in cluster.sql(leader, "SELECT * FROM written")}
    lost, wrong = missing(rows, stored), []
    if lost:
        wrong.append(f"missing: {lost[:3]}")
    second = two_writers(rows)
    if second:
        wrong.append(f"two writers: {second}")
    if len(rows) < 1000:
        wrong.append(f"only {len(rows)} rows: the writers did not run")
    if cluster.leftovers:
        wrong.append(f"processes were left behind by {', '.join(cluster.leftovers)}")
    return {"rows": len(rows), "missing": len(lost), "gap": longest_gap(rows), "handovers": handovers(rows)}, wrong
