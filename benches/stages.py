#!/usr/bin/env python3
"""Where the time of a spawn goes: when each of its processes has done what, and in which system calls.

    python3 benches/stages.py [SPAWNS [WAY]]

A way is own (one of its own, as without one), prepared, recycled (prepared, with a network that is used again),
session or pool.

Needs root, for the kernel's tracer: strace would stop each process at each call, and the order of things would be
another. An event costs about half a microsecond, so all is slower than it is without: the shares hold, not the sums.
Prints medians in microseconds: of a sandbox of its own from the clone on, which makes init, else from the call on.
"""

import collections
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

EVENTS = ["sched/sched_process_fork", "sched/sched_process_exec", "sched/sched_process_exit",
          "raw_syscalls/sys_enter", "raw_syscalls/sys_exit"]
LINE = re.compile(r"\s*(.+)-(\d+)\s+(?:\(\s*[\d-]+\)\s+)?\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)")
NEWNET = 0x40000000
WAITING = {"poll", "ppoll", "waitid", "recvmsg"}


def trace(directory, command):
    """The text of the kernel's trace of a command, and its pid."""
    def put(name, value):
        with open(os.path.join(directory, name), "w") as file:
            file.write(value)
    put("tracing_on", "0")
    put("buffer_size_kb", "16384")
    put("trace_clock", "mono")
    put("trace", "")
    for event in EVENTS:
        put(f"events/{event}/enable", "1")
    put("tracing_on", "1")
    try:
        bench = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        if bench.wait() != 0:
            raise SystemExit(f"{command}: {bench.returncode}")
    finally:
        put("tracing_on", "0")
        for event in EVENTS:
            put(f"events/{event}/enable", "0")
    with open(os.path.join(directory, "trace")) as file:
        return file.read(), bench.pid


def numbers():
    """The names of this machine's system calls."""
    text = subprocess.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
                          check=True, capture_output=True, text=True).stdout
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


class Process:
    """What one process has done: (call, arguments, answer, begin, end), and its marks."""

    def __init__(self):
        self.calls, self.marks, self.open = [], {}, None

    def at(self, name, which=0, test=lambda call: True):
        """When this call had returned for the `which`th time, or None."""
        found = [call for call in self.calls if call[0] == name and test(call)]
        return found[which][4] if -len(found) <= which < len(found) else None


def read(text, names):
    """The processes by number, and the forks (time, parent, child) in order."""
    processes, forks = collections.defaultdict(Process), []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        pid, time, kind, rest = int(match[2]), float(match[3]) * 1e6, match[4], match[5]
        one = processes[pid]
        if kind == "sys_enter":
            number, args = re.match(r"NR (\d+) \((.*)\)", rest).groups()
            args = [int(arg, 16) for arg in args.split(", ")]
            one.open = (names.get(int(number), number), args, time)
        elif kind == "sys_exit" and one.open:
            name, args, begin = one.open
            one.open = None
            one.calls.append((name, args, int(rest.rsplit("= ", 1)[1]), begin, time))
        elif kind == "sched_process_fork":
            forks.append((time, pid, int(re.search(r"child_pid=(\d+)", rest)[1])))
        elif kind.startswith("sched_process_"):
            one.marks.setdefault(kind, time)
    return processes, forks


def stages(embedder, init, program, begin):
    """(what, when) of one spawn."""
    exec_, exit_ = "sched_process_exec", "sched_process_exit"
    tree = init.at("pivot_root")
    rules = [call[4] for call in init.calls if call[0] == "landlock_add_rule"]
    after = lambda time: lambda call: call[3] > (time or 0)
    go = init.at("sendmsg", 0, after(rules[-1] if rules else tree))
    maps = [call for call in embedder.calls if call[0] == "write" and begin < call[3] < (tree or 0)]
    return [
        ("library: the clone has returned", embedder.at("clone", 0, lambda call: call[4] > begin)),
        ("init: executed", init.marks.get(exec_)),
        ("init: has the plan", init.at("recvmsg", 1)),
        ("library: the id maps are written", maps[-1][4] if maps else None),
        ("init: has its ids", init.at("setresuid")),
        ("init: the program's process is cloned", init.at("clone")),
        ("program's process: network namespace", program.at("unshare", 0, lambda call: call[1][0] == NEWNET)),
        ("init: the tree is made", tree),
        ("init: the old root is detached", init.at("umount2")),
        ("init: network joined, lo up", init.at("ioctl")),
        ("program's process: filter installed", program.at("seccomp", -1)),
        ("init: Landlock's rules, the program may go", go),
        ("program's process: heard that", program.at("recvmsg", 0, after(go and go - 1000))),
        ("program: executed", program.marks.get(exec_)),
        ("program: ended", program.marks.get(exit_)),
        ("init: ended", init.marks.get(exit_)),
        ("library: reaped", embedder.at("waitid", 0, lambda call: call[3] > (init.marks.get(exit_) or 0))),
    ]


