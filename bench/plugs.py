#!/usr/bin/env python3
"""Runs `riftmesh up` for a while, pulls plugs at random moments, and checks what must survive. Standard library only.

    python3 bench/plugs.py --binary target/release/riftmesh --minutes 30 --seed 1

Kills with signal 9, once each and in random order: the leader, a voter that follows, the worker, a job's child. After
each kill it measures how long it takes until any node names a confirmed leader of a sufficient term, and waits until
the killed node is back under its old id. When `up` has left, everything is killed at once during a second, short `up`
in the same directory, which is then resumed. Ends with one JSON object on stdout; exit code 1 when a check failed.
"""

import argparse, json, os, random, re, signal, subprocess, sys, tempfile, time, urllib.request

PORT = 7800
NAMES = ("v1", "v2", "v3", "w1")  # node i answers HTTP on PORT + i


def envelope(path, port):
    """What one node answers, with who it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return json.load(answer)
    except OSError:
        return None


def ask(path, ports):
    """The first answer of any node, without its envelope."""
    return next((found["answer"] for port in ports if (found := envelope(path, port))), None)


class Run:
    def __init__(self, options):
        self.options = options
        self.data = os.path.join(options.dir or tempfile.mkdtemp(prefix="plugs-"), "data")
        os.makedirs(os.path.dirname(self.data), exist_ok=True)
        self.ports = range(PORT, PORT + len(NAMES))
        self.random = random.Random(options.seed)
        self.memory, self.failed, self.notes = {}, [], []

    def say(self, text):
        line = f"[{time.strftime('%H:%M:%S')}] {text}"
        self.notes.append(line)
        print(line, file=sys.stderr, flush=True)

    def check(self, holds, text):
        self.say(("ok      " if holds else "FAILED  ") + text)
        if not holds:
            self.failed.append(text)

    def start(self, *until):
        log = open(self.data + ".out", "a")
        command = [self.options.binary, "up", "--dir", self.data, "--port", str(PORT), *until]
        if self.options.configuration:
            command += ["--configuration", self.options.configuration]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def processes(self):
        """(pid, arguments, parent) of all processes of this cluster."""
        found = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                args = open(f"/proc/{entry}/cmdline").read().split("\0")
                parent = int(re.search(r"PPid:\s+(\d+)", open(f"/proc/{entry}/status").read())[1])
            except OSError:
                continue
            if os.path.basename(args[0]) == "riftmesh":
                found[int(entry)] = (args, parent)
        ours = {pid for pid, (args, _) in found.items() if any(arg.startswith(self.data) for arg in args)}
        ours |= {pid for pid, (_, parent) in found.items() if parent in ours}
        return {pid: found[pid] for pid in ours}

    def node(self, name):
        place = os.path.join(self.data, "nodes", name)
        return next((pid for pid, (args, _) in self.processes().items() if place in args), None)

    def children(self):
        return [pid for pid, (args, _) in self.processes().items() if "exec" in args]

    def leader(self):
        answer = ask("/v1/leader", self.ports) or {}
        return (answer["name"], answer["term"]) if answer.get("confirmed") and answer.get("name") else None

    def members(self):
        return {m["name"]: m for m in ask("/v1/members", self.ports) or []}

    def wait(self, seconds, look):
        """What `look` gives and after how long, or None."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if found := look():
                return found, time.monotonic() - begin
            time.sleep(0.05)
        return None, seconds

    def watch_memory(self):
        for pid, (args, _) in self.processes().items():
            name = next((arg for arg in args if re.fullmatch(r"[vw]\d+", arg)), "child")
            if "up" in args[1:2]:
                name = "up"
            try:
                peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) // 1024
                self.memory[name] = max(self.memory.get(name, 0), peak)
            except (OSError, TypeError):
                pass

    def kill_node(self, name, why):
        before = self.members()
        was, pid = self.leader(), self.node(name)
        os.kill(pid, signal.SIGKILL)
        lead = was and was[0] == name
        found, took = self.wait(20, lambda: (now := self.leader()) and (not lead or now[1] > was[1]) and now)
        self.check(found and took <= 3, f"{why} {name} killed: leader {was} -> {found} after {took:.2f} s")
        found, took = self.wait(60, lambda: self.back(name, pid, before[name]))
        same = found and found["node"] == before[name]["node"]
        self.check(same, f"{name} is back under its id after {took:.1f} s")

    def back(self, name, killed, before):
        """Who the node is, once another process runs for it: a voter says so itself, a worker by opening another session."""
        if self.node(name) in (None, killed):
            return None
        member = self.members().get(name, {})
        if member.get("state") != "up":
            return None
        if before.get("session") is None:
            return envelope("/v1/status", PORT + NAMES.index(name))
        return member.get("session") not in (None, before["session"]) and member

    def pull(self, plug):
        if not self.wait(60, self.leader)[0]:
            return self.check(False, f"no leader before the plug {plug} was pulled")
        leader = self.leader()[0]
        if plug == "leader":
            self.kill_node(leader, "leader")
        elif plug == "follower":
            self.kill_node(self.random.choice([n for n in NAMES[:3] if n != leader]), "follower")
        elif plug == "worker":
            self.kill_node("w1", "worker")
        else:
            children, _ = self.wait(60, self.children)
            before = self.losses()
            os.kill(self.random.choice(children), signal.SIGKILL)
            found, took = self.wait(60, lambda: self.losses() > before)
            self.check(found, f"a job's child killed: a loss on the books after {took:.1f} s")

    def jobs(self):
        return ask("/v1/jobs?limit=1000", self.ports) or []

    def losses(self):
        return sum(job["losses"] for job in self.jobs())

    def books(self):
        """Every game is counted once: each self-play job is done once, with a segment of its own, and they add up."""
        for _ in range(50):
            progress = ask("/v1/progress", self.ports)[0]
            done = [j for j in ask("/v1/jobs?limit=1000&kind=selfplay&state=done", self.ports) or []]
            segments = [o["segment"] for j in done for o in j["outputs"] if "segment" in o]
            if len(done) < 1000 and sum(s["games"] for s in segments) == progress["games"]:
                break
            time.sleep(0.1)
        hashes = {s["hash"] for s in segments}
        self.check(len(hashes) == len(segments) == len(done), f"{len(done)} self-play jobs, as many segments, all different")
        self.check(sum(s["games"] for s in segments) == progress["games"], f"their games are the ledger's {progress['games']}")
        burnt = [j["id"] for j in self.jobs() if j["losses"] and j["failures"]]
        self.check(not burnt, f"no lost job burnt an attempt {burnt}")
        return progress

    def main(self):
        minutes = self.options.minutes
        up = self.start("--for", f"{minutes}m")
        begin = time.monotonic()
        plugs = ["leader", "follower", "worker", "child"]
        self.random.shuffle(plugs)
        moments = sorted(self.random.uniform(0.2, 0.9) * 60 * minutes for _ in plugs)
        while up.poll() is None:
            self.watch_memory()
            if moments and time.monotonic() - begin > moments[0]:
                moments.pop(0)
                self.pull(plugs.pop(0))
                self.wait(60, lambda: self.children())
                self.books()
            time.sleep(2)
        self.check(up.returncode == 0, f"up left with {up.returncode}")
        report = [line.rstrip() for line in open(self.data + ".out")]
        self.all_at_once()
        result = {"minutes": minutes, "seed": self.options.seed, "peak_mib": self.memory, "failed": self.failed, "notes": self.notes, "dir": self.data}
        print("\n".join(report), file=sys.stderr)
        print(json.dumps(result, indent=1))
        return 1 if self.failed else 0

    def all_at_once(self):
        up = self.start()
        self.wait(60, lambda: self.leader() and self.children())
        time.sleep(self.random.uniform(5, 20))
        before, jobs = self.books(), {j["id"] for j in self.jobs() if j["state"] == "done"}
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        up.wait()
        self.say(f"all killed at once with {before['games']} games, champion {before['champion']}")
        up = self.start()
        self.wait(60, self.leader)
        after = ask("/v1/progress", self.ports)[0]
        self.check(after["games"] >= before["games"], f"{after['games']} games are there")
        self.check(after["verdicts"][:len(before["verdicts"])] == before["verdicts"], "so are the verdicts")
        self.check(after["champion"] == before["champion"] or len(after["verdicts"]) > len(before["verdicts"]), f"champion {after['champion']}")
        self.check(jobs <= {j["id"] for j in self.jobs() if j["state"] == "done"}, f"so are {len(jobs)} finished jobs")
        self.wait(60, lambda: ask("/v1/progress", self.ports)[0]["games"] > after["games"])
        self.books()
        up.send_signal(signal.SIGTERM)
        self.check(up.wait(60) == 0, "up left in order")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default="target/release/riftmesh")
    arguments.add_argument("--minutes", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--configuration")
    arguments.add_argument("--dir")
    sys.exit(Run(arguments.parse_args()).main())
