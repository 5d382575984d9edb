"""The schedulers that the benches compare: this one and its peers, each fetched or built on demand."""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import time

from support import from_cargo, from_package, from_python, helper, note, program, tree, wait_for


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
        # The spawner need not be a child of the daemon.
        return list({*tree(process.pid), *self.spawners(folder)})

    def spawners(self, folder):
        # Each listens in the state directory, its pid in the name.
        sockets = glob.glob(os.path.join(folder, "state", "spawner-*.sock"))
        return [int(os.path.basename(path).removeprefix("spawner-").removesuffix(".sock")) for path in sockets]

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
