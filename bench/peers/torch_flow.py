"""The published flow between a sentence encoder and BigGAN in PyTorch, as a contestant (Rombach, Esser and Ommer 2020).

    python torch_flow.py flow  model=FILE data=FILE rows=R form=eager|compiled threads=N    draws rows from given residuals
    python torch_flow.py train model=FILE data=FILE rows=R form=eager threads=N             a step of training

A step is what a trainer repeats: forward, the mean negative log-likelihood, backward, Adam. The flow is written as one would for speed: plain tensors, one linear
layer after the other, the fused Adam. compiled is torch.compile with its parameters frozen, so that it may pack them.
"""
import math

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from serve import arguments, serve

LATENT, COND, BLOCKS, HIDDEN, DEPTH, WIDTH = 268, 768, 24, 1024, 2, 256


def network(widths, norm=False):
    """Linear layers with LeakyReLU between them."""
    layers = []
    for i, o in zip(widths, widths[1:]):
        if layers:
            layers += [nn.BatchNorm1d(i)] * norm + [nn.LeakyReLU(0.01)]
        layers.append(nn.Linear(i, o))
    return nn.Sequential(*layers)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        half = LATENT // 2
        self.loc, self.scale = nn.Parameter(torch.zeros(LATENT)), nn.Parameter(torch.ones(LATENT))
        widths = [half + LATENT] + [HIDDEN] * (DEPTH + 1) + [half]
        self.s, self.t = (nn.ModuleList(network(widths) for _ in range(2)) for _ in range(2))
        self.register_buffer("perm", torch.arange(LATENT))
        self.register_buffer("back", torch.arange(LATENT))

    def forward(self, x, e):
        a, b = (self.scale * (x + self.loc)).chunk(2, 1)
        logdet = self.scale.abs().log().sum()
        for s, t in zip(self.s, self.t):
            given = torch.cat((a, e), 1)
            scale = s(given).tanh()
            a, b = torch.addcmul(t(given), b, scale.exp()), a
            logdet = logdet + scale.sum(1)
        return torch.cat((b, a), 1)[:, self.perm], logdet

    def inverse(self, v, e):
        b, a = v[:, self.back].chunk(2, 1)
        for s, t in ((self.s[1], self.t[1]), (self.s[0], self.t[0])):
            given = torch.cat((b, e), 1)
            a, b = b, (a - t(given)) * (-s(given).tanh()).exp()
        return torch.cat((a, b), 1) / self.scale - self.loc


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = network([COND] + [WIDTH] * (DEPTH + 1) + [LATENT], norm=True)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))

    def loss(self, x, c):
        e, logdet = self.embedder(c), 0
        for b in self.blocks:
            x, d = b(x, e)
            logdet = logdet + d
        return ((x * x).sum(1) / 2 - logdet).mean() + x.shape[1] / 2 * math.log(2 * math.pi)

    def forward(self, v, c):
        e = self.embedder(c)
        for b in reversed(self.blocks):
            v = b.inverse(v, e)
        return v


def load(path):
    """A Flow with the tensors of a file that our own flow wrote."""
    stored, flow = load_file(path), Flow()
    with torch.no_grad():
        for i, b in enumerate(flow.blocks):
            p = f"sub_layers.{i}."
            b.loc.copy_(stored[p + "norm_layer.loc"])
            b.scale.copy_(stored[p + "norm_layer.scale"])
            b.perm.copy_(stored[p + "shuffle.forward_shuffle_idx"])
            b.back.copy_(b.perm.argsort())
            for name, nets in (("s", b.s), ("t", b.t)):
                for k, net in enumerate(nets):
                    net.load_state_dict({n: stored[f"{p}coupling.{name}.{k}.main.{n}"] for n in net.state_dict()})
        state = flow.embedder.state_dict()
        state.update({n: stored["embedder.main." + n] for n in state if "num_batches" not in n})
        flow.embedder.load_state_dict(state)
    return flow


def drawing(flow, form, v, c):
    flow.eval().requires_grad_(False)
    if form == "compiled":
        import torch._inductor.config as inductor
        inductor.freezing = True
        flow = torch.compile(flow)

    def call():
        with torch.inference_mode():
            return flow(v, c).numpy()
    return call


def training(flow, x, c):
    optimizer = torch.optim.Adam(flow.parameters(), lr=7.2e-5, betas=(0.5, 0.9), fused=True)

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = flow.loss(x, c)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()
    return call


def main():
    a = arguments()
    rows = int(a["rows"])
    torch.set_num_threads(int(a["threads"]))
    flow = load(a["model"])
    numbers = torch.from_numpy(np.fromfile(a["data"], np.float32, rows * (LATENT + COND)))
    x, c = numbers[:rows * LATENT].view(rows, LATENT), numbers[rows * LATENT:].view(rows, COND)
    serve("PyTorch", torch.__version__, drawing(flow, a["form"], x, c) if a["family"] == "flow" else training(flow, x, c))


if __name__ == "__main__":
    main()
