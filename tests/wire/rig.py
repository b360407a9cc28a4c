"""Members of Patroni or of pgwarden beside a real API server, all from the same configuration file.

Everything runs in one network namespace, because a real API server refuses loopback addresses in
Endpoints. A Pod object stands for each member; its kubelet is played here.
"""

import json
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from urllib.error import HTTPError

import psycopg
import yaml
from cluster import PROGRAM, Failure, request, until

SCOPE = "wire"
NAMES = ["m-0", "m-1", "m-2"]
PG_PORT, API_PORT = 5432, 8008
PATRONI = Path(sys.executable).with_name("patroni")
BIN_DIR = os.environ.get("WIRE_BIN_DIR") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
PASSWORD = "wire"
MERGE = "application/merge-patch+json"


def lag(member):
    return member.get("replay_lag", member.get("lag"))


class Kube:
    """The API server as an administrator asks it."""

    def __init__(self, kubeconfig):
        self.path = str(kubeconfig)
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster = config["clusters"][0]["cluster"]
        self.context = config["current-context"]
        self.server, self.token = cluster["server"], config["users"][0]["user"]["token"]
        # Its certificate is for the API server, and this is a test's own one.
        self.tls = ssl._create_unverified_context()

    def call(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        ask = urllib.request.Request(self.server + path, data, headers, method=method)
        with urllib.request.urlopen(ask, context=self.tls, timeout=30) as answer:
            return json.load(answer)

    def patch(self, path, body):
        return self.call("PATCH", path, body, MERGE)


class Side:
    """Three members of one kind in a namespace of their own."""

    def __init__(self, kind, dialect, kube, home):
        self.kind, self.dialect, self.kube = kind, dialect, kube
        self.namespace = f"{kind}-{dialect}"
        self.home = Path(home) / self.namespace
        self.account = pwd.getpwnam("postgres")
        first = {"patroni": 11, "pgwarden": 21}[kind]
        self.ips = {name: f"198.18.0.{first + number}" for number, name in enumerate(NAMES)}
        # nosync: or the choice of the synchronous standby would differ from run to run.
        self.tags = {"m-2": {"zone": "a", "nosync": True}}
        self.processes, self.restarts = {}, dict.fromkeys(NAMES, 0)
        self.base = f"/api/v1/namespaces/{self.namespace}"

    # The stage.

    def set_up(self):
        self.kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        spec = {"ports": [{"name": "postgresql", "port": PG_PORT}]}
        if self.dialect == "configmaps":
            spec["selector"] = {"cluster-name": SCOPE, "role": "primary"}
        labels = {"application": "wire", "cluster-name": SCOPE}
        service = {"metadata": {"name": SCOPE, "labels": labels}, "spec": spec}
        self.kube.call("POST", f"{self.base}/services", service)
        for name in NAMES:
            pod = {
                "metadata": {"name": name, "labels": labels},
                "spec": {"nodeName": "node", "containers": [{"name": "postgresql", "image": "x"}]},
            }
            self.kube.call("POST", f"{self.base}/pods", pod)
            directory = self.home / name
            directory.mkdir(parents=True)
            shutil.chown(directory, self.account.pw_uid, self.account.pw_gid)
        self.home.chmod(0o755)

    def config(self, name):
        ip, directory = self.ips[name], self.home / name
        login = lambda user: {"username": user, "password": PASSWORD}
        return {
            "scope": SCOPE,
            "name": name,
            "restapi": {"listen": f"{ip}:{API_PORT}", "connect_address": f"{ip}:{API_PORT}"},
            "kubernetes": {
                "namespace": self.namespace,
                "labels": {"application": "wire"},
                "use_endpoints": self.dialect == "endpoints",
                "pod_ip": ip,
                "ports": [{"name": "postgresql", "port": PG_PORT}],
                "context": self.kube.context,
                "kubeconfig": self.kube.path,
            },
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 3,
                    "maximum_lag_on_failover": 1048576,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 50, "wal_keep_size": "64MB"},
                    },
                },
                "initdb": ["data-checksums", {"encoding": "UTF8"}, {"locale": "C"}],
                "pg_hba": [
                    "local all all trust",
                    "host replication replicator all scram-sha-256",
                    "host all all all scram-sha-256",
                ],
            },
            "postgresql": {
                "listen": f"{ip}:{PG_PORT}",
                "connect_address": f"{ip}:{PG_PORT}",
                "data_dir": str(directory / "data"),
                "bin_dir": BIN_DIR,
                "pgpass": str(directory / "pgpass"),
                "authentication": {"superuser": login("postgres"), "replication": login("replicator"),
                                   "rewind": login("rewinder")},
                "parameters": {"unix_socket_directories": str(directory), "shared_buffers": "16MB",
                               "password_encryption": "scram-sha-256", "log_min_messages": "log"},
            },
            "tags": self.tags.get(name, {}),
        }

    # The kubelet.

    def report(self, name, running):
        ip, now = self.ips[name], datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        identity = f"containerd://{self.namespace}-{name}-{self.restarts[name]}"
        state = {"running": {"startedAt": now}}
        if not running:
            state = {"terminated": {"containerID": identity, "exitCode": 0, "reason": "Completed",
                                    "startedAt": now, "finishedAt": now}}
        container = {"name": "postgresql", "image": "x", "imageID": "", "ready": running,
                     "started": running, "restartCount": self.restarts[name],
                     "containerID": identity, "state": state, "lastState": {}}
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": ip,
                  "conditions": [{"type": "Ready", "status": str(running)}],
                  "containerStatuses": [container]}
        self.kube.patch(f"{self.base}/pods/{name}/status", {"status": status})

    def start(self, name):
        path = self.home / name / "member.yml"
        path.write_text(yaml.safe_dump(self.config(name)))
        path.chmod(0o644)
        uid = self.kube.call("GET", f"{self.base}/pods/{name}")["metadata"]["uid"]
        command = [PATRONI, path] if self.kind_of(name) == "patroni" else [PROGRAM, "agent", path]
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ}
        env = {**keep, "KUBECONFIG": self.kube.path, "HOME": str(self.home / name),
               "POD_NAME": name, "POD_NAMESPACE": self.namespace, "POD_IP": self.ips[name], "POD_UID": uid}
        self.report(name, True)
        with (self.home / name / "member.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                cwd=self.home / name, start_new_session=True,
            )

    def kind_of(self, name):
        """What the member runs when it is started."""
        return self.kind

    def stop(self, name, how=signal.SIGTERM):
        """Whether nothing of it was left when it had ended."""
        process = self.processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        left = self.end_postgres(name)
        self.report(name, False)
        self.restarts[name] += 1
        return not left

    def end_postgres(self, name):
        """With the first process of a container end all others: who works in the data directory."""
        data = str(self.home / name / "data")
        left = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == data:
                    os.kill(int(process.name), signal.SIGKILL)
                    left.append(process.name)
            except OSError:
                continue
        return left

    def end(self):
        for name in list(self.processes):
            try:
                self.stop(name)
            except (OSError, HTTPError) as error:
                print(f"{self.namespace}: {name}: {error}")

    # What is asked.

    def ask(self, name, path, method="GET", body=None):
        return request(f"http://{self.ips[name]}:{API_PORT}{path}", method, body, seconds=30)

    def json(self, name, path):
        return json.loads(self.ask(name, path)[2])

    def sql(self, name, text):
        with psycopg.connect(host=self.ips[name], port=PG_PORT, user="postgres", password=PASSWORD,
                             dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else None

    def leads(self, name):
        return self.ask(name, "/primary", "HEAD")[0] == 200

    def streams(self, name):
        status = self.json(name, "/patroni")
        return status["state"] == "running" and status.get("replication_state") == "streaming"

    def settled(self, leader="m-0", members=NAMES):
        others = [name for name in members if name != leader]
        if not (self.leads(leader) and all(self.streams(name) for name in others)):
            return False
        # What is told of the others arrives a round later.
        view = {m["name"]: m for m in self.json(leader, "/cluster")["members"]}
        timeline = self.json(leader, "/patroni")["timeline"]
        states = all(view[name]["state"] == "streaming" and lag(view[name]) == 0 for name in others)
        return states and all(view[name].get("timeline") == timeline for name in members)

    def wait(self, what, condition, seconds=120):
        try:
            return until(f"{self.namespace}: {what}", condition, seconds)
        except Failure as failure:
            logs = ""
            for name in NAMES:
                log = self.home / name / "member.log"
                if log.exists():
                    logs += f"\n--- {name}\n" + "\n".join(log.read_text().splitlines()[-8:])
            raise Failure(f"{failure}{logs}") from None

    def bring_up(self):
        self.set_up()
        self.start("m-0")
        self.wait("m-0 leads", lambda: self.leads("m-0"))
        for name in NAMES[1:]:
            self.start(name)
        self.wait("all stream", self.settled)
        # A replica that never received a byte shows where its copy began.
        self.sql("m-0", "CREATE TABLE first (x int); INSERT INTO first VALUES (1); CHECKPOINT")
        self.wait("all have received something", self.settled)

    def object(self, role):
        """The path of one of the cluster's objects: leader, config, failover or sync."""
        suffix = f"-{role}"
        if role == "leader" and self.dialect == "endpoints":
            suffix = ""
        return f"{self.base}/{self.dialect}/{SCOPE}{suffix}"

    def annotate(self, role, notes):
        self.kube.patch(self.object(role), {"metadata": {"annotations": notes}})
