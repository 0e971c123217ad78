"""Tries designs of the flow against each other: held-out likelihood at an equal number of parameters.

usage: go run ./bench/flows FILE 30000 && python3 compare.py FILE [--seeds N] [--steps N] [--condition text,picture,draws] [--only NAME,…]

Every design is the one that ships (cinn/flow: closed-form linear layer, one subnet for scale and shift, soft clamp at 2, fixed permutation,
LayerNorm in the conditioner) with one thing changed; the width of the couplings' subnets makes up for parameters that the change adds
or takes away. All are trained alike: AdamW, on the few pairs there are with dropout and noise on the condition, an average of the weights that is
kept where it is best on the validation part. The table gives nats per dimension of z on the test concepts. Training is written in PyTorch, because a
design that loses has no place in the engine.
"""

import argparse
import copy
import json
import math
import statistics
import struct
import sys
import time

import torch
from torch import nn
from torch.nn import functional


def read(path):
    """The tensors of a safetensors file."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = bytearray(f.read())
    types = {"F32": torch.float32, "I32": torch.int32}
    out = {}
    for name, t in header.items():
        if name != "__metadata__" and t["dtype"] in types:
            begin, end = t["data_offsets"]
            out[name] = torch.frombuffer(data[begin:end], dtype=types[t["dtype"]]).reshape(t["shape"]).clone()
    return out


class Split:
    """Pairs of a condition and a Gaussian of z: the training, validation or test part."""

    def __init__(self, data, condition, split):
        if condition == "draws":
            z = data["draws.z"]
            rows = torch.arange(len(z)) % 20
            rows = (rows >= 2) if split == 0 else (rows == split - 1)
            self.c, self.mean, self.std = data["draws.picture"][rows], z[rows], torch.zeros_like(z[rows])
            self.group = torch.arange(len(self.c))
        else:
            rows = data["index"][:, 0] == split
            self.c, self.mean, self.std = data[condition][rows], data["mean"][rows], data["std"][rows]
            self.group = data["index"][rows, 1]

    def draw(self, rows, generator):
        i = torch.randint(len(self.c), (rows,), generator=generator)
        return self.mean[i] + self.std[i] * torch.randn(rows, self.mean.shape[1], generator=generator), self.c[i]

    def all(self, draws):
        g = torch.Generator().manual_seed(0)
        for _ in range(draws):
            yield self.mean + self.std * torch.randn(self.mean.shape, generator=g), self.c


def mlp(inputs, width, hidden, outputs, norm, dropout, zero):
    layers = []
    for _ in range(hidden):
        layers.append(nn.Linear(inputs, width))
        if norm:
            layers.append(norm(width))
        layers += [nn.LeakyReLU(0.01), nn.Dropout(dropout)]
        inputs = width
    last = nn.Linear(inputs, outputs)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class Affine(nn.Module):
    """y = x·exp(s) + t with s, t of one subnet, or of one each."""

    def __init__(self, o, inputs, outputs):
        super().__init__()
        n = 2 if o.shared else 1
        self.nets = nn.ModuleList(mlp(inputs, o.hidden, o.depth, n * outputs, None, o.dropout, o.zero) for _ in range(3 - n))
        self.o = o

    def forward(self, x, h):
        s, t = self.nets[0](h).chunk(2, 1) if self.o.shared else (self.nets[0](h), self.nets[1](h))
        if self.o.clamp == "soft":
            s = 2 * torch.tanh(s / 2)
        elif self.o.clamp == "tanh":
            s = torch.tanh(s)
        return x * torch.exp(s) + t, s.sum(1)


class Spline(nn.Module):
    """Monotonic rational-quadratic splines (Durkan et al. 2019, Neural Spline Flows) on [-B, B], the identity beyond."""

    BINS, BOUND, LEAST = 8, 4.0, 1e-3

    def __init__(self, o, inputs, outputs):
        super().__init__()
        self.net = mlp(inputs, o.hidden, o.depth, outputs * (3 * self.BINS - 1), None, o.dropout, o.zero)

    def forward(self, x, h):
        k, b, least = self.BINS, self.BOUND, self.LEAST
        raw = self.net(h).reshape(*x.shape, 3 * k - 1)
        edges = []
        for part in (raw[..., :k], raw[..., k:2 * k]):
            w = least + (1 - least * k) * functional.softmax(part, -1)
            edges.append(functional.pad(2 * b * torch.cumsum(w, -1) - b, (1, 0), value=-b))
        slope = least + functional.softplus(raw[..., 2 * k:] + math.log(math.exp(1 - least) - 1))
        slope = functional.pad(slope, (1, 1), value=1.0)
        inside = (x > -b) & (x < b)
        v = torch.where(inside, x, torch.zeros_like(x))
        i = (v[..., None] >= edges[0][..., 1:-1]).sum(-1, keepdim=True)
        at = lambda t, j: t.gather(-1, j)[..., 0]
        x0, x1, y0, y1 = at(edges[0], i), at(edges[0], i + 1), at(edges[1], i), at(edges[1], i + 1)
        d0, d1 = at(slope, i), at(slope, i + 1)
        w, height = x1 - x0, y1 - y0
        s, u = height / w, (v - x0) / w
        below = s + (d1 + d0 - 2 * s) * u * (1 - u)
        y = y0 + height * (s * u * u + d0 * u * (1 - u)) / below
        log = 2 * torch.log(s) + torch.log(d1 * u * u + 2 * s * u * (1 - u) + d0 * (1 - u) ** 2) - 2 * torch.log(below)
        return torch.where(inside, y, x), torch.where(inside, log, torch.zeros_like(log)).sum(1)


class Block(nn.Module):
    def __init__(self, o, n, embed, generator):
        super().__init__()
        coupling = Spline if o.coupling == "spline" else Affine
        a, b = n - n // 2, n // 2
        self.first, self.second = coupling(o, a + embed, b), coupling(o, b + embed, a)
        self.loc, self.scale = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.ones(n))
        self.split, self.mixing = (a, b), o.mixing
        self.register_buffer("perm", torch.randperm(n, generator=generator))
        if o.mixing == "rotation":
            self.register_buffer("q", torch.linalg.qr(torch.randn(n, n, generator=generator))[0])
        elif o.mixing == "householder":
            self.reflections = nn.Parameter(torch.randn(8, n, generator=generator))
        elif o.mixing == "lu":
            self.lower, self.upper = nn.Parameter(torch.zeros(n, n)), nn.Parameter(torch.zeros(n, n))

    def forward(self, x, e):
        x = self.scale * (x + self.loc)
        logdet = self.scale.abs().log().sum()
        a, b = x.split(self.split, 1)
        b, d1 = self.first(b, torch.cat([a, e], 1))
        a, d2 = self.second(a, torch.cat([b, e], 1))
        x = torch.cat([b, a], 1)[:, self.perm]
        if self.mixing == "rotation":
            x = x @ self.q
        elif self.mixing == "householder":
            for v in functional.normalize(self.reflections, dim=1):
                x = x - 2 * (x @ v)[:, None] * v
        elif self.mixing == "lu":
            one = torch.eye(x.shape[1])
            x = x @ (one + self.lower.tril(-1)).T @ (one + self.upper.triu(1)).T
        return x, logdet + d1 + d2


class Flow(nn.Module):
    def __init__(self, o, n, cond, seed):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        norm = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": None}[o.norm]
        self.embedder = mlp(cond, 384, 2, 96, norm, o.dropout, False)
        self.blocks = nn.ModuleList(Block(o, n, 96, g) for _ in range(o.blocks))
        for name, value in {"c_mean": torch.zeros(cond), "c_std": torch.ones(cond), "a": torch.zeros(cond, n), "b": torch.zeros(n),
                            "white": torch.eye(n)}.items():
            self.register_buffer(name, value)
        self.o = o

    def fit(self, data):
        """The closed-form linear layer: ridge regression, then the Cholesky factor of the covariance of what it leaves on images of concepts
        that it was not fitted to. Without it, mean and variance of each dimension."""
        x = torch.cat([z for z, _ in data.all(2)]).double()
        c = torch.cat([c for _, c in data.all(2)])
        fold = data.group.repeat(2) % 5
        self.c_mean, self.c_std = c.mean(0), c.std(0) + 1e-6
        u = ((c - self.c_mean) / self.c_std).double()
        self.b = x.mean(0).float()
        x = x - self.b
        r = x
        if self.o.linear:
            fit = lambda rows, ridge: torch.linalg.solve(u[rows].T @ u[rows] + ridge * torch.eye(u.shape[1]).double(), u[rows].T @ x[rows])

            def left(ridge):
                out = torch.empty_like(x)
                for k in range(5):
                    out[fold == k] = x[fold == k] - u[fold == k] @ fit(fold != k, ridge)
                return out

            ridge = min((len(x) * 10.0 ** k for k in range(-4, 3)), key=lambda k: left(k).square().sum().item())
            self.a, r = fit(slice(None), ridge).float(), left(ridge)
        cov = r.T @ r / len(r)
        cov = 0.99 * cov + 0.01 * torch.diag(cov.diag()) if self.o.linear else torch.diag(cov.diag())
        self.white = torch.linalg.inv(torch.linalg.cholesky(cov.double())).float()

    def forward(self, x, c, noise=0.0):
        u = (c - self.c_mean) / self.c_std
        if noise:
            u = u + noise * torch.randn_like(u)
        x = (x - self.b - u @ self.a) @ self.white.T
        e = self.embedder(u)
        logdet = self.white.diag().log().sum()
        for block in self.blocks:
            x, d = block(x, e)
            logdet = logdet + d
        return 0.5 * x.square().sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi) - logdet


def parameters(o, n, cond):
    return sum(p.numel() for p in Flow(o, n, cond, 0).parameters())


def equal(o, n, cond, want):
    """o with the width at which it has as many parameters as want."""
    low, high = 8, 2048
    while low < high:
        o.hidden = (low + high) // 2
        if parameters(o, n, cond) < want:
            low = o.hidden + 1
        else:
            high = o.hidden
    o.hidden = low
    return o


def nll(flow, data, draws):
    flow.eval()
    with torch.no_grad():
        values = [flow(z, c).mean().item() for z, c in data.all(draws)]
    flow.train()
    return statistics.mean(values) / data.mean.shape[1]


def train(o, splits, seed, steps):
    torch.manual_seed(seed)
    learn, judge, test = splits
    flow = Flow(o, learn.mean.shape[1], learn.c.shape[1], seed)
    flow.fit(learn)
    start = nll(flow, test, 4)
    average, best, kept = copy.deepcopy(flow), math.inf, None
    g = torch.Generator().manual_seed(seed)
    matrices = [p for p in flow.parameters() if p.dim() == 2]
    vectors = [p for p in flow.parameters() if p.dim() != 2]
    adam = torch.optim.AdamW([{"params": matrices, "weight_decay": o.decay}, {"params": vectors, "weight_decay": 0.0}], lr=2e-3, betas=(0.9, 0.99))
    for step in range(1, steps + 1):
        rate = 2e-3 * (step / 100 if step <= 100 else 0.5 + 0.5 * math.cos(math.pi * (step - 100) / (steps - 100)))
        for group in adam.param_groups:
            group["lr"] = rate
        z, c = learn.draw(128, g)
        loss = flow(z, c, noise=o.noise).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5)
        adam.step()
        decay = min(0.995, step / (step + 10))
        with torch.no_grad():
            for p, q in zip(average.state_dict().values(), flow.state_dict().values()):
                if p.dtype.is_floating_point:
                    p.lerp_(q, 1 - decay)
        if step % 100 == 0 or step == steps:
            score = nll(average, judge, 4)
            if score < best:
                best, kept = score, (step, copy.deepcopy(average))
    return start, nll(kept[1], test, 16), kept[0]


BASE = dict(blocks=6, hidden=128, depth=2, dropout=0.2, noise=0.5, decay=0.5, shared=True, clamp="soft", coupling="affine", mixing="permutation", norm="layer",
            linear=True, zero=True)
PLENTY = dict(dropout=0.0, noise=0.0, decay=0.01)  # for draws, of which there are enough
DESIGNS = {
    "as it ships": {},
    "four subnets a block": dict(shared=False),
    "tanh clamp at 1": dict(clamp="tanh"),
    "no clamp": dict(clamp="none"),
    "fixed rotation": dict(mixing="rotation"),
    "learned rotation by 8 reflections": dict(mixing="householder"),
    "learned mixing by LU": dict(mixing="lu"),
    "spline couplings": dict(coupling="spline"),
    "BatchNorm in the conditioner": dict(norm="batch"),
    "no norm in the conditioner": dict(norm="none"),
    "no linear layer": dict(linear=False),
    "couplings not zero at the start": dict(zero=False),
    "12 blocks": dict(blocks=12),
    "3 blocks": dict(blocks=3),
    "four subnets + tanh clamp + BatchNorm + neither linear layer nor zeros: the paper": dict(shared=False, clamp="tanh", norm="batch", linear=False, zero=False),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--condition", default="text,picture,draws")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = read(args.file)
    only = args.only.split(",") if args.only else list(DESIGNS)
    for condition in args.condition.split(","):
        splits = [Split(data, condition, s) for s in range(3)]
        n, cond = splits[0].mean.shape[1], splits[0].c.shape[1]
        common = {**BASE, **(PLENTY if condition == "draws" else {})}
        want = parameters(argparse.Namespace(**common), n, cond)
        print(f"\nGiven the {condition}: z of {n} dimensions, condition of {cond}; {len(splits[0].c)} images to learn from, {len(splits[2].c)} to be judged "
              f"by; {args.steps} steps of 128, {args.seeds} seeds, PyTorch {torch.__version__}.\n")
        print("| design | parameters | NLL at the start | NLL | against what ships | best step | ms a step |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        base = None
        for name in only:
            o = equal(argparse.Namespace(**{**common, **DESIGNS[name]}), n, cond, want)
            begin, runs = time.time(), []
            for seed in range(args.seeds):
                runs.append(train(o, splits, seed, args.steps))
                print(f"{condition}: {name}, seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
            scores = [r[1] for r in runs]
            if name == "as it ships":
                base = scores
            gap = ""
            if base and scores is not base:
                d = [a - b for a, b in zip(scores, base)]
                gap = f"{statistics.mean(d):+.4f} [{min(d):+.4f}, {max(d):+.4f}]"
            print(f"| {name} | {parameters(o, n, cond) / 1e6:.3f} M | {statistics.mean(r[0] for r in runs):.4f} | {statistics.mean(scores):.4f} | {gap} | "
                  f"{round(statistics.mean(r[2] for r in runs))} | {1000 * (time.time() - begin) / args.seeds / args.steps:.1f} |", flush=True)


if __name__ == "__main__":
    main()
