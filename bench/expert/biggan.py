# SPDX-License-Identifier: Apache-2.0
"""Networks of the emoji expert: a BigGAN-deep generator (module and key names of the public checkpoints), the image
encoder of its variational autoencoder, and a projection discriminator."""
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import spectral_norm as sn

ZD = CD = 128  # latent and class embedding width
NS = 51        # rows of batch-norm statistics in the public checkpoints
LAYERS = {32: [(1, 16, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4), (1, 4, 2), (0, 2, 1)],
          64: [(1, 16, 16), (0, 16, 8), (1, 8, 8), (0, 8, 4), (1, 4, 4), (0, 4, 2), (1, 2, 2), (0, 2, 1)]}
ATTENTION = {32: 4, 64: 6}


def load(path, styles, res):
    """Images in [-1,1], labels, number of classes, and the other columns of the chosen styles."""
    d = dict(np.load(path))
    sel = np.isin(d['style'], [int(c) for c in styles])
    x = torch.from_numpy(d['image'][sel]).permute(0, 3, 1, 2).float() / 127.5 - 1
    if res != x.shape[-1]:
        x = F.interpolate(x, size=(res, res), mode='area')
    y = torch.from_numpy(d['label'][sel]).long()
    return x.contiguous(), y, int(d['label'].max()) + 1, {k: d[k][sel] for k in ('label', 'style', 'emoji')}


class BN(nn.Module):
    """Batch norm, conditional on [z, class]; batch statistics in training, `fixed` ones once exported."""

    def __init__(s, nf, cond=True):
        super().__init__()
        s.register_buffer('running_means', torch.zeros(NS, nf))
        s.register_buffer('running_vars', torch.ones(NS, nf))
        s.cond = cond
        if cond:
            s.scale = nn.Linear(2 * CD, nf, bias=False)
            s.offset = nn.Linear(2 * CD, nf, bias=False)
        else:
            s.weight = nn.Parameter(torch.ones(nf))
            s.bias = nn.Parameter(torch.zeros(nf))
        s.sums = None
        s.fixed = None

    def forward(s, h, c):
        if s.fixed is not None:
            m, v = s.fixed
        else:
            v, m = torch.var_mean(h.float(), (0, 2, 3), unbiased=False)
            if s.sums is not None:
                s.sums[0] += m.detach()
                s.sums[1] += (v + m * m).detach()
                s.sums[2] += 1
        inv = torch.rsqrt(v + 1e-4)
        if s.cond:
            a = (1 + s.scale(c)) * inv
            b = s.offset(c) - m * a
        else:
            a = (s.weight * inv)[None]
            b = s.bias - m * a
        return torch.addcmul(b[:, :, None, None].to(h.dtype), h, a[:, :, None, None].to(h.dtype))


