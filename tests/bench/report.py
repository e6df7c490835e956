"""Figures as Markdown, and what they say about tcpdirector."""

import os, pathlib, re, subprocess, time

from balancers import NONE, OURS, QUIET
from work import median


def table(kind, names, figures):
    """The lines of a table, and sentences about what is behind. The figures come by load, balancer and round."""
    header = [kind.level, "", *names, "to the best peer", "to none"]
    lines, behind = [f"\n## {kind.title}\n", row(header), row(["---"] + [":--"] + ["--:"] * (len(names) + 2))], []
    for level, rounds in figures.items():
        for metric in kind.metrics:
            of = {name: [done[metric.key] for done in rounds[name] if metric.key in done] for name in names}
            of = {name: median(values) for name, values in of.items() if values and not (name == NONE and metric.key == "cpu")}
            show = lambda name: f"{of[name]:,.{metric.digits}f}" if name in of else "-"
            peers = [name for name in of if name not in (OURS, QUIET, NONE)]
            best = (max if metric.higher else min)(peers, key=of.get) if peers else None
            ratios = [of[OURS] / of[name] if OURS in of and of.get(name, 0) > 0 else None for name in (best, NONE)]
            lines.append(row([f"{level:,}", metric.title, *map(show, names), *("-" if r is None else f"{r:.2f}" for r in ratios)]))
            place = f"- {kind.title}, {level:,} {kind.level}, {metric.title}"
            for ratio, wanted, name in zip(ratios, metric.wanted(level), (best, NONE)):
                if wanted and OURS not in of:
                    behind.append(f"{place}: not done at all.")
                elif wanted and ratio is not None and (ratio < wanted if metric.higher else ratio > wanted):
                    limit = f"at {'least' if metric.higher else 'most'} {wanted:.2f}"
                    whose = "without a balancer" if name == NONE else f"of {name}"
                    behind.append(f"{place}: {show(OURS)} is {ratio:.2f} of the {show(name)} {whose}; {limit} is wanted.")
    return lines, behind


def row(cells):
    return f"| {' | '.join(cells)} |"


def about(root, program, rounds, bench):
    """What was measured, where and when."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    total = int(re.search(r"MemTotal: *(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) // 1024
    asked = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", "haproxy", "nginx", "pen", "rinetd", "wrk"]
    versions = subprocess.run(asked, capture_output=True, text=True).stdout.rstrip(", ")
    commit = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return [
        f"Measured on {time.strftime('%Y-%m-%d at %H:%M')}: medians of {rounds} rounds of {bench.seconds} s or {bench.bulk / 1e9:g} GB.",
        f"Machine: {os.cpu_count()} x {cpu[1] if cpu else os.uname().machine}, {total} MB, Linux {os.uname().release}, load average "
        f"{os.getloadavg()[0]:.1f} at the end; clients, hosts and balancers share it.",
        f"tcpdirector {commit} (a file of {program.stat().st_size / 1e6:.2f} MB), {versions}.",
        "",
        "`-`: it cannot be measured, or was not done. rinetd has one host and at most 500 sessions (select). pen and rinetd have one",
        "thread, HAProxy has two, nginx two processes. Only tcpdirector logs its sessions, but for the column `with -q`.",
    ]
