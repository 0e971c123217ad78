"""Times PyTorch, and so cuBLAS and cuDNN, at the shapes of a results file of netfusion-gpu, and adds tables to it.

    python3 pytorch.py gpu.md [FOLDER]

It needs PyTorch with CUDA, on the GPU of the file. Kernels are timed in the same way: a captured graph of launches whose operands are
together larger than the L2 cache, the median of its runs. Whole models are those of models.py, with the weights in the folder, from
inputs on the host to results there: as written, as a graph captured of that, and compiled, which captures graphs, too.
"""

import pathlib
import re
import statistics
import sys
import time

HEADING = "\n## PyTorch\n"
FEWEST, MOST, REPEATS = 16, 64, 9  # as in suite.go


def rows(text):
    """Yields entry, shape as a dictionary, and seconds of each line of the table of timings."""
    for entry, shape, micros in re.findall(r"^\| (\w+) \| ([\w= ]+) \| ([\d.]+) \|", text, re.MULTILINE):
        yield entry, {k: int(v) for k, v in (part.split("=") for part in shape.split())}, 1e-6 * float(micros)


def peaks(torch):
    """Returns the most operations per second that a large product reaches, by the kind of an entry."""
    n, found = 8192, {}
    for kind, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32), ("f32", torch.float32), ("int8", torch.int8)):
        torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        if kind == "int8":
            a, b = (torch.randint(-127, 128, (n, n), device="cuda", dtype=dtype) for _ in range(2))
            compute = lambda: torch._int_mm(a, b.t())
        else:
            a, b = (torch.rand(n, n, device="cuda").mul_(2).sub_(1).to(dtype) for _ in range(2))
            compute = lambda: a @ b.t()
        for _ in range(3):
            compute()
        times = []
        for _ in range(REPEATS):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            compute()
            end.record()
            end.synchronize()
            times.append(1e-3 * begin.elapsed_time(end))
        found[kind] = 2 * n**3 / statistics.median(times)
    return found


def flops(family, s):
    """Returns the operations of a product's or a convolution's line, or 0."""
    if family == "matmul":
        return 2 * s["m"] * s["n"] * s["k"]
    if family == "conv" and "n" in s:
        return 18 * s["images"] * s["size"] ** 2 * s["c"] * s["n"]
    return 0


def operation(torch, entry, s):
    """Returns what makes operands and what computes with them, or None where PyTorch has nothing to compare with."""
    family, kind = entry.split("_")[:2]
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32

    def uniform(*shape, dtype=dtype):
        return torch.rand(shape, device="cuda", dtype=torch.float32).mul_(2).sub_(1).to(dtype)

    if family == "matmul" and kind == "int8" and s["m"] > 16:
        make = lambda: (torch.randint(-127, 128, (s["m"], s["k"]), device="cuda", dtype=torch.int8),
                        torch.randint(-127, 128, (s["n"], s["k"]), device="cuda", dtype=torch.int8))
        return make, lambda x, w: torch._int_mm(x, w.t())
    if family == "matmul" and kind in ("f32", "tf32", "bf16"):
        return (lambda: (uniform(s["m"], s["k"]), uniform(s["n"], s["k"]), uniform(s["n"]))), torch.nn.functional.linear
    if family == "conv" and kind in ("f32", "tf32", "bf16") and "n" in s:
        last = torch.channels_last
        make = lambda: (uniform(s["images"], s["c"], s["size"], s["size"]).to(memory_format=last),
                        uniform(s["n"], s["c"], 3, 3).to(memory_format=last), uniform(s["n"]))
        return make, lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1)
    if family == "attention" and "text" in entry:
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


def wall(torch, call):
    """Returns the median and the 99th percentile of calls, as their caller sees them."""
    for _ in range(20):
        call()
    times = []
    for _ in range(300):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    times.sort()
    return times[150], times[297]


def forms(torch, inputs, compute):
    """Yields the ways to call a model, each from inputs on the host to the result there."""
    pinned = [x.pin_memory() for x in inputs]

    def around(f):
        return lambda: f(*(x.cuda(non_blocking=True) for x in pinned)).cpu()

    yield "eager", around(compute)
    static = [x.cuda() for x in inputs]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            compute(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute(*static)

    def replay():
        for to, x in zip(static, pinned):
            to.copy_(x, non_blocking=True)
        graph.replay()
        return result.cpu()

    yield "eager, graph", replay
    yield "compiled, graphs", around(torch.compile(compute, mode="max-autotune"))


def compare(torch, text, folder):
    """Yields the lines of the table of models."""
    import models
    import numpy

    for name, words, precision, p50 in re.findall(r"^\| ([\w-]+) \| ([\w= ]+) \| (f32|bf16|int8) \| ([\d.]+) \|", text, re.MULTILINE):
        if precision == "int8":
            continue  # PyTorch has no such model
        shape = {k: int(v) for k, v in (part.split("=") for part in words.split())}
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        ours = numpy.fromfile(folder / f"{name}-{words.replace(' ', '-').replace('=', '')}-{precision}.f32", numpy.float32)
        with torch.inference_mode(name != "step"):
            inputs, compute = models.model(torch, name, folder, shape, {"f32": torch.float32, "bf16": torch.bfloat16}[precision])
            for form, call in forms(torch, inputs, compute):
                median, late = wall(torch, call)
                theirs = call().float().numpy().ravel()
                off = ((ours - theirs) ** 2).mean() ** 0.5 / (theirs**2).mean() ** 0.5
                yield f"| {name} | {words} | {precision} | {form} | {1e6 * median:.1f} | {1e6 * late:.1f} | {100e6 * median / float(p50):.0f} % | {off:.1e} |"
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    import torch

    path = sys.argv[1]
    text = open(path, encoding="utf-8").read().split(HEADING)[0]
    lines = [HEADING, f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()} on {torch.cuda.get_device_name()}.",
             "Of PyTorch: its time, divided by ours. Of the peak: our operations per second, divided by what PyTorch's product of 8192 squared reaches",
             "in the same precision:", ""]
    torch.backends.cudnn.benchmark = True
    top = peaks(torch)
    lines.append(", ".join(f"{kind} {1e-12 * most:.0f} TFLOP/s" for kind, most in top.items()) + ".")
    lines += ["", "| entry | shape | PyTorch µs | of PyTorch | of the peak |", "| --- | --- | ---: | ---: | ---: |"]
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
        family, kind = entry.split("_")[:2]
        work = flops(family, shape)
        share = f"{100 * work / ours / top[kind]:.0f} %" if work else ""
        lines.append(f"| {entry} | {name} | {1e6 * theirs:.2f} | {100 * theirs / ours:.0f} % | {share} |")
        print(lines[-1], flush=True)
    if len(sys.argv) == 3:
        lines += ["", "Whole models, on the same weights; the difference is the root of the mean squared one, relative to PyTorch's results.", "",
                  "| model | shape | precision | PyTorch | p50 µs | p99 µs | of PyTorch | difference |", "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |"]
        for line in compare(torch, text, pathlib.Path(sys.argv[2])):
            lines.append(line)
            print(line, flush=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n".join(lines) + "\n")


main()
