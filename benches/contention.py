#!/usr/bin/env python3
"""What threads wait for in the kernel that start prepared sandboxes at once: its locks, and what is no lock.

    python3 benches/contention.py [SPAWNS [WAY [THREADS...]]]

A way is prepared (a network namespace of its own each), or recycled (one that is used again).

Needs root, and a machine that does nothing else. Counts what the bench's processes wait for, by the kernel's own
events: a lock from lock:contention_begin to contention_end, everything else from the moment in which a process
stands still that no signal reaches (D) to its waking. Each is named by the kernel's function that waits. To note a
stack takes some microseconds, so what spins for less is counted and not timed. Prints microseconds for each spawn.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile

BEGIN, END, SWITCH = "lock/contention_begin", "lock/contention_end", "sched/sched_switch"
EVENTS = [BEGIN, END, SWITCH, "sched/sched_waking", "sched/sched_process_fork"]
LINE = re.compile(r"\s*(.+)-(\d+)\s+(?:\(\s*[\d-]+\)\s+)?\[\d+\]\s+\S+\s+([\d.]+): (?:(\w+): )?(.*)")
# What only says how somebody waits.
HOW = re.compile(r"trace_|__traceiter|(__)?schedule|io_schedule|_raw_|(__pv_|native_)?queued_|rwsem_|(__)?down_|up_|"
                 r"(__)?mutex_|(__)?percpu_|__wait_|wait_for_completion|do_wait_for_common|rt_")
OTHER = re.compile(r"rwsem_|(__)?down_|(__)?mutex_|(__)?percpu_down|kernel_clone$")


def trace(directory, command):
    """The text of the kernel's trace of a command, what the command says, and its pid."""
    own = os.path.join(directory, "instances", f"stockade-{os.getpid()}")
    def put(name, value):
        with open(os.path.join(own, name), "w") as file:
            file.write(value)
    os.mkdir(own)
    try:
        put("buffer_size_kb", "65536")
        put("trace_clock", "mono")
        put(f"events/{BEGIN}/trigger", "stacktrace")
        put(f"events/{SWITCH}/trigger", "stacktrace if prev_state == 2")
        put(f"events/{SWITCH}/filter", "prev_state == 2")
        for event in EVENTS:
            put(f"events/{event}/enable", "1")
        bench = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = bench.communicate()[0]
        put("tracing_on", "0")
        if bench.returncode != 0:
            raise SystemExit(f"{command}: {bench.returncode}")
        with open(os.path.join(own, "trace")) as file:
            text = file.read()
    finally:
        os.rmdir(own)
    lost = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", text)
    if lost and lost[1] != lost[2]:
        raise SystemExit("the kernel's buffer was too small: fewer spawns")
    return text, said, bench.pid


def name(kind, stack):
    """Who waits: the first function that is not about waiting itself, who has called it, and from where."""
    rest = [function for function in stack if not HOW.match(function)]
    where = next((function for function in stack if function == "do_exit" or function.startswith("__x64_sys_")), "")
    where = where.replace("__x64_sys_", "").replace("do_exit", "exit")
    return kind, " < ".join(rest[:2]), where or (rest[-1] if rest else "")


def waits(text, bench):
    """Seconds and number of all waits of the bench's processes, by name."""
    ours, found = {bench}, collections.defaultdict(lambda: [0.0, 0])
    locks, still, last = collections.defaultdict(list), {}, None

    def add(wait, until):
        one = found[name(wait["kind"], wait["stack"])]
        one[0] += until - wait["time"]
        one[1] += 1

    for line in text.splitlines():
        if line.startswith(" => "):
            if last:
                last["stack"].append(line[4:].strip().split(".")[0])
            continue
        match = LINE.match(line)
        if not match:
            continue
        pid, time, event, rest = int(match[2]), float(match[3]), match[4], match[5]
        if rest == "<stack trace>":
            last = next((wait for wait in [still.get(pid), *locks[pid][-1:]] if wait and not wait["stack"]), None)
            if last:
                # The time that noting it has taken is the tracer's.
                last["time"] = time
            continue
        last = None
        if event == "sched_process_fork" and pid in ours:
            ours.add(int(re.search(r"child_pid=(\d+)", rest)[1]))
        elif event == "contention_begin" and pid in ours:
            address, flags = re.match(r"(\w+) \(flags=(.*)\)", rest).groups()
            # A mutex spins first, and says so once more when it goes to sleep.
            if not (locks[pid] and locks[pid][-1]["address"] == address):
                kind = "spinning" if flags == "SPIN" else "lock"
                locks[pid].append({"kind": kind, "address": address, "time": time, "stack": []})
        elif event == "contention_end" and locks[pid] and locks[pid][-1]["address"] == rest.split()[0]:
            add(locks[pid].pop(), time)
        elif event == "sched_switch":
            pid = int(re.search(r"prev_pid=(\d+)", rest)[1])
            if pid in ours:
                still[pid] = {"kind": "no lock", "time": time, "stack": []}
        elif event == "sched_waking":
            wait = still.pop(int(re.search(r" pid=(\d+)", rest)[1]), None)
            # A lock's wait is known by its own events, and a vfork waits for its child.
            if wait and not any(OTHER.match(function) for function in wait["stack"]):
                add(wait, time)
    return found


def main():
    spawns = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    way = (sys.argv[2:] or ["prepared"])[0]
    counts = sys.argv[3:] or ["1", "2", "4", "8"]
    made = subprocess.run(["cargo", "bench", "--bench", "spawn", "--features", "cli", "--no-run",
                           "--message-format=json"], check=True, capture_output=True, text=True).stdout
    bench = [json.loads(line).get("executable") for line in made.splitlines()
             if '"spawn"' in line and '"executable":"' in line][-1]
    commands = {threads: [bench, "--threads", way, threads, str(spawns)] for threads in counts}
    table = collections.defaultdict(dict)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", directory], check=True)
        try:
            for threads, command in commands.items():
                alone = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
                text, traced, pid = trace(directory, command)
                print(f"{threads} threads: {alone}; traced {traced.strip()}")
                for key, value in waits(text, pid).items():
                    table[key][threads] = value
        finally:
            subprocess.run(["umount", directory], check=True)
    cell = lambda row, threads: "{:7.0f} {:5.2f}".format(*(each / spawns * factor for each, factor in
                                                           zip(row.get(threads, (0, 0)), (1e6, 1))))
    print("microseconds and number for each spawn, by threads: " + ", ".join(counts))
    for kind in ["lock", "spinning", "no lock"]:
        rows = [(key, row) for key, row in table.items() if key[0] == kind]
        print(kind + ":" + "".join(f"{sum(row.get(threads, (0,))[0] for _, row in rows) / spawns * 1e6:8.0f}"
                                   for threads in counts))
        rows.sort(key=lambda item: -max(value[0] for value in item[1].values()))
        for (_, function, where), row in rows[:12]:
            print(" |".join(cell(row, threads) for threads in counts) + f"  {function} ({where})")


main()
