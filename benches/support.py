"""What the benches share: the machine's name, peers that are fetched on demand, memory and wake-ups of processes,
tables. Everything that is fetched or built goes under target/benches; the machine itself is left as it is."""

import argparse
import contextlib
import glob
import os
import platform
import shutil
import signal
import socket
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


class Scheduler:
    """One scheduler as a peer: writes its table, starts, says when it is ready. Jobs are `(expression, argv)` with
    five fields in UTC."""

    name = ""
    says_ready = True

    def find(self):
        """Fetches or builds it; false where this machine can't have it."""
        return True

    def configure(self, folder, jobs):
        raise NotImplementedError

    def command(self, folder):
        raise NotImplementedError

    def start(self, folder):
        # Nothing of the person's own settings, and UTC for those that know only the machine's zone.
        env = {"PATH": os.environ["PATH"], "HOME": folder, "TZ": "UTC", **self.environment(folder)}
        with open(os.path.join(folder, "out"), "ab") as out:
            return subprocess.Popen(
                self.command(folder), cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def environment(self, folder):
        return {}

    def processes(self, process, folder):
        """Every process that the scheduler itself consists of, while no job runs."""
        return tree(process.pid)

    def time_to_ready(self, folder, seconds):
        """Starts it; the process and how long it took until it was ready, in seconds (None: not in time). Those
        that don't say so are ready when they start their `@reboot` job, which is in their table for that."""
        mark = os.path.join(folder, "ready")
        before = time.time_ns()
        process = self.start(folder)
        if not wait_for(lambda: os.path.exists(mark) and os.path.getsize(mark), seconds, 0.002):
            return process, None
        return process, (int(open(mark).readline()) - before) / 1e9

    def ready_job(self, folder):
        return [("@reboot", [helper("stamp"), os.path.join(folder, "ready")])]


def said(folder):
    """The end of what a scheduler printed, for a person who wonders."""
    with contextlib.suppress(OSError):
        return open(os.path.join(folder, "out"), errors="replace").read()[-1500:]
    return ""


class Ours(Scheduler):
    name = "punk-eco-sched"

    def __init__(self, binary):
        self.binary = binary

    def configure(self, folder, jobs):
        def words(argv):
            return "[" + ", ".join('"' + word + '"' for word in argv) + "]"

        with open(os.path.join(folder, "jobs.yaml"), "w") as file:
            file.write(
                f"timezone: UTC\npaths: {{ state: {folder}/state, logs: {folder}/logs, socket: {folder}/control.sock }}\n"
                "limits: { max_running: 100000 }\njobs:\n"
            )
            for number, (expression, argv) in enumerate(jobs):
                file.write(f'  job-{number}:\n    schedule: "{expression}"\n    command: {{ run: {words(argv)} }}\n')

    def command(self, folder):
        return [self.binary, "--config", os.path.join(folder, "jobs.yaml"), "daemon"]

    def client(self, folder, *words):
        return [self.binary, "--config", os.path.join(folder, "jobs.yaml"), *words]

    def processes(self, process, folder):
        # The spawner need not be a child of the daemon; it listens in the state directory, its pid in the name.
        spawners = glob.glob(os.path.join(folder, "state", "spawner-*.sock"))
        pids = (int(os.path.basename(path).removeprefix("spawner-").removesuffix(".sock")) for path in spawners)
        return list({*tree(process.pid), *pids})

    def environment(self, folder):
        # systemd's way to be told (Type=notify), at the cost of a socket.
        return {"NOTIFY_SOCKET": os.path.join(folder, "notify")}

    def start(self, folder):
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(os.path.join(folder, "notify"))
        return super().start(folder)

    def ready_job(self, folder):
        return []

    def time_to_ready(self, folder, seconds):
        before = time.monotonic()
        process = self.start(folder)
        self.notified.settimeout(seconds)
        try:
            while b"READY=1" not in self.notified.recv(4096):
                pass
        except OSError:
            return process, None
        return process, time.monotonic() - before


class DebianCron(Scheduler):
    """Debian's cron with a spool of its own: in a mount namespace where /run, /var/spool and /etc/crontab are ours."""

    name = "Debian cron"

    def find(self):
        self.binary = shutil.which("cron") or from_package("cron", "usr/sbin/cron")
        return bool(self.binary) and os.geteuid() == 0 and bool(shutil.which("unshare"))

    def configure(self, folder, jobs):
        with open(os.path.join(folder, "crontab"), "w") as file:
            file.write("MAILTO=\"\"\n")
            for expression, argv in jobs:
                file.write(f"{expression} {' '.join(argv)}\n")

    def command(self, folder):
        private = f"""
            set -e
            mount -t tmpfs none /run
            mount -t tmpfs none /var/spool
            mkdir -p /var/spool/cron/crontabs
            cp {folder}/crontab /var/spool/cron/crontabs/root
            chmod 600 /var/spool/cron/crontabs/root
            [ ! -e /etc/crontab ] || mount --bind /dev/null /etc/crontab
            [ ! -d /etc/cron.d ] || mount -t tmpfs none /etc/cron.d
            exec {self.binary} -f
        """
        return ["unshare", "-m", "sh", "-c", private]


class Busybox(Scheduler):
    name = "busybox crond"
    says_ready = False  # no word, and Debian builds it without @reboot

    def find(self):
        self.binary = from_package("busybox-static", "bin/busybox") or shutil.which("busybox")
        return bool(self.binary) and os.geteuid() == 0 and bool(shutil.which("unshare"))

    def configure(self, folder, jobs):
        os.makedirs(os.path.join(folder, "crontabs"))
        with open(os.path.join(folder, "crontabs", "root"), "w") as file:
            for expression, argv in jobs:
                file.write(f"{expression} {' '.join(argv)}\n")

    def command(self, folder):
        # It marks under /run that @reboot has been: that must not be the machine's.
        crond = f"{self.binary} crond -f -c {folder}/crontabs -L /dev/null"
        return ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none /run && exec {crond}"]


class Yacron(Scheduler):
    name = "yacron"
    package = "yacron"

    def find(self):
        self.binary = from_python(self.package)
        return bool(self.binary)

    def configure(self, folder, jobs):
        with open(os.path.join(folder, "jobs.yaml"), "w") as file:
            file.write("jobs:\n")
            for number, (expression, argv) in enumerate(jobs):
                file.write(f'  - name: job-{number}\n    schedule: "{expression}"\n    utc: true\n    command:\n')
                for word in argv:
                    file.write(f'      - "{word}"\n')

    def command(self, folder):
        return [self.binary, "-c", os.path.join(folder, "jobs.yaml"), "-l", "ERROR"]


class Cronstable(Yacron):
    name = "cronstable"
    package = "cronstable"


class TokioCronScheduler(Scheduler):
    name = "tokio-cron-scheduler"

    def find(self):
        self.binary = from_cargo("tokio-cron-scheduler")
        return bool(self.binary)

    def configure(self, folder, jobs):
        with open(os.path.join(folder, "jobs"), "w") as file:
            for expression, (binary, argument) in jobs:
                file.write(f"0 {expression}\t{binary}\t{argument}\n")

    def command(self, folder):
        return [self.binary, os.path.join(folder, "jobs")]

    def ready_job(self, folder):
        return []

    def time_to_ready(self, folder, seconds):
        before = time.monotonic()
        process = self.start(folder)
        if wait_for(lambda: "ready" in said(folder), seconds, 0.002):
            return process, time.monotonic() - before
        return process, None


def schedulers(args):
    """Ours and the peers that this machine can have, in the order in which they take turns; `--only` chooses."""
    everyone = [Ours(None), Cronstable(), Busybox(), DebianCron(), Yacron(), TokioCronScheduler()]
    chosen = []
    for scheduler in everyone:
        if args.only and not any(word in scheduler.name for word in args.only.split(",")):
            continue
        if isinstance(scheduler, Ours):
            scheduler.binary = program(args)
            chosen.append(scheduler)
        elif scheduler.find():
            chosen.append(scheduler)
        else:
            note(f"left out: {scheduler.name} can't be had on this machine, or not without root")
    return chosen


ONLY = {"help": "only schedulers whose name contains one of these words (punk-eco-sched,cron,…)"}
