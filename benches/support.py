"""What the benches share: the machine's name, peers that are fetched on demand, memory and wake-ups of processes,
tables. Everything that is fetched or built goes under target/benches; the machine itself is left as it is."""

import argparse
import contextlib
import glob
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(ROOT, "target", "benches")


def note(text):
    print(text, file=sys.stderr, flush=True)


def machine():
    """One line that names the machine."""
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = next(
        (line.split("=", 1)[1].strip().strip('"') for line in open("/etc/os-release") if line.startswith("PRETTY_NAME")),
        "?",
    )
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}, {system}; "
        f"load before: {load:.1f}; {time.strftime('%Y-%m-%d', time.gmtime())}"
    )


def arguments(description, **more):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--binary", help="this program, built (default: cargo build --release)")
    for name, options in more.items():
        parser.add_argument("--" + name.replace("_", "-"), **options)
    return parser.parse_args()


def program(args):
    """This scheduler's binary, built for release unless one was named."""
    if args.binary:
        return os.path.abspath(args.binary)
    note("building this program (release)")
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "punk-eco-sched")


def helper(name):
    """benches/helpers/NAME.c, compiled."""
    source = os.path.join(ROOT, "benches", "helpers", name + ".c")
    binary = os.path.join(CACHE, "helpers", name)
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(binary), exist_ok=True)
        subprocess.run(["cc", "-O2", "-static", "-o", binary, source], check=True)
    return binary


def from_package(package, path):
    """A program out of a Debian package, unpacked into the cache and not installed; None where it can't be had."""
    folder = os.path.join(CACHE, "peers", package)
    binary = os.path.join(folder, path)
    if not os.path.exists(binary):
        if not shutil.which("apt-get"):
            return None
        note(f"fetching {package}")
        os.makedirs(folder, exist_ok=True)
        options = ["-q", "-o", "APT::Sandbox::User=root"]
        fetch = ["apt-get", *options, "download", package]
        if subprocess.run(fetch, cwd=folder, capture_output=True).returncode != 0 and os.geteuid() == 0:
            subprocess.run(["apt-get", *options, "update"], capture_output=True)
            subprocess.run(fetch, cwd=folder, capture_output=True)
        for file in glob.glob(os.path.join(folder, "*.deb")):
            subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
            os.remove(file)
    return binary if os.path.exists(binary) else None


def from_python(package):
    """A program of a Python package, in a virtual environment in the cache; None where it can't be had."""
    folder = os.path.join(CACHE, "peers", "venv-" + package)
    binary = os.path.join(folder, "bin", package)
    if not os.path.exists(binary):
        note(f"fetching {package}")
        for command in (
            [sys.executable, "-m", "venv", folder],
            [os.path.join(folder, "bin", "pip"), "install", "-q", "--disable-pip-version-check", package],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                note((done.stderr or done.stdout).strip()[-500:])
                return None
    return binary


def from_cargo(name):
    """benches/peers/NAME, built for release in the cache; None where it can't be."""
    folder = os.path.join(ROOT, "benches", "peers", name)
    target = os.path.join(CACHE, "peers", name)
    note(f"building {name}")
    built = subprocess.run(
        ["cargo", "build", "-q", "--release", "--locked", "--target-dir", target], cwd=folder, capture_output=True, text=True
    )
    if built.returncode != 0:
        note(built.stderr.strip()[-500:])
        return None
    return os.path.join(target, "release", "peer-" + name)


@contextlib.contextmanager
def scratch():
    """A folder on the same disk as the checkout (not in memory: the ledger's syncs must cost what they cost)."""
    os.makedirs(CACHE, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="run-", dir=CACHE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tree(pid):
    """The process and its descendants."""
    children = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(stat).read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.split("/")[2]))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def wake_ups(pids):
    """Context switches of all their threads so far, voluntary and not: each is a time the program ran anew."""
    total = 0
    for pid in pids:
        for status in glob.glob(f"/proc/{pid}/task/*/status"):
            with contextlib.suppress(OSError):
                total += sum(int(line.split()[1]) for line in open(status) if "ctxt_switches" in line)
    return total


def memory(pids):
    """Resident and proportional set of the processes, MiB."""
    resident = shared_out = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Rss:"):
                    resident += int(line.split()[1])
                if line.startswith("Pss:"):
                    shared_out += int(line.split()[1])
    return resident / 1024, shared_out / 1024


def stop(process, pids=()):
    """Ends a scheduler that a bench started, and what it left."""
    pids = set(pids) | set(tree(process.pid))
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    until = time.monotonic() + 10
    for pid in pids - {process.pid}:
        while os.path.exists(f"/proc/{pid}"):
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.05)


def wait_for(condition, seconds, pause=0.05):
    """Whether the condition came true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True


def median(values):
    return statistics.median(values)


def ratio(value, base):
    return f"{value / base:.2f}" if base else ""


def table(title, head, rows):
    """A Markdown table on standard output."""
    print(f"\n{title}\n")
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
    print(flush=True)
