"""The living migration: three members from Patroni to pgwarden and back, in every order.

On a real API server, with Patroni's published package and real PostgreSQL, the same file, data
directory and Pod for both programs, synchronous mode on and a writer on every member. No
acknowledged row may be missing, no old primary may acknowledge what was sent after the new one's
first acknowledgement, and `ctl list` says "mixed" exactly while it is.

    tests/wire/run.sh migration [--dialect endpoints|configmaps] [--order m-2,m-0,m-1]

Other courses than an order: `--order switchovers` and `--order deaths`, of leaders while it is mixed,
and `--order lease`, which moves the lock into a Lease and back.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path
from urllib.error import HTTPError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "wire"))

import rolling  # noqa: E402
import writers  # noqa: E402
from cluster import Failure  # noqa: E402
from rig import NAMES, Kube  # noqa: E402

CONTROL_PLANE = str(HERE.parent / "kube" / "control-plane.sh")
DIALECTS = ["endpoints", "configmaps"]


OTHERS = {"switchovers": rolling.switchovers, "deaths": rolling.deaths, "lease": rolling.lease}


def order_of(text):
    if text not in OTHERS and sorted(text.split(",")) != NAMES:
        expected = f"{', '.join(NAMES)} in some order, each once, or {' or '.join(OTHERS)}"
        raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
    return text


def course_of(order):
    if order in OTHERS:
        return OTHERS[order]
    return lambda cluster: rolling.there_and_back(cluster, order.split(","))


def go(dialect, orders, kubeconfig, home):
    """One cluster, through all of these courses; how many went well, and how many did not."""
    passed = failed = 0
    cluster = rolling.Rolling(dialect, Kube(kubeconfig), home)
    try:
        cluster.bring_up()
        for order in orders:
            figures, wrong = rolling.under_writers(cluster, course_of(order))
            print(f"{dialect} {order}: {figures['rows']} rows acknowledged, {figures['missing']} missing, "
                  f"longest write gap {figures['gap']} ms, {figures['handovers']} handovers", flush=True)
            for words in wrong:
                print(f"FAILED: {dialect} {order}: {words}", flush=True)
            passed, failed = passed + (not wrong), failed + bool(wrong)
    except (Failure, HTTPError, OSError) as failure:
        print(f"FAILED: {dialect} {failure}", flush=True)
        failed += 1
    finally:
        cluster.end()
    return passed, failed


def inside(arguments):
    writers.check_the_oracle()
    dialects = [arguments.dialect] if arguments.dialect else DIALECTS
    every = [",".join(order) for order in permutations(NAMES)]
    orders = [arguments.order] if arguments.order else [*every, *OTHERS]
    print(f"steps: {', '.join(rolling.STEPS)}")
    counts = [go(dialect, orders, arguments.inside, arguments.home) for dialect in dialects]
    passed, failed = (sum(count) for count in zip(*counts))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def outside(given):
    """Brings the API server up in a network namespace of its own, and goes into it."""
    if os.geteuid() != 0:
        print("SKIPPED: migration: needs root, for a network namespace")
        return 77
    home = tempfile.mkdtemp(prefix="pgwm-")
    os.chmod(home, 0o755)
    netns = f"pgwarden-migration-{os.getpid()}"
    try:
        up = subprocess.run([CONTROL_PLANE, "up", f"{home}/kube", "--netns", netns, "--addresses", "32"],
                            stdout=subprocess.PIPE, text=True, check=False)
        if up.returncode != 0:
            return up.returncode
        within = ["ip", "netns", "exec", netns, sys.executable, __file__, *given]
        within += ["--inside", up.stdout.strip(), "--home", home]
        return subprocess.run(within, check=False).returncode
    finally:
        subprocess.run([CONTROL_PLANE, "down", f"{home}/kube"], check=False)
        if os.environ.get("KEEP"):
            print(f"kept: {home}")
        else:
            subprocess.run(["rm", "-rf", home], check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialect", choices=DIALECTS)
    parser.add_argument("--order", type=order_of, help=f"such as {','.join(reversed(NAMES))}")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--home", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    return inside(arguments) if arguments.inside else outside(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