def conv(i, o, k):
    return nn.Conv2d(i, o, k, padding=k // 2)


class Block(nn.Module):
    def __init__(s, i, o, up):
        super().__init__()
        m = i // 4
        s.up, s.o, s.drop = up, o, i != o
        s.bn_0 = BN(i)
        s.conv_0 = conv(i, m, 1)
        s.bn_1 = BN(m)
        s.conv_1 = conv(m, m, 3)
        s.bn_2 = BN(m)
        s.conv_2 = conv(m, m, 3)
        s.bn_3 = BN(m)
        s.conv_3 = conv(m, o, 1)

    def forward(s, x, c):
        h = s.conv_0(F.relu(s.bn_0(x, c)))
        h = F.relu(s.bn_1(h, c))
        if s.up:
            h = F.interpolate(h, scale_factor=2)
        h = s.conv_1(h)
        h = s.conv_2(F.relu(s.bn_2(h, c)))
        h = s.conv_3(F.relu(s.bn_3(h, c)))
        if s.drop:
            x = x[:, :s.o]
        if s.up:
            x = F.interpolate(x, scale_factor=2)
        return h + x


class Attn(nn.Module):
    def __init__(s, c):
        super().__init__()
        k = lambda i, o: nn.Conv2d(i, o, 1, bias=False)
        s.snconv1x1_theta = k(c, c // 8)
        s.snconv1x1_phi = k(c, c // 8)
        s.snconv1x1_g = k(c, c // 2)
        s.snconv1x1_o_conv = k(c // 2, c)
        s.gamma = nn.Parameter(torch.zeros(1))

    def forward(s, x, _=None):
        b, c, h, w = x.shape
        t = s.snconv1x1_theta(x).reshape(b, c // 8, h * w)
        p = F.max_pool2d(s.snconv1x1_phi(x), 2).reshape(b, c // 8, h * w // 4)
        g = F.max_pool2d(s.snconv1x1_g(x), 2).reshape(b, c // 2, h * w // 4)
        a = torch.softmax(torch.bmm(t.permute(0, 2, 1), p), -1)
        return x + s.gamma * s.snconv1x1_o_conv(torch.bmm(g, a.permute(0, 2, 1)).reshape(b, c // 2, h, w))


class Generator(nn.Module):
    def __init__(s, res, ch):
        super().__init__()
        s.ch = ch
        s.gen_z = nn.Linear(2 * CD, 16 * 16 * ch)
        ls = []
        for i, (u, a, b) in enumerate(LAYERS[res]):
            if i == ATTENTION[res]:
                ls.append(Attn(ch * a))
            ls.append(Block(ch * a, ch * b, u))
        s.layers = nn.ModuleList(ls)
        s.bn = BN(ch, False)
        s.conv_to_rgb = conv(ch, ch, 3)

    def forward(s, c):
        with torch.autocast(c.device.type, torch.bfloat16, enabled=c.is_cuda and torch.is_grad_enabled(), cache_enabled=False):
            h = s.gen_z(c).view(-1, 4, 4, 16 * s.ch).permute(0, 3, 1, 2)
            for l in s.layers:
                h = l(h, c)
            h = s.conv_to_rgb(F.relu(s.bn(h, c)))[:, :3].float()
        s.over = F.relu(h.abs() - 4).mean()  # a saturated tanh has no gradient: this term brings it back
        return torch.tanh(h)


class BigGAN(nn.Module):
    """Trained without spectral norm; the exporter writes u, v so that a reader's sigma is 1."""

    def __init__(s, res, ch, classes, noise=.2):
        super().__init__()
        s.embeddings = nn.Linear(classes, CD, bias=False)
        s.generator = Generator(res, ch)
        s.noise = noise
        nn.init.normal_(s.embeddings.weight, 0, 0.5)

    def forward(s, z, y):
        e = s.embeddings.weight.t()[y]
        if torch.is_grad_enabled():
            e = e + s.noise * torch.randn_like(e)  # a flow will hand over e with noise
        return s.generator(torch.cat([z, e], 1))


class Encoder(nn.Module):
    def __init__(s, res):
        super().__init__()
        w = [3, 32, 64, 128, 192] + ([256] if res == 64 else [])
        ls = []
        for i, (a, b) in enumerate(zip(w, w[1:])):
            ls += [nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1), nn.GroupNorm(8, b), nn.LeakyReLU(.2),
                   nn.Conv2d(b, b, 3, padding=1), nn.LeakyReLU(.2)]
        s.body = nn.Sequential(*ls)
        s.head = nn.Linear(w[-1] * 16, 2 * ZD)

    def forward(s, x):
        m, lv = s.head(s.body(x).flatten(1)).chunk(2, 1)
        return m, lv.clamp(-8, 4)


def dconv(i, o, k):
    return sn(conv(i, o, k), eps=1e-4)


class DBlock(nn.Module):
    def __init__(s, i, o, down):
        super().__init__()
        s.c1 = dconv(i, o, 3)
        s.c2 = dconv(o, o, 3)
        s.sk = dconv(i, o, 1) if i != o else None
        s.down = down

    def forward(s, x):
        h = s.c2(F.leaky_relu(s.c1(F.leaky_relu(x, .2)), .2))
        if s.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + (s.sk(x) if s.sk is not None else x)


class Discriminator(nn.Module):
    """Projection discriminator; returns the logit and every stage's features."""

    def __init__(s, res, w, classes):
        super().__init__()
        ds = [w, 2 * w, 3 * w, 4 * w] if res == 32 else [w, w, 2 * w, 4 * w, 4 * w]
        s.stem = dconv(3, ds[0], 3)
        s.b = nn.ModuleList([DBlock(a, b, i < int(math.log2(res)) - 2) for i, (a, b) in enumerate(zip(ds, ds[1:] + [ds[-1]]))])
        s.head = sn(nn.Linear(ds[-1], 1), eps=1e-4)
        s.emb = sn(nn.Embedding(classes, ds[-1]), eps=1e-4)

    def forward(s, x, y):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda, cache_enabled=False):
            h = s.stem(x)
            fs = []
            for b in s.b:
                h = b(h)
                fs.append(h)
            h = F.leaky_relu(h, .2).float().sum((2, 3)) / 4
        return s.head(h)[:, 0] + (h * s.emb(y)).sum(1), fs
