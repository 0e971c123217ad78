"""Times a training step of the flow of the Net2Net dialect in PyTorch, to set beside cinn/flow's BenchmarkStep on the same machine.

    python torch_flow.py [--blocks 24] [--hidden 1024] [--latent 268] [--cond 768] [--batch 64] [--threads 1 2] [--steps 5] [--amsgrad] [--weights FILE]

A step is what a trainer repeats: forward, the mean negative log-likelihood, backward, Adam. The flow is written as one would for speed: plain tensors, one linear
layer after the other, the fused Adam where this PyTorch has it, gradients kept or freed between steps, whichever is faster. --weights takes a file of
flow.Save with the batch beside it (x [batch][latent] and c [batch][cond]) and prints the loss of the first step.
"""
import argparse
import inspect
import math
import statistics
import time

import torch
from torch import nn


def network(widths, norm=False):
    """Linear layers with LeakyReLU between them."""
    layers = []
    for i, o in zip(widths, widths[1:]):
        if layers:
            layers += [nn.BatchNorm1d(i)] * norm + [nn.LeakyReLU(0.01)]
        layers.append(nn.Linear(i, o))
    return nn.Sequential(*layers)


class Block(nn.Module):
    def __init__(self, latent, embed, hidden, depth):
        super().__init__()
        half = latent // 2
        self.loc, self.scale = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.ones(latent))
        widths = [half + embed] + [hidden] * (depth + 1) + [half]
        self.s, self.t = (nn.ModuleList(network(widths) for _ in range(2)) for _ in range(2))
        self.register_buffer("perm", torch.randperm(latent))

    def forward(self, x, e):
        a, b = (self.scale * (x + self.loc)).chunk(2, 1)
        logdet = self.scale.abs().log().sum()
        for s, t in zip(self.s, self.t):
            given = torch.cat((a, e), 1)
            scale = s(given).tanh()
            a, b = torch.addcmul(t(given), b, scale.exp()), a
            logdet = logdet + scale.sum(1)
        return torch.cat((b, a), 1)[:, self.perm], logdet


class Flow(nn.Module):
    def __init__(self, blocks, latent, cond, hidden, depth=2, width=256):
        super().__init__()
        self.embedder = network([cond] + [width] * 3 + [latent], norm=True)
        self.blocks = nn.ModuleList(Block(latent, latent, hidden, depth) for _ in range(blocks))

    def loss(self, x, c):
        e, logdet = self.embedder(c), 0
        for b in self.blocks:
            x, d = b(x, e)
            logdet = logdet + d
        return ((x * x).sum(1) / 2 - logdet).mean() + x.shape[1] / 2 * math.log(2 * math.pi)


def load(flow, path):
    """Copies a flow's tensors and returns the batch that is stored with them."""
    from safetensors.torch import load_file
    stored = load_file(path)
    with torch.no_grad():
        for i, b in enumerate(flow.blocks):
            p = f"sub_layers.{i}."
            b.loc.copy_(stored[p + "norm_layer.loc"])
            b.scale.copy_(stored[p + "norm_layer.scale"])
            b.perm.copy_(stored[p + "shuffle.forward_shuffle_idx"])
            for name, nets in (("s", b.s), ("t", b.t)):
                for k, net in enumerate(nets):
                    net.load_state_dict({n: stored[f"{p}coupling.{name}.{k}.main.{n}"] for n in net.state_dict()})
        state = flow.embedder.state_dict()
        state.update({n: stored["embedder.main." + n] for n in state if "num_batches" not in n})
        flow.embedder.load_state_dict(state)
    return stored["x"], stored["c"]


def milliseconds(flow, optimizer, x, c, steps, free):
    times = []
    for i in range(steps + 2):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=free)
        loss = flow.loss(x, c)
        loss.backward()
        optimizer.step()
        if i >= 2:  # the first steps allocate
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main():
    args = argparse.ArgumentParser()
    for name, value in {"blocks": 24, "hidden": 1024, "latent": 268, "cond": 768, "batch": 64, "steps": 5}.items():
        args.add_argument("--" + name, type=int, default=value)
    args.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args.add_argument("--amsgrad", action="store_true")
    args.add_argument("--weights")
    args = args.parse_args()
    torch.manual_seed(1)
    flow = Flow(args.blocks, args.latent, args.cond, args.hidden)
    x, c = torch.randn(args.batch, args.latent), torch.randn(args.batch, args.cond)
    if args.weights:
        x, c = load(flow, args.weights)
        print(f"loss {flow.loss(x, c).item():.4f}")
    best = {"fused": True} if "fused" in inspect.signature(torch.optim.Adam).parameters else {"foreach": True}
    try:
        optimizer = torch.optim.Adam(flow.parameters(), lr=7.2e-5, betas=(0.5, 0.9), amsgrad=args.amsgrad, **best)
    except RuntimeError:  # fused, but not on this device
        optimizer = torch.optim.Adam(flow.parameters(), lr=7.2e-5, betas=(0.5, 0.9), amsgrad=args.amsgrad, foreach=True)
    count = sum(p.numel() for p in flow.parameters())
    for threads in args.threads:
        torch.set_num_threads(threads)
        ms = min(milliseconds(flow, optimizer, x, c, args.steps, free) for free in (True, False))
        print(f"torch {torch.__version__} threads={threads} batch={len(x)} parameters={count}: {ms:.1f} ms, {6e-6 * count * len(x) / ms:.0f} GFLOP/s", flush=True)


main()
