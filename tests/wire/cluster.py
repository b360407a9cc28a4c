"""A playground's cluster for the tests of the wire, and how its members and its API are asked."""

import http.client
import json
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("PGWARDEN", str(ROOT / "target/debug/pgwarden"))
LONG_S = 180
SCOPE = "playground"


class Failure(Exception):
    """What a test found wrong."""


def until(what, condition, seconds=LONG_S):
    """Waits for a condition that becomes true; its last value, or the last error, is in the failure."""
    ends, last = time.monotonic() + seconds, None
    while time.monotonic() < ends:
        try:
            last = condition()
            if last:
                return last
        except (OSError, http.client.HTTPException, ValueError, KeyError, LookupError) as error:
            last = error
        time.sleep(0.1)
    what = what() if callable(what) else what
    raise Failure(f"{what}: not within {seconds} s; last: {last!r}")


def request(url, method="GET", body=None, headers=None, seconds=60):
    """Status, headers and body (text) of one request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


class Playground:
    """`pgwarden playground` as a person runs it: on a terminal, until it is interrupted."""

    def __init__(self, lock="endpoints", members=3, sync="on", options=()):
        # A short name, because PostgreSQL's sockets are in it; searched by the user postgres.
        self.home = Path(tempfile.mkdtemp(prefix="pgww-"))
        self.home.chmod(0o755)
        self.wanted, self.synchronous = members, sync == "on" and members > 1
        self.configs = {}
        command = [PROGRAM, "playground", f"--lock={lock}", f"--members={members}", f"--sync={sync}"]
        terminal, inside = pty.openpty()
        self.process = subprocess.Popen(
            command + list(options),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TMPDIR": str(self.home)},
            start_new_session=True,
        )
        os.close(inside)
        self.picture = b""
        threading.Thread(target=self._read, args=(terminal,), daemon=True).start()

    def _read(self, terminal):
        """Somebody must read the terminal; the end of it is kept for a failure's report."""
        try:
            while data := os.read(terminal, 65536):
                self.picture = (self.picture + data)[-4000:]
        except OSError:
            pass
        os.close(terminal)

    def __enter__(self):
        try:
            until("the stage is set", self._find)
            until("all members run, one leads, the others stream", self.settled)
        except BaseException:
            print(self.picture.decode(errors="replace"))
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def _find(self):
        if self.process.poll() is not None:
            raise Failure(f"the playground ended: {self.picture.decode(errors='replace')}")
        for path in self.home.glob("pgw-play-*/pg-*/pgwarden.yml"):
            config = yaml.safe_load(path.read_text() or "{}")
            if config.get("restapi"):
                self.configs[path.parent.name] = config
        return len(self.configs) == self.wanted

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def names(self):
        return sorted(self.configs)

    def directory(self, name):
        return next(self.home.glob(f"pgw-play-*/{name}"))

    def ask(self, name, path, **how):
        return request(f"http://{self.configs[name]['restapi']['listen']}{path}", **how)

    def status(self, name):
        return json.loads(self.ask(name, "/patroni")[2])

    def view(self):
        """`/cluster`, of the first member that answers."""
        for name in self.names:
            try:
                return json.loads(self.ask(name, "/cluster")[2])
            except OSError:
                continue
        raise OSError("no member answers")

    def leader(self):
        leaders = [m["name"] for m in self.view()["members"] if m["role"] == "leader"]
        return leaders[0] if leaders and self.ask(leaders[0], "/primary")[0] == 200 else None

    def settled(self):
        members = self.view()["members"]
        states = sorted(member["state"] for member in members)
        wanted = ["running"] + ["streaming"] * (self.wanted - 1)
        timelines = {member.get("timeline") for member in members}
        chosen = [m for m in members if m["role"] == "sync_standby"] or not self.synchronous
        return states == wanted and len(timelines) == 1 and chosen and self.leader()

    def processes(self, name):
        """The member's own processes, the guardian first."""
        config = str(self.directory(name) / "pgwarden.yml").encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if config in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return sorted(found)

    def stop_member(self, name, how):
        """A signal for the guardian; whoever keeps the member starts it again."""
        os.kill(self.processes(name)[0], how)

    @property
    def kubeconfig(self):
        return self.directory(self.names[0]) / "kubeconfig"

    def kube(self, path, **how):
        config = yaml.safe_load(self.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]["server"]
        return request(server + path, **how)

    def objects(self):
        """Everything of the cluster that the API has, by kind and name."""
        found = {}
        for kind in ("pods", "endpoints", "configmaps"):
            body = json.loads(self.kube(f"/api/v1/namespaces/default/{kind}")[2])
            found.update({f"{kind}/{item['metadata']['name']}": item for item in body["items"]})
        return found
