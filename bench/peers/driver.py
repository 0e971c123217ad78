"""Runs the cases: all contestants of a case in turns, as README.md says. peers.sh starts it.

    python driver.py ENV MINILM [-only PATTERN] [-threads "1 2"] [-rounds 9] [-busy] [-out FILE] [-list]
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import cases

LOST = 1.15     # of the control loop's least time: a thread did not have a core for itself
BUSY = 0.05     # of a round's time that others may take,
TICKS = 5       # and this much more, since the kernel counts in ticks, and a round may be short
LOOK = 0.02     # seconds of control loops, of which the fastest counts: one alone is late when its threads wake late
PAUSE = 0.1    # seconds for a contestant's threads to fall asleep
ATTEMPTS = 3    # times the rounds that are wanted


class Contestant:
    """A process that has loaded its case."""

    def __init__(self, command, threads):
        env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMAXPROCS"), str(threads))}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([*command, f"threads={threads}"], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.command = command

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{' '.join(map(str, self.command))}: {self.errors.read()[-2000:]}")
        return json.loads(line)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.answer()

    def output(self):
        with tempfile.NamedTemporaryFile() as f:
            self.ask("output", f.name)
            return np.fromfile(f.name, np.float32)

    def ticks(self):
        """The processor time that it has taken so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def close(self):
        self.process.kill()
        self.process.communicate()


def busy():
    """The processor time that everybody has taken so far, and the hypervisor."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + softirq + steal


class Control:
    """The loop that tells whether each thread has a core."""

    def __init__(self, netfusion, threads):
        self.contestant = Contestant([netfusion, "control"], threads)
        self.contestant.answer()
        self.least = min(self.contestant.ask("run", 0)["least"] for _ in range(50))

    def alone(self):
        time.sleep(PAUSE)
        took = self.contestant.ask("run", LOOK)["least"]
        self.least = min(self.least, took)
        return took < LOST * self.least

    def close(self):
        self.contestant.close()


def measure(case, contestants, control, rounds, anyhow):
    """Medians and least times of each contestant over the rounds, and how many rounds were dropped; none are if they count anyhow."""
    medians, least, dropped, turn = [[] for _ in contestants], [float("inf")] * len(contestants), 0, 0
    tick = os.sysconf("SC_CLK_TCK")
    while len(medians[0]) < rounds and turn < ATTEMPTS * rounds:
        order = [(turn + i) % len(contestants) for i in range(len(contestants))]
        turn += 1
        begin, all_before, own_before = time.monotonic(), busy(), sum(c.ticks() for c in (*contestants, control.contestant))
        clean, answers = control.alone(), {}
        for i in order:
            answers[i] = contestants[i].ask("run", case.seconds)
            clean = control.alone() and clean
        others = busy() - all_before - sum(c.ticks() for c in (*contestants, control.contestant)) + own_before
        if not anyhow and (not clean or others > BUSY * tick * (time.monotonic() - begin) + TICKS):
            dropped += 1
            continue
        for i, a in answers.items():
            medians[i].append(a["median"])
            least[i] = min(least[i], a["least"])
    return medians, least, dropped


def error(x, reference):
    return float(np.sqrt(np.mean((x - reference) ** 2) / np.mean(reference ** 2)))


def run(case, threads, rounds, anyhow, netfusion):
    """The result of a case as a line of the results, without what is common to all."""
    contestants, results, reference = [], [], None
    control = Control(netfusion, threads)
    try:
        for who in case.contestants:
            c = Contestant(who.command, threads)
            contestants.append(c)
            ready = c.answer()
            x = c.output()
            if reference is None:
                reference = x
            results.append({"name": ready["ready"], "version": ready["version"], "precision": who.precision, "form": who.form, "error": error(x, reference)})
            if not results[-1]["error"] <= (who.tolerance or case.tolerance[who.precision]):
                raise RuntimeError(f"the result is too far from that of {results[0]}: {results[-1]}")
        medians, least, dropped = measure(case, contestants, control, rounds, anyhow)
    finally:
        for c in (*contestants, control):
            c.close()
    if not medians[0]:
        raise RuntimeError(f"all of {dropped} rounds were disturbed")
    for r, m, l in zip(results, medians, least):
        r.update(median=statistics.median(m), low=min(m), high=max(m), least=l)
    return {"case": case.name, "threads": threads, "rounds": len(medians[0]), "dropped": dropped, "contestants": results, "ratios": ratios(case, results)}


def ratios(case, results):
    """For each of our precisions: the time of the best form of the peer that it is set beside, by ours."""
    out = {}
    for r in results:
        if r["name"] == "netfusion":
            peers = [p["median"] for p in results if p["name"] != "netfusion" and p["precision"] == case.against[r["precision"]]]
            out[r["precision"]] = min(peers) / r["median"]
    return out


def ceilings():
    """What bench/roofline measures, by threads."""
    out = subprocess.run(["go", "test", "-run=^$", "-bench=Roof/form=", "-benchtime=1x", "./bench/roofline"], check=True, text=True, stdout=subprocess.PIPE,
                         env={**os.environ, "CGO_ENABLED": "0"}).stdout
    for line in out.splitlines():
        if m := re.match(r"BenchmarkRoof/form=(\w+)/threads=(\d+)\S*\s+\d+\s+(.*)", line):
            words = m[3].split()
            yield {"ceilings": m[1], "threads": int(m[2]), "values": {unit: float(value) for value, unit in zip(words[::2], words[1::2]) if unit != "ns/op"}}


def commit():
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "*.go", "*.s", "*.py", "*.c", "*.h"]).returncode
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    return name + " with changes" * bool(changed)


def processor():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("env", type=pathlib.Path)
    args.add_argument("minilm")
    args.add_argument("-only", default="")
    args.add_argument("-threads", default="1 2")
    args.add_argument("-rounds", type=int, default=9)
    args.add_argument("-busy", action="store_true")
    args.add_argument("-out", type=pathlib.Path)
    args.add_argument("-list", action="store_true")
    args = args.parse_args()
    chosen = [c for c in cases.all(args.env, args.minilm) if re.search(args.only, c.name)]
    if args.list:
        print(*(c.name for c in chosen), sep="\n")
        return
    out = args.out or pathlib.Path("bench/results") / f"peers-{re.sub('[^a-z0-9]+', '-', processor().lower()).strip('-')}.jsonl"
    common = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "commit": commit(), "processor": processor(), **({"busy": True} if args.busy else {})}

    def record(line):
        with out.open("a") as f:
            print(json.dumps({**common, **line}), file=f)

    if re.search(args.only, "ceilings"):
        for line in ceilings():
            record(line)
    failed = False
    for case in chosen:
        case.prepare()
        for threads in map(int, args.threads.split()):
            begin = time.monotonic()
            try:
                line = run(case, threads, args.rounds, args.busy, args.env / "netfusion")
            except RuntimeError as e:
                print(f"{case.name} threads={threads}: {e}", file=sys.stderr, flush=True)
                failed = True
                continue
            record(line)
            print(f"{case.name} threads={threads}:", *(f"{p} {r:.2f}" for p, r in line["ratios"].items()),
                  f"({line['rounds']} rounds, {line['dropped']} dropped, {time.monotonic() - begin:.0f} s)", flush=True)
    print(f"results are in {out}")
    sys.exit(failed)


main()
