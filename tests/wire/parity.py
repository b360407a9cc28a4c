"""docs/patroni-parity.md against Patroni's package, and against what pgwarden does.

    parity.py [--offline]      --offline: nothing that needs a running cluster

Fails when a name of the package has no row, when a row names what the package has not, and when a
row says more, or less, than is so.
"""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import live
import names
import yaml
from cluster import PROGRAM, ROOT
from patroni import validator

DOCUMENT = ROOT / "docs/patroni-parity.md"
HEADINGS = {
    "Configuration": "configuration",
    "Environment": "environment",
    "REST endpoints": "endpoints",
    "Query parameters": "parameters",
    "Metrics": "metrics",
    "patronictl": "patronictl",
    "Kubernetes objects": "kubernetes",
}
STATES = ("yes", "different")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \|$")
BIN_DIR = max(map(str, Path("/usr/lib/postgresql").glob("*/bin")), default="/usr/bin")
# Values that a key's type alone does not tell.
SAMPLES = {
    "log.mode": "0640",
    "citus": {"group": 1, "database": "x"},
    "watchdog": {"mode": "automatic"},
    "bootstrap.dcs.synchronous_mode": "quorum",
    "bootstrap.dcs.ttl": 30,
    "bootstrap.dcs.loop_wait": 5,
    "bootstrap.dcs.retry_timeout": 5,
    "bootstrap.dcs.maximum_lag_on_syncnode": 1048576,
    "bootstrap.dcs.synchronous_node_count": 2,
    "bootstrap.dcs.standby_cluster": {"host": "10.9.9.9"},
    "bootstrap.dcs.slots": {"s": {"type": "physical"}},
    "bootstrap.dcs.permanent_slots": {"s": {"type": "physical"}},
    "bootstrap.dcs.permanent_replication_slots": {"s": {"type": "physical"}},
    "bootstrap.dcs.ignore_slots": [{"name": "s"}],
    "bootstrap.initdb": ["data-checksums"],
    "bootstrap.method": "initdb",
    "bootstrap.<method>.keep_existing_recovery_conf": True,
    "bootstrap.users": {"u": {"password": "p"}},
    "bootstrap.pg_hba": ["local all all trust"],
    "bootstrap.dcs.postgresql.pg_hba": ["local all all trust"],
    "bootstrap.dcs.postgresql.pg_ident": ["m a b"],
    "kubernetes.labels": {"application": "x"},
    "kubernetes.ports": [{"name": "postgresql", "port": 5432}],
    "kubernetes.pod_ip": "10.9.9.9",
    "kubernetes.retriable_http_codes": [500],
    "log.level": "DEBUG",
    "log.type": "json",
    "log.mode": 416,
    "postgresql.<method>.no_leader": True,
    "postgresql.<method>.no_params": True,
    "postgresql.basebackup": {"checkpoint": "fast"},
    "postgresql.bin_dir": BIN_DIR + "/",
    "postgresql.bin_name": {"postgres": "postgres"},
    "postgresql.data_dir": "/var/tmp/pgdata",
    "postgresql.callbacks": {"on_start": "/bin/true"},
    "postgresql.custom_conf": "/etc/postgresql/custom.conf",
    "postgresql.connect_address": "10.9.9.9:5432",
    "postgresql.create_replica_method": ["basebackup"],
    "postgresql.create_replica_methods": ["basebackup"],
    "postgresql.listen": "0.0.0.0:5433",
    "postgresql.parameters": {"work_mem": "8MB"},
    "postgresql.pg_hba": ["local all all trust"],
    "postgresql.pg_ident": ["m a b"],
    "postgresql.proxy_address": "10.9.9.9:6432",
    "postgresql.recovery_conf": {"restore_command": "cp a b"},
    "postgresql.use_unix_socket": True,
    "postgresql.use_unix_socket_repl": True,
    "postgresql.remove_data_directory_on_diverged_timelines": True,
    "postgresql.remove_data_directory_on_rewind_failure": True,
    "restapi.allowlist": ["127.0.0.1"],
    "restapi.connect_address": "10.9.9.9:8008",
    "restapi.http_extra_headers": {"X-A": "b"},
    "restapi.https_extra_headers": {"X-A": "b"},
    "restapi.listen": "0.0.0.0:8009",
    "restapi.verify_client": "optional",
    "restapi.server_tokens": "minimal",
    "tags.failover_priority": 2,
    "tags.sync_priority": 2,
    "tags.replicatefrom": "main-1",
    "watchdog.mode": "automatic",
}
SWITCHES = ("tags.", "bootstrap.dcs.failsafe", "bootstrap.dcs.check_", "bootstrap.dcs.pause")
# A name of the environment whose effect `check` cannot show, and how it is shown instead.
OTHER_PROOF = {"PATRONICTL_CONFIG_FILE", "DCS_URL", "PATRONI_CONFIGURATION"}
UNUSED = ("unknown key", "it has no effect", "this version does not support it")


