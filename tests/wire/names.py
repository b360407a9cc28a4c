"""The names that a user of Patroni may depend on, taken out of the installed package itself.

What runs is asked (the validator's schema, click's commands, the parser of the environment); where
nothing can be asked, the syntax tree of the package's source is read. Run by itself it prints them.
"""

import ast
import json
import os
from pathlib import Path

import patroni
from patroni import validator
from patroni.config import Config
from patroni.ctl import ctl
from patroni.dcs import dcs_modules
from patroni.dcs.kubernetes import Kubernetes

PACKAGE = Path(patroni.__file__).parent
# The lock is not kept there: one row for each, whatever is below it.
OTHER_STORES = {name.rsplit(".", 1)[-1] for name in dcs_modules()} - {"kubernetes"}
# Which expression of which file reads which section of the configuration. The validator's schema
# does not know every key that the program reads.
READERS = [
    ("api.py", "config.get", "restapi"),
    ("log.py", "config.get", "log"),
    ("postgresql/__init__.py", "self.config.get", "postgresql"),
    ("postgresql/config.py", "self._config.get", "postgresql"),
    ("postgresql/config.py", "config.get", "postgresql"),
    ("postgresql/rewind.py", "self._postgresql.config.get", "postgresql"),
    ("dcs/kubernetes.py", "config.get", "kubernetes"),
    ("watchdog/base.py", "watchdog_config.get", "watchdog"),
    ("global_config.py", "self.get", "bootstrap.dcs"),
    ("global_config.py", "self.get_int", "bootstrap.dcs"),
    ("global_config.py", "self.check_mode", "bootstrap.dcs"),
    ("ha.py", "global_config.check_mode", "bootstrap.dcs"),
    ("postgresql/__init__.py", "config.get", "postgresql"),
    ("postgresql/bootstrap.py", "config.get", "bootstrap"),
    ("postgresql/bootstrap.py", "config[method].get", "bootstrap.<method>"),
    ("postgresql/bootstrap.py", "self.process_user_options", "postgresql"),
    ("postgresql/bootstrap.py", "method_config.get", "postgresql.<method>"),
    ("postgresql/bootstrap.py", "method_config.pop", "postgresql.<method>"),
    ("postgresql/__init__.py", "self.replica_method_options(method).get", "postgresql.<method>"),
    ("tags.py", "self.tags.get", "tags"),
    ("tags.py", "self._bool_tag", "tags"),
    ("tags.py", "self._priority_tag", "tags"),
]
# What the same expressions read that is no key of a file.
NO_KEYS = {"kubernetes.ttl", "postgresql.initdb", "bootstrap.no_params"}


def tree(file):
    return ast.parse((PACKAGE / file).read_text())


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def texts(node):
    return {part.value for part in ast.walk(node) if is_text(part)}


def function(module, name):
    found = (n for n in ast.walk(module) if isinstance(n, ast.FunctionDef) and n.name == name)
    return next(found)


def schema_keys(node, path=""):
    """The dotted keys below one node of the validator's schema."""
    if isinstance(node, validator.Case):
        node = node._schema
    if isinstance(node, validator.Or):
        for one in node.args:
            yield from schema_keys(one, path)
    if not isinstance(node, dict):
        return
    for key, below in node.items():
        if isinstance(key, validator.Or):
            # The names of the key are those of its Case.
            yield from schema_keys(below, path)
            continue
        name = f"{path}.{key.name if hasattr(key, 'name') else key}".lstrip(".")
        if hasattr(key, "args"):
            continue
        yield name
        yield from schema_keys(below, name)


def keys_read():
    for file, expression, section in READERS:
        for call in ast.walk(tree(file)):
            if isinstance(call, ast.Call) and call.args and is_text(call.args[0]):
                if ast.unparse(call.func) == expression:
                    # The second argument of most is a default, but of the tags the other spelling.
                    args = call.args if section == "tags" else call.args[:1]
                    yield from (f"{section}.{arg.value}" for arg in args if is_text(arg))
    # Asked for in a loop over their names.
    for text in texts(tree("postgresql/rewind.py")):
        if text.startswith("remove_data_directory_on_"):
            yield f"postgresql.{text}"


def configuration():
    names = set(schema_keys(validator.schema.validator)) | set(keys_read())
    names |= {f"bootstrap.dcs.{key}" for key in Config.get_default_config()}
    standby = Config.get_default_config()["standby_cluster"]
    names |= {f"bootstrap.dcs.standby_cluster.{key}" for key in standby}
    # The keys of no section: the first list of names that the parser of the environment goes through.
    parser = function(tree("config.py"), "_build_environment_configuration")
    names |= next(texts(n.iter) for n in ast.walk(parser) if isinstance(n, ast.For))
    # The users' keys, as the parser of the environment knows them.
    for section in ("SUPERUSER", "REPLICATION", "REWIND", "CTL", "RESTAPI"):
        login = ("USERNAME", "PASSWORD") if section in ("CTL", "RESTAPI") else None
        for name in environment():
            key = name.removeprefix(f"PATRONI_{section}_")
            if key != name and key in (login or (key,)):
                above = f"{section.lower()}.authentication"
                if login is None:
                    above = f"postgresql.authentication.{section.lower()}"
                names.add(f"{above}.{key.lower()}")
    ours = {name for name in names if name.split(".")[0] not in OTHER_STORES}
    return (ours | OTHER_STORES) - NO_KEYS


