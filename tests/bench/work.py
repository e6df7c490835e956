"""The kinds of work. Each measurement puts one load through one balancer and gives figures by name; none when the balancer did not
do the work, which is a result, too."""

import json, pathlib, re, subprocess, time

from balancers import MOST_SESSIONS, NONE, OURS, QUIET, kernel_memory, processes


def median(values):
    return sorted(values)[len(values) // 2]


class Bench:
    """What all measurements share: where the hosts are, how long and how much, and what earlier ones have found."""

    def __init__(self, load, folder, hosts, peers, seconds, bulk, transfers):
        self.program, self.folder, self.hosts, self.peers = load, folder, hosts, peers
        self.seconds, self.bulk, self.transfers = seconds, bulk, transfers
        self.rates = {}  # of requests, by sessions and balancer
        self.bare = 0  # KB of the kernel for one idle session, client and host alone

    def load(self, *words):
        """One run of the load generator."""
        try:
            done = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(done.stdout) if done.returncode == 0 else None

    def hold(self, sessions, balancer):
        return Held([self.program, "hold", sessions, *balancer.addresses])


class Held:
    """Sessions that are open and idle while the block runs."""

    def __init__(self, command):
        self.process = processes.start(command, stdout=subprocess.PIPE)

    def __enter__(self):
        return bool(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        processes.running.remove(self.process)


class Clock:
    """Processor time of a balancer since now, for each of something."""

    def __init__(self, balancer):
        self.balancer, self.before = balancer, balancer.cpu()

    def each(self, count, unit=1e6):
        return (self.balancer.cpu() - self.before) * unit / count


def bulk(bench, balancer, way, streams):
    clock = Clock(balancer)
    done = bench.load(way, streams, bench.bulk, 1, *balancer.addresses)
    return {"rate": done["rate"] / 1e9, "cpu": clock.each(done["bytes"], 1e9)} if done and done["well"] == streams else {}


def down(bench, balancer, streams):
    return bulk(bench, balancer, "fetch", streams)


def up(bench, balancer, streams):
    return bulk(bench, balancer, "send", streams)


def connect(bench, balancer, at_once):
    clock = Clock(balancer)
    done = bench.load("connect", bench.seconds, at_once, *balancer.addresses)
    good = done and done["count"] > 100 * done["failed"]
    return {**done, "cpu": clock.each(done["count"])} if good else {}


def requests(bench, balancer, sessions):
    """By wrk, which speaks to one address only."""
    clock = Clock(balancer)
    script = pathlib.Path(__file__).with_name("wrk.lua")
    command = ["wrk", "-t1", f"-c{sessions}", f"-d{max(1, round(bench.seconds))}", "-s", script, f"http://{balancer.addresses[0]}/"]
    found = re.search(r"^\{.*\}$", subprocess.run(command, capture_output=True, text=True).stdout, re.M)
    done = json.loads(found[0]) if found else None
    if not done or not done["count"] or done["failed"]:
        return {}
    bench.rates.setdefault(sessions, {}).setdefault(balancer.name, []).append(done["rate"])
    return {**done, "cpu": clock.each(done["count"])}


def paced(bench, balancer, sessions):
    """At half of what the best peer can do, each request at its time, whatever became of those before."""
    if sessions not in bench.rates:
        for peer in bench.peers:
            requests(bench, peer, sessions)
    rate = max(median(rates) for name, rates in bench.rates[sessions].items() if name not in (OURS, QUIET, NONE)) / 2
    clock = Clock(balancer)
    done = bench.load("ask", bench.seconds, sessions, round(rate), *balancer.addresses)
    return {**done, "cpu": clock.each(done["count"])} if done and done["rate"] > 0.9 * rate else {}


def short(bench, balancer, way, size):
    clock = Clock(balancer)
    done = bench.load(way, 1, size, bench.transfers, *balancer.addresses)
    if not done or not done["well"]:
        return {"whole": 0}
    well = done["well"]
    return {"whole": well * 100 / bench.transfers, "rate": well / done["seconds"], "cpu": clock.each(well)}


def downloads(bench, balancer, size):
    return short(bench, balancer, "fetch", size)


def uploads(bench, balancer, size):
    return short(bench, balancer, "send", size)


def memory(bench, balancer, sessions):
    """Of a program that has just started. What the sockets of client and host take is known from the one without a balancer."""
    since = len(processes.running)
    balancer.start(bench.folder, bench.hosts)
    time.sleep(0.5)
    full, start, kernel = balancer.resident("Rss"), balancer.resident(), kernel_memory()
    with bench.hold(sessions, balancer) as is_held:
        time.sleep(1)
        whole, kernel = balancer.resident(), (kernel_memory() - kernel) / sessions
        own = (whole - start) / sessions
    processes.end(since)
    balancer.process = None
    if balancer.name == NONE:
        bench.bare = kernel
        return {"kernel": kernel}
    kernel -= bench.bare
    begun = {"full": full / 1024, "start": start / 1024}
    return {**begun, "whole": whole / 1024, "own": own, "kernel": kernel, "both": own + kernel} if is_held else begun


def growth(bench, balancer, sessions):
    with bench.hold(sessions, balancer) as is_held:
        return connect(bench, balancer, 32) if is_held else {}


class Kind:
    """A kind of work: the loads to measure it at, and what to say of it."""

    def __init__(self, title, level, levels, measure, *metrics):
        self.title, self.level, self.levels, self.measure, self.metrics = title, level, levels, measure, metrics


class Metric:
    """A figure of a measurement, and what it is to reach (at one load, or at all): parts of the best peer's, and of that without one."""

    def __init__(self, key, title, digits, higher=False, best=None, none=None, at=None):
        self.key, self.title, self.digits, self.higher = key, title, digits, higher
        self.best, self.none, self.at = best, none, at

    def wanted(self, level):
        return (self.best, self.none) if self.at in (None, level) else (None, None)


HALF, MOST, NEARLY_ALL = Metric("p50", "50 %, µs", 0), Metric("p99", "99 %, µs", 0), Metric("p999", "99.9 %, µs", 0)
CPU = Metric("cpu", "CPU µs each", 1)
PER_SECOND = Metric("rate", "a second", 0, higher=True)
AT_LEAST_AS_MANY = Metric("rate", "a second", 0, higher=True, best=1.0)
BULK = Metric("rate", "GB/s", 2, higher=True, best=1.5, none=0.7), Metric("cpu", "CPU s/GB", 2, best=1 / 3)
SHORT = Metric("whole", "answers, %", 1, higher=True, best=1.0), PER_SECOND, CPU

KINDS = {
    # first: what other work leaves in the kernel would be in the way
    "memory": Kind(
        "Memory of idle sessions", "sessions", [min(5000, MOST_SESSIONS)], memory,
        Metric("full", "at start, MB", 1), Metric("start", "at start, shared pages by share, MB", 1),
        Metric("whole", "with all of them, the same, MB", 1), Metric("own", "process, KB each", 2),
        Metric("kernel", "kernel, KB each", 2), Metric("both", "both, KB each", 2, best=1.0)),
    "down": Kind("Bulk bytes to clients", "streams", [1, 2, 8], down, *BULK),
    "up": Kind("Bulk bytes to hosts, half-close, answer", "streams", [1, 2, 8], up, *BULK),
    "connect": Kind(
        "New connections, each with a request and its answer", "at once", [1, 32, 256], connect, AT_LEAST_AS_MANY, HALF, MOST, CPU),
    "requests": Kind(
        "Requests on kept sessions, as many as will go", "sessions", [1, 32, 256, 2000], requests,
        AT_LEAST_AS_MANY, Metric("p50", "50 %, µs", 0, best=1.0, at=1), MOST, NEARLY_ALL, CPU),
    "paced": Kind(
        "Requests on kept sessions, at half of what the best peer can do", "sessions", [32, 256], paced,
        HALF, Metric("p99", "99 %, µs", 0, best=1.0), NEARLY_ALL, CPU),
    "downloads": Kind("Short downloads, one after the other", "bytes", [10_000, 100_000], downloads, *SHORT),
    "uploads": Kind("Short uploads, half-close, answer, one after the other", "bytes", [10_000, 100_000], uploads, *SHORT),
    "growth": Kind(
        "New connections, 32 at once, beside idle sessions", "sessions", [10, 1000, min(10_000, MOST_SESSIONS - 200)], growth,
        PER_SECOND, CPU),
}