class Result:
    """What was found, counted once for the closing line."""

    def __init__(self):
        self.passed, self.failures = 0, []

    def check(self, good, why):
        if good:
            self.passed += 1
        else:
            self.failures.append(why)
            print(f"FAILED: {why}")


def rows(text):
    """The document's rows by kind: name -> (state, note)."""
    kind, found = None, {kind: {} for kind in HEADINGS.values()}
    for line in text.splitlines():
        if line.startswith("## "):
            kind = HEADINGS.get(line[3:])
        match = ROW.match(line)
        if match and kind:
            name, state, note = (part.strip() for part in match.groups())
            if name in found[kind]:
                raise SystemExit(f"{DOCUMENT.name}: `{name}` has two rows")
            found[kind][name] = (state, note)
    return found


def complete(result, document, package):
    for kind, wanted in package.items():
        for name in sorted(wanted - set(document[kind])):
            result.check(False, f"{kind}: `{name}` has no row")
        for name, (state, note) in document[kind].items():
            result.check(name in wanted, f"{kind}: `{name}` is not in the package")
            result.check(state in STATES, f"{kind}: `{name}` is {state!r}, expected one of {STATES}")
            result.check(state == "yes" or note, f"{kind}: `{name}` is {state!r} and says no reason")


def certificate():
    """A pair of certificate and key that the keys of TLS can name."""
    directory = Path(tempfile.mkdtemp(prefix="pgwarden-parity-"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=main-0", "-days", "3650", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
        check=True, capture_output=True,
    )
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return {"certfile": str(directory / "cert.pem"), "keyfile": str(directory / "key.pem")}


PAIR = certificate()
# Keys of TLS mean something beside these.
BESIDE = {"restapi": ("keyfile", "keyfile_password", "cafile", "ciphers", "verify_client", "certfile"),
          "ctl": ("keyfile", "keyfile_password", "certfile")}
SAMPLES |= {f"{section}.{key}": value for section in BESIDE for key, value in PAIR.items()}
SAMPLES |= {"restapi.cafile": PAIR["certfile"], "ctl.cacert": PAIR["certfile"], "restapi.verify_client": "optional",
            "restapi.server_tokens": "productonly", "restapi.ciphers": "HIGH",
            "kubernetes.bootstrap_labels": {"made": "now"}, "restapi.authentication": {"username": "u", "password": "p"}}


def base(directory, key=""):
    """A file without a problem, which one more key, or a variable, is laid over."""
    config = plain(directory)
    section, _, last = key.partition(".")
    if last in BESIDE.get(section, ()):
        config[section] = config.get(section, {}) | PAIR
        if last == "verify_client":
            config[section]["cafile"] = PAIR["certfile"]
        config[section].pop(last, None)
    if section == "log" and last in ("mode", "file_num", "file_size"):
        # What a file is like matters where there is one.
        config["log"] = {"dir": f"{directory}/log"}
    return config


def plain(directory):
    os.makedirs(f"{directory}/volume", exist_ok=True)
    return {
        "scope": "main",
        "name": "main-0",
        "restapi": {"listen": "127.0.0.1:8008", "connect_address": "127.0.0.1:8008"},
        "kubernetes": {"labels": {"a": "b"}, "pod_ip": "127.0.0.1", "pod_uid": "x"},
        "bootstrap": {"pg_hba": ["local all all trust"], "dcs": {}},
        "postgresql": {
            "listen": "127.0.0.1:5432",
            "connect_address": "127.0.0.1:5432",
            "data_dir": f"{directory}/volume/data",
            "pgpass": f"{directory}/pgpass",
            "bin_dir": BIN_DIR,
            "authentication": {
                "superuser": {"username": "postgres", "password": "a"},
                "replication": {"username": "replicator", "password": "a"},
                "rewind": {"username": "rewinder", "password": "a"},
            },
        },
    }


def judge(directory, config, env=None):
    path = Path(directory) / "pgwarden.yml"
    path.write_text(yaml.safe_dump(config))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PATRONI_")}
    output = subprocess.run(
        [PROGRAM, "check", "--format=json", str(path)],
        capture_output=True,
        text=True,
        env={**clean, **(env or {})},
        check=False,
    )
    try:
        return json.loads(output.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"{PROGRAM} check: {output.stderr or output.stdout}") from None


def sample(key, schema):
    """A value for a key: the table's, or one of the type that Patroni's schema asks for."""
    if key in SAMPLES:
        return SAMPLES[key]
    if key in names.OTHER_STORES:
        return {"host": "x"}
    want = schema.get(key)
    if want is bool or key.startswith(SWITCHES):
        return True
    if want is int or isinstance(want, validator.IntValidator):
        return max(getattr(want, "min", None) or 0, 7)
    if key.endswith("_timeout"):
        return 7
    if isinstance(getattr(want, "_schema", want), dict):
        return {}
    if want is dict:
        return {"a": "b"}
    if isinstance(want, list):
        return ["a"]
    return "x"


def leaves(node, path=""):
    """Dotted key -> what the schema wants there."""
    node = getattr(node, "_schema", node)
    if not isinstance(node, dict):
        return {}
    found = {}
    for key, below in node.items():
        inner = path if hasattr(key, "args") else f"{path}.{getattr(key, 'name', key)}".lstrip(".")
        found[inner] = below
        found.update(leaves(below, inner))
    return found


def with_key(config, key, value):
    """The configuration with one more key. <method> is the name of a method of the user's."""
    if "<method>" in key:
        section = config[key.split(".")[0]]
        section["method" if key.startswith("bootstrap") else "create_replica_methods"] = (
            "mine" if key.startswith("bootstrap") else ["mine", "basebackup"]
        )
        section["mine"] = {"command": "/bin/true"}
        key = key.replace("<method>", "mine")
    *above, last = key.split(".")
    node = config
    for part in above:
        node = node.setdefault(part, {})
    # A section by itself is what is in it already.
    if last not in node or not isinstance(node[last], dict) or key in SAMPLES:
        node[last] = value
    return key


def key_states(found, key):
    """Which states of a row agree with what `check` says of a key."""
    said = [p["message"] for p in found["problems"] if p["path"] == key or p["path"].startswith(f"{key}.")]
    above = [p for p in found["problems"] if p["path"] and key.startswith(f"{p['path']}.")]
    said += [p["message"] for p in above if p["message"].startswith(UNUSED) or "<method>" in key]
    # A tag is published whatever it means; what it does is not for `check` to say.
    if not said and key.startswith("tags."):
        return STATES, "nothing"
    if not said:
        return ("yes", "different"), "nothing"
    return ("different",), said[0]


def configuration(key, state):
    schema = leaves(validator.schema.validator)
    with tempfile.TemporaryDirectory() as directory:
        config = base(directory, key)
        written = with_key(config, key, sample(key, schema))
        found = judge(directory, config)
        states, said = key_states(found, written)
        if "<method>" in key and found["settings"] is None:
            states, said = ("different",), "the method is refused"
        return state in states, f"configuration: `{key}` is {state!r}, check says: {said}"


def environment(name, state):
    schema = leaves(validator.schema.validator)
    with tempfile.TemporaryDirectory() as directory:
        if name in OTHER_PROOF or name.endswith("_*"):
            return state != "yes" or shown(directory, name), f"environment: `{name}` is not read"
        words = name.removeprefix("PATRONI_").lower()
        key = words.replace("_", ".", 1)
        value = sample(key if key in schema or key in SAMPLES else words, schema)
        if isinstance(value, (dict, list)):
            value = json.dumps(value)
        env = {name: str(value).lower() if isinstance(value, bool) else str(value)}
        section, _, last = words.partition("_")
        under = base(directory, f"{section}.{last}")
        found, without = judge(directory, under, env), judge(directory, under)
        read = found != without
        section, _, key = words.partition("_")
        if key == "password" and section in ("superuser", "replication", "rewind"):
            # Never shown: without it something is missing, unless the variable is read.
            bare = base(directory)
            del bare["postgresql"]["authentication"][section][key]
            read = judge(directory, bare) != judge(directory, bare, env)
        said = [p["message"] for p in found["problems"] if p not in without["problems"]]
        unused = any(text.startswith(UNUSED) for text in said)
        if state == "yes":
            return read and not unused, f"environment: `{name}` is 'yes': read {read}, {said}"
        # What is read without a word is used.
        good = said or not read or state == "different"
        return good, f"environment: `{name}` is {state!r}, and it is read without a word"


def shown(directory, name):
    """The variables that do not belong to a member's settings: a message speaks of them."""
    words = {"PATRONICTL_CONFIG_FILE": ["patronictl", "list"],
             "PATRONI_CONFIGURATION": ["patroni", "--validate-config"]}.get(name)
    if words is None:
        return False
    value = f"[{directory}/none-such.yml"
    output = subprocess.run(words, executable=PROGRAM, capture_output=True, text=True,
                            env={**os.environ, name: value}, check=False)
    said = output.stderr + output.stdout
    return value in said or name in said


def verb(name, state):
    """An option is known unless the parser says that it, and not the nonsense after it, is not."""
    words = name.split()
    ran = subprocess.run(
        ["patronictl", *words, "--nonsense"], executable=PROGRAM, capture_output=True, text=True, check=False
    ).stderr
    refused = f"unexpected argument '{words[-1]}'" in ran
    refused |= "unrecognized subcommand" in ran or "invalid value" in ran
    said = ran.splitlines()[0] if ran else ""
    refused |= "in this version" in said or "do not do over REST" in said
    # Known, and refused by the members.
    refused |= words[-1] == "--group" and "--nonsense" in said
    allowed = ("different",) if refused else ("yes", "different")
    return state in allowed, f"patronictl: `{name}` is {state!r}, the program says: {said}"


def main():
    document = rows(DOCUMENT.read_text())
    result = Result()
    complete(result, document, names.extract())
    # A run of the program each: side by side.
    with ThreadPoolExecutor(4) as pool:
        for kind, asked in (("configuration", configuration), ("environment", environment),
                            ("patronictl", verb)):
            states = {name: state for name, (state, _) in document[kind].items()}
            for good, why in pool.map(asked, states.keys(), states.values()):
                result.check(good, why)
    if "--offline" in sys.argv:
        print("SKIPPED: endpoints, metrics and objects: not asked of a running cluster (--offline)")
    else:
        live.check(result, document)
    print(f"{result.passed} passed, {len(result.failures)} failed")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
