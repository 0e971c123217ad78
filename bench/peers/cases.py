"""What is measured: the cases, their contestants, and the files that they read."""
import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np

HERE = pathlib.Path(__file__).parent
PRECISIONS = {"f32": 4, "bf16": 2, "int8": 1}  # bytes of a weight
MEMORY = 192 << 20  # bytes that no cache holds


@dataclasses.dataclass
class Contestant:
    precision: str
    form: str
    command: list
    tolerance: float | None  # None means the case's


@dataclasses.dataclass
class Case:
    name: str
    contestants: list[Contestant]  # the first one's output is the reference
    seconds: float                 # of one run
    tolerance: dict[str, float]    # of an output: the root of the mean squared difference, relative to the reference's, by precision
    against: dict[str, str]        # the precision of the peers that ours are set beside
    prepare: Callable[[], None]


def contestant(*command, precision="f32", form="", tolerance=None, **words):
    extra = {"form": form} if form else {}
    return Contestant(precision, form, [*command, *(f"{k}={v}" for k, v in {**words, "precision": precision, **extra}.items())], tolerance)


def all(env, minilm):
    data = env / "data"
    data.mkdir(exist_ok=True)
    ours, python, onednn = env / "netfusion", env / "bin/python", env / "onednn"
    numbers = data / "random.f32"

    def random():
        if not numbers.exists():
            np.random.default_rng(1).standard_normal(1 << 24, np.float32).tofile(numbers)

    def weights(what):
        def prepare():
            random()
            if not (data / what / "model.safetensors").exists():
                subprocess.run([python, HERE / "weights.py", what, data / what], check=True)
        return prepare

    if minilm:
        yield from berts("minilm", pathlib.Path(minilm), lambda: None, ours, python, data)
    yield from berts("base", data / "bert-base", weights("bert-base"), ours, python, data)
    for size in (128, 256, 512):
        words = dict(model=data / f"biggan-{size}")
        yield Case(f"biggan/{size}", [contestant(python, HERE / "ort.py", "biggan", **words)] +
                   [contestant(ours, "biggan", precision=p, **words) for p in ("f32", "bf16")],
                   0.25, {"f32": 1e-4, "bf16": 0.03}, {"f32": "f32", "bf16": "f32"}, weights(f"biggan-{size}"))
    yield from flows(ours, python, data / "flow.safetensors", numbers, random)
    yield from convolutions(ours, onednn, env / "winograd", numbers, random)
    yield from matmuls(ours, onednn, numbers, random)


def matmuls(ours, onednn, numbers, prepare):
    """Layers by outputs n and inputs k: MiniLM's, BERT-base's, one of BigGAN's, the flow's. Warm, and one row with the weights from memory."""
    for n, k in ((1152, 384), (1536, 384), (384, 1536), (3072, 768), (512, 2048), (1024, 1024)):
        for m in (1, 8, 16, 32, 128, 1024, 0):
            words = dict(data=numbers, m=m or 1, n=n, k=k)
            yield Case(f"matmul/n={n},k={k}/m={m or '1,memory'}",
                       [contestant(program, "matmul", precision=p, copies=1 if m else MEMORY // (n * k * size) + 1, **words)
                        for p, size in PRECISIONS.items() for program in (onednn, ours)],
                       0.02, {"f32": 1e-5, "bf16": 0.01, "int8": 0.03}, {p: p for p in PRECISIONS}, prepare)


def convolutions(ours, onednn, winograd, numbers, prepare):
    """The 3×3 convolutions of BigGAN-deep."""
    for channels, size in ((512, 4), (512, 8), (512, 16), (256, 32), (128, 64), (64, 128)):
        words = {"data": numbers, "in": channels, "out": channels, "size": size}
        yield Case(f"conv/channels={channels}/size={size}",
                   [contestant(onednn, "conv", form="direct", **words), contestant(winograd, "conv", form="winograd", **words), contestant(ours, "conv", **words),
                    contestant(onednn, "conv", precision="bf16", form="direct", **words), contestant(ours, "conv", precision="bf16", **words)],
                   0.05, {"f32": 1e-5, "bf16": 0.02}, {"f32": "f32", "bf16": "bf16"}, prepare)


def berts(name, model, prepare, ours, python, data):
    """Sentence encoders: texts × tokens. onnxruntime's int8 has a scale for a matrix, ours one for a row; with one for a row its results are three
    times as close, but it is slower."""
    for texts, tokens in ((1, 8), (1, 16), (1, 32), (1, 128), (32, 32)):
        file = data / f"texts-{name}-{texts}x{tokens}.txt"

        def both(file=file, texts=texts, tokens=tokens):
            prepare()
            sentences(file, model / "vocab.txt", texts, tokens)

        words = dict(model=model, texts=file, tokens=tokens)
        ort = (python, HERE / "ort.py", "bert")
        yield Case(f"bert/{name}/{texts}x{tokens}",
                   [contestant(*ort, form="fused", cache=data, **words), contestant(*ort, form="raw", cache=data, **words), contestant(ours, "bert", **words),
                    contestant(ours, "bert", precision="bf16", **words),
                    contestant(*ort, precision="int8", form="fused", tolerance=0.7, cache=data, **words),
                    contestant(ours, "bert", precision="int8", **words)],
                   0.15, {"f32": 1e-5, "bf16": 0.05, "int8": 0.15}, {"f32": "f32", "bf16": "f32", "int8": "int8"}, both)


def sentences(file, vocabulary, texts, tokens):
    """Writes texts of so many tokens each, [CLS] and [SEP] among them, whose words are in the vocabulary."""
    words = [w for w in vocabulary.read_text().splitlines() if re.fullmatch("[a-z]{3,}", w)]
    rng = np.random.default_rng(1)
    file.write_text("".join(" ".join(rng.choice(words, tokens - 2)) + "\n" for _ in range(texts)))


def flows(ours, python, model, numbers, prepare):
    """A sample of the flow at the paper's size, and a step of its training."""
    torch = (python, HERE / "torch_flow.py")

    def words(rows):
        return dict(model=model, data=numbers, rows=rows)

    def both():
        prepare()
        if not model.exists():
            subprocess.run([ours, "flow", f"model={model}", f"data={numbers}", "rows=1", "precision=f32", "threads=1"], stdin=subprocess.DEVNULL, check=True,
                           stdout=sys.stderr)

    yield Case("flow/sample", [contestant(*torch, "flow", form=f, **words(1)) for f in ("eager", "compiled")] +
               [contestant(ours, "flow", precision=p, **words(1)) for p in PRECISIONS],
               0.3, {"f32": 1e-4, "bf16": 0.05, "int8": 0.1}, {p: "f32" for p in PRECISIONS}, both)
    for rows in (16, 64):
        yield Case(f"flow/train,rows={rows}", [contestant(*torch, "train", form="eager", **words(rows)), contestant(ours, "train", **words(rows))],
                   0.5, {"f32": 1e-3}, {"f32": "f32"}, both)