def stages_of_a_copy(caller, starter, program, begin):
    """The same where a process is there already: a supervisor of a session, a parked init, or a copy of a template."""
    exec_, exit_ = program.marks["sched_process_exec"], program.marks["sched_process_exit"]
    since = lambda time, until=float("inf"): lambda call: time < call[3] and call[4] < until
    cloned = starter.at("clone", -1, since(begin, exec_)) or exec_
    told = starter.at("sendmsg", 0, since(exit_))
    return [
        ("library: the first word is sent", caller.at("sendmsg", 0, since(begin))),
        ("starter: heard the first", starter.at("recvmsg", 0, since(begin - 1e5, cloned))),
        ("starter: the program's process is cloned", starter.at("clone", -1, since(begin, exec_))),
        ("starter: the old root is detached", starter.at("umount2", 0, since(begin))),
        ("program's process: runs", min((call[3] for call in program.calls), default=None)),
        ("program's process: filter installed", program.at("seccomp", -1)),
        ("program's process: Landlock", program.at("landlock_restrict_self", -1)),
        ("program: executed", exec_),
        ("library: knows that", caller.at("recvmsg", 0, lambda call: call[4] > exec_)),
        ("program: ended", exit_),
        ("starter: has its end", starter.at("waitid", 0, lambda call: call[4] > exit_)),
        ("starter: has told it", told),
        ("library: knows the end", caller.at("recvmsg", 0, lambda call: told and call[4] > told and call[2] > 0)),
    ]


def spawns(processes, forks, bench):
    """(begin, [(role, process)], stages) of each spawn."""
    parents, clones = {child: parent for _, parent, child in forks}, {child: time for time, _, child in forks}
    caller, own = processes[bench], {bench}
    for _, parent, child in forks:
        own.update({child} if parent in own else ())
    naps = [call[4] for call in caller.calls if call[0] == "clock_nanosleep"]
    for program, starter in parents.items():
        one, marks = processes[starter], processes[program].marks
        if starter not in own - {bench} or "sched_process_exec" not in marks or "sched_process_exit" not in marks:
            continue
        if parents.get(starter) == bench and "sched_process_exec" in one.marks:
            # Made by the spawn itself.
            if "sched_process_exit" in one.marks:
                begin = clones[starter]
                found = stages(caller, one, processes[program], begin)
                yield begin, [("init", one), ("program", processes[program])], found
        elif begin := max((nap for nap in naps if nap < clones[program]), default=None):
            roles = [("library", caller), ("starter", one), ("program", processes[program])]
            yield begin, roles, stages_of_a_copy(caller, one, processes[program], begin)


def main():
    count, way = (sys.argv[1:] + ["60", "own"][len(sys.argv) - 1:])[:2]
    made = subprocess.run(["cargo", "bench", "--bench", "spawn", "--features", "cli", "--no-run",
                           "--message-format=json"], check=True, capture_output=True, text=True).stdout
    bench = [json.loads(line).get("executable") for line in made.splitlines()
             if '"spawn"' in line and '"executable":"' in line][-1]
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", directory], check=True)
        try:
            text, pid = trace(directory, [bench, "--spawns", count, way])
        finally:
            subprocess.run(["umount", directory], check=True)
    times, calls, count = collections.defaultdict(list), collections.defaultdict(float), 0
    for begin, roles, found in spawns(*read(text, numbers()), pid):
        count += 1
        last = max(when for _, when in found if when)
        for what, when in found:
            if when:
                times[what].append(when - begin)
        for role, one in roles:
            for name, _, _, start, end in one.calls:
                if name not in WAITING and begin <= start and end <= last:
                    calls[role, name] += end - start
    print(f"{count} spawns, {way}; medians, in microseconds from the {'clone' if way == 'own' else 'call'} on")
    for middle, what in sorted((statistics.median(found), what) for what, found in times.items()):
        print(f"{middle:7.0f}  {what}")
    print("the calls that take longest, in microseconds for each spawn")
    for (role, name), total in sorted(calls.items(), key=lambda item: -item[1])[:16]:
        print(f"{total / count:7.0f}  {role}: {name}")


if __name__ == "__main__":
    main()
