#!/usr/bin/env python3
"""Learns for half an hour with `riftmesh up` and keeps what came of it in bench/history.ndjson. Standard library only.

    python3 bench/proofs.py --configuration hex8_2p --seed 1 --minutes 30 --note "quiet machine"
    python3 bench/proofs.py --read up.out --configuration hex8_2p --seed 1 --minutes 30    what an earlier run printed

A record has the verdicts, the three final matches of 200 games each with their 95 % intervals, and the champion's rating
over the time. `cargo xtask plots` draws the newest record of each configuration and seed.
"""

import argparse, datetime, json, os, re, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FINALS = {
    "champion at n = 32 against random": "random",
    "champion's bare policy against random": "bare_random",
    "champion against the untrained network, both at n = 16": "untrained",
}


def seconds(text):
    """`12.3s` or `4m05s`, as `up` writes it."""
    whole = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?", text)
    hours, minutes, rest = (float(part or 0) for part in whole.groups())
    return 3600 * hours + 60 * minutes + rest


def figures(lines):
    """What the lines say that `up` printed."""
    found = {"verdicts": [], "curve": []}
    for line in lines:
        if progress := re.match(r"(\S+) leader .*? (\d+) games .*? (\d+) rows", line):
            found["games"], found["rows"] = int(progress[2]), int(progress[3])
            if rating := re.search(r"champion #(\d+) \w+ \(([+-]\d+) Elo\)", line):
                found["champion"] = int(rating[1])
                found["curve"].append([round(seconds(progress[1]) / 60, 2), int(rating[2])])
        elif verdict := re.match(r"verdict: #(\d+) \w+ (promoted|rejected): ([+-]\d+) Elo after (\d+) games", line):
            found["verdicts"].append([int(verdict[1]), verdict[2], int(verdict[3]), int(verdict[4])])
        elif final := re.match(r"(.*): (\d+) of (\d+) \([\d.]+ %, 95 % interval ([\d.]+) to ([\d.]+) %", line):
            if name := FINALS.get(final[1]):
                found[name] = {"won": int(final[2]), "games": int(final[3]), "low": float(final[4]), "high": float(final[5])}
    missing = [name for name in FINALS.values() if name not in found]
    if missing:
        sys.exit(f"the run did not come to its end: no {', '.join(missing)}")
    # One point a minute is enough for a drawing.
    found["curve"] = found["curve"][::6] + found["curve"][-1:]
    return found


def learn(options):
    """Runs `up`, shows what it prints, and gives that."""
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        command = [options.binary, "up", "--configuration", options.configuration, "--seed", str(options.seed),
                   "--for", f"{options.minutes}m", "--port", str(options.port), "--dir", os.path.join(folder, "data")]
        run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in run.stdout:
            print(line, end="", file=sys.stderr)
            lines.append(line)
        if run.wait() != 0:
            sys.exit(f"{' '.join(command)} ended with {run.returncode}")
        return lines


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--binary", default=os.path.join(ROOT, "target/release/riftmesh"))
    words.add_argument("--configuration", default="hex8_2p")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--minutes", type=int, default=30)
    words.add_argument("--port", type=int, default=7900)
    words.add_argument("--read", metavar="FILE", help="what an earlier run printed, instead of a new one")
    words.add_argument("--note", help="what else the machine was doing")
    words.add_argument("--revision", help="that was run; the one that is checked out if not given")
    options = words.parse_args()
    lines = open(options.read) if options.read else learn(options)
    revision = options.revision or subprocess.check_output(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, text=True).strip()
    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "figures": {"configuration": options.configuration, "minutes": options.minutes, "note": options.note,
                    "seed": options.seed, **figures(lines)},
        "machine": f"{os.cpu_count()} cores",
        "program": "bench/proofs",
        "revision": revision,
    }
    line = json.dumps(record, sort_keys=True, separators=(",", ":"))
    with open(os.path.join(ROOT, "bench/history.ndjson"), "a") as history:
        history.write(line + "\n")
    print(line)


main()
