"""Times a BERT sentence encoder here and in onnxruntime, in turns, so that whatever else the machine does falls on both alike.

    python compare.py CHECKPOINT_DIR [--threads 1 2] [--tokens 16] [--rounds 9] [--seconds 1]

Run it in the repository's folder. Each round starts both processes, the one first that was second before; each gives its mean time of a call over some
seconds. Prints the machine's load, the medians over the rounds, their range, and the ratio of the medians: how many times as long the project's encoder takes.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile


def output(*command, **env):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, **env}).stdout


def ours(binary, args, threads):
    out = output(binary, "-test.run=^$", f"-test.bench=^BenchmarkCheckpoint$/^workers={threads}$/^tokens={args.tokens}$",
                 f"-test.benchtime={args.seconds}s", BERT_MODEL=str(args.checkpoint.resolve()))
    return float(re.search(r"([\d.]+) ns/op", out)[1]) / 1e6


def peer(args, threads):
    script = pathlib.Path(__file__).parent / "minilm_ort.py"
    out = output(sys.executable, str(script), str(args.checkpoint), "--threads", str(threads), "--tokens", str(args.tokens), "--seconds", str(args.seconds))
    return float(re.search(r"mean ([\d.]+) ms", out)[1])


def main():
    args = argparse.ArgumentParser()
    args.add_argument("checkpoint", type=pathlib.Path)
    args.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args.add_argument("--tokens", type=int, default=16)
    args.add_argument("--rounds", type=int, default=9)
    args.add_argument("--seconds", type=float, default=1)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        binary = str(pathlib.Path(folder) / "bert.test")
        output("go", "test", "-c", "-o", binary, "./experts/bert", CGO_ENABLED="0")
        if hasattr(os, "getloadavg"):
            print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        for threads in args.threads:
            times = {"netfusion": [], "onnxruntime": []}
            for i in range(args.rounds):
                for name in sorted(times, reverse=i % 2 == 1):
                    times[name].append(ours(binary, args, threads) if name == "netfusion" else peer(args, threads))
            medians = {name: statistics.median(t) for name, t in times.items()}
            for name, t in times.items():
                print(f"{name} threads={threads} tokens={args.tokens}: median {medians[name]:.3f} ms of {len(t)} rounds ({min(t):.3f} to {max(t):.3f})")
            print(f"ratio threads={threads} tokens={args.tokens}: {medians['netfusion'] / medians['onnxruntime']:.2f}", flush=True)


main()