class Recording(dict):
    """An environment that notes the names it is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = set()

    def pop(self, name, *default):
        self.asked.add(name)
        return super().pop(name, *default)


def environment():
    """Every variable the parser asks for by name, and those it makes of a section and a word."""
    recording, real = Recording(), os.environ
    os.environ = recording
    try:
        Config._build_environment_configuration()
    finally:
        os.environ = real
    names = {name for name in recording.asked if name.split("_")[1].lower() not in OTHER_STORES}
    parser = function(tree("config.py"), "_build_environment_configuration")
    words = next(
        texts(compare.comparators[0])
        for compare in ast.walk(parser)
        if isinstance(compare, ast.Compare) and "SCOPE_LABEL" in texts(compare)
    )
    keys = {name for name in keys_read() if name.startswith("kubernetes.")}
    keys |= set(schema_keys(validator.schema.validator))
    names |= {f"PATRONI_KUBERNETES_{w}" for w in words if f"kubernetes.{w.lower()}" in keys}
    names |= {f"PATRONI_CITUS_{w}" for w in words if f"citus.{w.lower()}" in keys}
    names |= {f"PATRONI_{store.upper()}_*" for store in OTHER_STORES}
    # The certificate of the API server is asked for elsewhere; the file as a whole as well.
    for node in ast.walk(tree("dcs/kubernetes.py")):
        if is_text(node) and node.value.startswith("PATRONI_"):
            names.add(node.value)
    names.add(Config.PATRONI_CONFIG_VARIABLE)
    group = [option.envvar for option in ctl.params if getattr(option, "envvar", None)]
    return names | set(group)


def endpoints():
    """Methods and paths: the handlers by their names, the health checks by what is compared."""
    module, names = tree("api.py"), set()
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("do_"):
            method, _, path = node.name.removeprefix("do_").partition("_")
            names.add(f"{method} /{path}" if path else f"{method} (health checks)")
    names.discard("GET (health checks)")
    for compare in ast.walk(function(module, "do_GET")):
        if isinstance(compare, ast.Compare) and "path" in {
            part.id for part in ast.walk(compare) if isinstance(part, ast.Name)
        }:
            names |= {f"GET /{word.lstrip('/')}" for word in texts(compare)}
    if any(is_text(node) and node.value == "/" for node in ast.walk(function(module, "do_GET"))):
        names.add("GET /")
    return names


def parameters():
    """The query parameters: what is looked up among them, and the prefix of the tags."""
    module, names = tree("api.py"), set()
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "self.path_query.get":
            names.add(call.args[0].value)
    for node in ast.walk(function(module, "do_GET")):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "qs_tag_prefix":
            names.add(node.value.value + "*")
    return names


def metrics():
    lines = texts(function(tree("api.py"), "do_GET_metrics"))
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


def verbs():
    """patronictl's commands and options; an option by its longest spelling."""
    names = {max(option.opts, key=len) for option in ctl.params}
    for verb, command in ctl.commands.items():
        names.add(verb)
        for param in command.params:
            if param.opts[0].startswith("-"):
                names.add(f"{verb} {max(param.opts, key=len)}")
            elif hasattr(param.type, "choices"):
                names |= {f"{verb} {choice}" for choice in param.type.choices}
    return names


def dict_keys(node):
    """The keys of the dictionary literals and of the assignments to items below a node."""
    for part in ast.walk(node):
        keys = part.keys if isinstance(part, ast.Dict) else []
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
            keys = [part.slice]
        for key in keys:
            # An underscore: an argument of a call, no annotation.
            if is_text(key) and not key.value.startswith("_"):
                yield key.value
            elif isinstance(key, ast.Attribute) and key.attr.isupper():
                # Annotations named by a constant of the class, as self._LEADER.
                value = getattr(Kubernetes, key.attr, None)
                if isinstance(value, str):
                    yield value


WRITERS = {
    "leader": ("update_leader", "attempt_to_acquire_leader", "delete_leader"),
    "config": ("set_config_value", "initialize", "set_history_value"),
    "failover": ("manual_failover",),
}


def kubernetes():
    module, names = tree("dcs/kubernetes.py"), set()
    for kind, functions in WRITERS.items():
        for name in functions:
            names |= {f"annotation {kind}: {key}" for key in dict_keys(function(module, name))}
    sync = function(tree("dcs/__init__.py"), "sync_state")
    names |= {f"annotation sync: {key}" for key in dict_keys(sync)}
    status = set(dict_keys(function(tree("ha.py"), "touch_member")))
    # The item of the schedule is not one of the member's.
    names |= {f"annotation pod: status.{key}" for key in status - {"schedule"}}
    # Labels: every label's name and every value that a key of the configuration gives.
    for key in (name.removeprefix("kubernetes.") for name in keys_read()):
        if key.endswith(("_label", "_label_value", "_labels")):
            names.add(f"label: {key}")
    return names


def extract():
    return {
        "configuration": configuration(),
        "environment": environment(),
        "endpoints": endpoints(),
        "parameters": parameters(),
        "metrics": metrics(),
        "patronictl": verbs(),
        "kubernetes": kubernetes(),
    }


if __name__ == "__main__":
    print(json.dumps({kind: sorted(names) for kind, names in extract().items()}, indent=1))
