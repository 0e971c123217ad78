"""Times PyTorch, and so cuBLAS and cuDNN, at the shapes of a results file of netfusion-gpu, and adds a table to it.

    python3 pytorch.py gpu.md

It needs PyTorch with CUDA, on the GPU of the file. Times are taken in the same way: a captured graph of launches whose operands are
together larger than the L2 cache, the median of its runs.
"""

import re
import statistics
import sys

HEADING = "\n## PyTorch\n"
FEWEST, MOST, REPEATS = 16, 64, 9  # as in suite.go


def rows(text):
    """Yields entry, shape as a dictionary, and seconds of each line of the table of timings."""
    for entry, shape, micros in re.findall(r"^\| (\w+) \| ([\w= ]+) \| ([\d.]+) \|", text, re.MULTILINE):
        yield entry, {k: int(v) for k, v in (part.split("=") for part in shape.split())}, 1e-6 * float(micros)


def operation(torch, entry, s):
    """Returns what makes operands and what computes with them, or None where PyTorch has nothing to compare with."""
    family, kind = entry.split("_")[:2]
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32

    def uniform(*shape, dtype=dtype):
        return torch.rand(shape, device="cuda", dtype=torch.float32).mul_(2).sub_(1).to(dtype)

    if family == "matmul" and kind in ("f32", "tf32", "bf16"):
        return (lambda: (uniform(s["m"], s["k"]), uniform(s["n"], s["k"]), uniform(s["n"]))), torch.nn.functional.linear
    if family == "conv" and kind in ("f32", "tf32", "bf16"):
        last = torch.channels_last
        make = lambda: (uniform(s["images"], s["c"], s["size"], s["size"]).to(memory_format=last),
                        uniform(s["n"], s["c"], 3, 3).to(memory_format=last), uniform(s["n"]))
        return make, lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1)
    if family == "attention" and kind in ("text", "tf32"):
        make = lambda: tuple(uniform(s["texts"], s["heads"], s["tokens"], s["depth"]) for _ in range(3))
        return make, lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    if entry == "layernorm_f32":
        make = lambda: (uniform(s["rows"], s["n"]), uniform(s["rows"], s["n"]), uniform(s["n"]), uniform(s["n"]))
        return make, lambda x, r, g, b: torch.nn.functional.layer_norm(x + r, (s["n"],), g, b)
    if entry == "activation_gelu":
        return (lambda: (uniform(s["n"]),)), torch.nn.functional.gelu
    if entry == "activation_softmax":
        return (lambda: (uniform(s["rows"], s["cols"]),)), lambda x: torch.softmax(x, -1)
    return None


def seconds(torch, make, compute):
    """Returns the median time of one call."""
    first = make()
    size = sum(t.numel() * t.element_size() for t in (*first, compute(*first)))
    l2 = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 64 << 20)
    copies = min(max(3 * l2 // size, 1), MOST)
    operands = [first] + [make() for _ in range(copies - 1)]
    calls = -(-FEWEST // copies) * copies
    results = [None] * copies  # kept, so that each copy has an output of its own
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels at the first calls
        for _ in range(3):
            for o in operands[:2]:
                compute(*o)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            results[i % copies] = compute(*operands[i % copies])
    times = []
    for _ in range(1 + REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e-3 * begin.elapsed_time(end) / calls)
    return statistics.median(times[1:])


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    import torch

    path = sys.argv[1]
    text = open(path, encoding="utf-8").read().split(HEADING)[0]
    lines = [HEADING, f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()} on {torch.cuda.get_device_name()}.",
             "Of PyTorch: its time, divided by ours.", "",
             "| entry | shape | PyTorch µs | of PyTorch |", "| --- | --- | ---: | ---: |"]
    torch.backends.cudnn.benchmark = True
    for entry, shape, ours in rows(text):
        found = operation(torch, entry, shape)
        if not found:
            continue
        tf32 = "tf32" in entry
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        with torch.inference_mode():
            theirs = seconds(torch, *found)
        torch.cuda.empty_cache()
        name = " ".join(f"{k}={v}" for k, v in shape.items())
        lines.append(f"| {entry} | {name} | {1e6 * theirs:.2f} | {100 * theirs / ours:.0f} % |")
        print(lines[-1], flush=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n".join(lines) + "\n")


main()
