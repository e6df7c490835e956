"""The programs that are measured: how each is configured at its best, started, watched and ended. All listen on loopback."""

import os, pathlib, re, resource, signal, socket, subprocess, time

OURS, NONE = "tcpdirector", "none"
QUIET = "with -q"  # tcpdirector without a line for each session, as the peers run

# a session of a balancer takes two descriptors; some are kept for everything else
DESCRIPTORS = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 40000)
MOST_SESSIONS = (DESCRIPTORS - 1000) // 2
resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

HAPROXY = """
global
    nbthread 2
    maxconn {sessions}
    maxpipes 128
    tune.pipesize 1048576
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port} backlog 4096
    balance leastconn
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
"""

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
events {{ worker_connections {descriptors}; }}
stream {{
    upstream hosts {{ least_conn; server 127.0.0.1:{one}; server 127.0.0.1:{two}; }}
    server {{ listen 127.0.0.1:{port} backlog=4096 reuseport; proxy_pass hosts; proxy_timeout 1h; proxy_half_close on; }}
}}
"""

DIRECTOR = """
<pdconfig>
  <service name="bench"><listen ip="127.0.0.1:{port}"/>
    <group name="main" scheduler="leastconns">
      <host name="one" ip="127.0.0.1:{one}"/><host name="two" ip="127.0.0.1:{two}"/>
    </group>
  </service>
  <admin listen="127.0.0.1:{admin}"><user name="operator" password="$6$a-pattern-that-nothing-fits" access="full"/></admin>
  {pool}
</pdconfig>
"""


class Processes:
    """Everything that was started, to be ended by number, the latest first."""

    def __init__(self):
        self.running = []

    def start(self, command, **how):
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, **how)
        self.running.append(process)
        return process

    def end(self, since=0):
        for process in reversed(self.running[since:]):
            process.stdin.close()
            process.send_signal(signal.SIGINT)
        for process in reversed(self.running[since:]):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        del self.running[since:]


processes = Processes()
last_port = 21000 + os.getpid() % 4000  # below the range that the kernel gives to clients


def free_port():
    global last_port
    while True:
        last_port += 1
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", last_port))
                return last_port
            except OSError:
                pass


def until_it_listens(port, process):
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"{process.args} does not listen on port {port}")


def written(path, text):
    path.write_text(text)
    return path


class Balancer:
    """One way from clients to hosts: a program with its configuration, or none."""

    def __init__(self, name, program=None, sessions=MOST_SESSIONS):
        self.name, self.program, self.sessions, self.process = name, program, sessions, None

    def start(self, folder, hosts):
        self.addresses = [f"127.0.0.1:{host}" for host in hosts]
        if self.name != NONE:
            port = free_port()
            with open(folder / f"{self.name}.log", "a") as log:
                self.process = processes.start(self.command(folder, port, hosts), stdout=log, stderr=log)
            until_it_listens(port, self.process)
            self.addresses = [f"127.0.0.1:{port}"]

    def command(self, folder, port, hosts):
        words = {"folder": folder, "port": port, "one": hosts[0], "two": hosts[1], "sessions": MOST_SESSIONS, "descriptors": DESCRIPTORS}
        if self.name == "haproxy":
            return ["haproxy", "-db", "-f", written(folder / "haproxy.cfg", HAPROXY.format(**words))]
        if self.name == "nginx":
            return ["nginx", "-p", folder, "-e", folder / "nginx.log", "-c", written(folder / "nginx.conf", NGINX.format(**words))]
        if self.name == "pen":
            limits = ["-c", 2 * MOST_SESSIONS, "-x", MOST_SESSIONS, "-q", 4096]
            return ["pen", "-f", "-r", *limits, f"127.0.0.1:{port}", *(f"127.0.0.1:{host}" for host in hosts)]
        if self.name == "rinetd":
            return ["rinetd", "-f", "-c", written(folder / "rinetd.conf", f"127.0.0.1 {port} 127.0.0.1 {hosts[0]}\n")]
        flags = ["-q"] if self.name == QUIET else []
        return [self.program, *flags, self.director(folder / f"{self.name}.xml", words)]

    def director(self, file, words):
        """As it comes, with its admin pages and its log; where that is not enough, a pool for as many sessions as there can be."""
        pools = ["", f'<pool sessions="{MOST_SESSIONS}"/>', *(f'<pool threads="{n}" queue="400"/>' for n in (19000, 16000, 12000, 4000)), ""]
        for number, pool in enumerate(pools):
            written(file, DIRECTOR.format(**words, admin=free_port(), pool=pool).lstrip())
            check = subprocess.run([self.program, "-t", file], capture_output=True, text=True)
            said = re.search(r"(\d+) at once", check.stdout)
            self.sessions = int(said[1]) if said else MOST_SESSIONS
            if check.returncode == 0 and (number > 0 or self.sessions >= MOST_SESSIONS):
                break
        return file

    def family(self):
        """Its process and the children of that."""
        if not self.process:
            return []
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu(self):
        """Seconds of processor time that it has used: all threads, in the program and in the kernel."""
        fields = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.family()]
        return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")

    def resident(self, kind="Pss"):
        """KB that it has in memory; pages that others have too count by share (Pss) or in full (Rss)."""
        rollups = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.family()]
        return sum(int(re.search(rf"^{kind}: *(\d+)", text, re.M)[1]) for text in rollups)


def kernel_memory():
    """KB of the kernel for sockets and what is in them, for stacks and page tables, of the whole machine."""
    meminfo = pathlib.Path("/proc/meminfo").read_text()
    pages = re.search(r"^TCP: .* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.M)[1]
    buffers = int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024
    return buffers + sum(int(re.search(rf"^{name}: *(\d+)", meminfo, re.M)[1]) for name in ("Slab", "KernelStack", "PageTables"))
