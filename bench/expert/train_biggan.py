# SPDX-License-Identifier: Apache-2.0
"""Trains the emoji expert: a BigGAN-deep generator as the decoder of a variational autoencoder (z is a smooth code of the
image, every real image has a latent), with adversarial and feature-matching terms from a fraction of the run on.
usage: train_biggan.py DATA.npz OUT_DIR RES CH MINUTES
environment: STYLES, B (batch), LRG, LRD, BETA (KL weight), WARM (fraction of the run in which BETA rises from a quarter),
ADV_FROM (fraction), GAN, FM (weights), MIX (share of the unpaired fakes decoded from interpolated codes instead of the
prior), DW (discriminator width), EMA, SEED, GRAPH=0 (no CUDA graphs)"""
import os
import sys
import time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from biggan import BigGAN, Discriminator, Encoder, ZD, load

env = lambda k, v: type(v)(os.environ.get(k, v))


def augment(x, *rest):
    """Differentiable: translation by whole pixels, cut-out, colour; per sample, the same for all tensors given."""
    b, _, r, _ = x.shape
    u = lambda *s: torch.rand(b, *s, device=x.device)
    t = r // 8
    ax = torch.arange(r, device=x.device)
    sh = (u(2) * (2 * t + 1)).floor().long() - t
    iy, ix = ax[None] + sh[:, :1], ax[None] + sh[:, 1:]
    ok = ((iy >= 0) & (iy < r))[:, None, :, None] & ((ix >= 0) & (ix < r))[:, None, None, :]
    idx = (iy.clamp(0, r - 1)[:, :, None] * r + ix.clamp(0, r - 1)[:, None, :]).view(b, 1, r * r)
    c, w = (u(2) * r).floor(), 3 * r // 16
    on = u(1, 1, 1) < .5
    cut = on & ((ax[None] - c[:, :1]).abs() <= w)[:, None, :, None] & ((ax[None] - c[:, 1:]).abs() <= w)[:, None, None, :]
    keep = (ok & ~cut).float()
    br, sa, co = (u(1, 1, 1) - .5) * .6, u(1, 1, 1) * 1.2 + .4, u(1, 1, 1) * .6 + .7

    def f(v):
        v = (v - 1).reshape(b, 3, r * r).gather(2, idx.expand(b, 3, r * r)).view(b, 3, r, r) * keep + 1  # outside is white
        v = v + br
        m = v.mean(1, True)
        v = (v - m) * sa + m
        m = v.mean((1, 2, 3), True)
        return ((v - m) * co + m).contiguous(memory_format=torch.channels_last)
    return [f(v) for v in (x, *rest)]


def pyramid(a, b):
    l = 0
    for k in range(3):
        l = l + (a - b).abs().mean() * (1 + k)
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return l


def main():
    data, out, res, ch, minutes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    dev = 'cuda' if torch.cuda.is_available() else 'cpu'
    cuda = dev == 'cuda'
    torch.manual_seed(env('SEED', 0))
    os.makedirs(out, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    B, beta, lr_g, lr_d = env('B', 128), env('BETA', 4e-3), env('LRG', 4e-4), env('LRD', 4e-4)
    adv_from, gw, fw, mix, warm, ema = env('ADV_FROM', .3), env('GAN', .2), env('FM', .5), env('MIX', 0.), env('WARM', .2), env('EMA', .999)
    x, y, K, _ = load(data, os.environ.get('STYLES', '034'), res)
    n, cl = len(x), torch.channels_last
    G, En, D = BigGAN(res, ch, K), Encoder(res), Discriminator(res, env('DW', 96), K)
    for p in (G, D, En):
        for m in p.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)) and m is not G.embeddings:
                nn.init.orthogonal_(m.weight_orig if hasattr(m, 'weight_orig') else m.weight)
    nn.init.normal_(En.head.weight, 0, .01)
    nn.init.zeros_(En.head.bias)
    G, En, D = (m.to(dev).to(memory_format=cl) for m in (G, En, D))
    x, y = x.contiguous(memory_format=cl).to(dev), y.to(dev)
    par, dpar = list(G.parameters()) + list(En.parameters()), list(D.parameters())
    lrs = [torch.tensor(1e-6, device=dev), torch.tensor(1e-6, device=dev)]
    opt = dict(capturable=True) if cuda else {}
    oG = torch.optim.Adam(par, lrs[0] if cuda else 1e-6, betas=(.5, .99), **opt)
    oD = torch.optim.Adam(dpar, lrs[1] if cuda else 1e-6, betas=(0., .99), **opt)
    kl_w = torch.tensor(beta, device=dev)
    E = [p.detach().clone() for p in par]
    print('params G %.2fM E %.2fM D %.2fM n %d K %d %s' % (*[sum(p.numel() for p in m.parameters()) / 1e6 for m in (G, En, D)], n, K, torch.__version__), flush=True)
    zero = torch.zeros((), device=dev)
    Q, P = B // 2, int(B // 2 * (1 - mix))  # unpaired fakes; of these from the prior

    def step_fn(adv):
        i = torch.randint(n, (B,), device=dev)
        xi, yi = x[i], y[i]
        m, lv = En(xi)
        z = m + (lv / 2).exp() * torch.randn_like(m)
        kl = .5 * (m * m + lv.exp() - 1 - lv).sum(1).mean()
        fm = ld = sr = sf = zero
        if not adv:
            rec = G(z, yi)
            rl = pyramid(rec, xi)
            lg = 3 * rl + kl_w * kl + G.generator.over
        else:
            for p in dpar:
                p.requires_grad_(False)
            zd = z.detach()
            t = torch.rand(Q - P, 1, device=dev) * .5
            zi = ((1 - t) * zd[:Q - P] + t * zd[Q - P:2 * (Q - P)]) / ((1 - t) ** 2 + t ** 2).sqrt()  # the prior's variance is kept
            yr = torch.cat([yi[:Q - P], y[torch.randint(n, (P,), device=dev)]])
            fake = G(torch.cat([z, zi, torch.randn(P, ZD, device=dev)]), torch.cat([yi, yr]))
            rec, rnd = fake[:B], fake[B:]
            xa, ra = augment(xi, rec)
            na, = augment(rnd)
            with torch.no_grad():
                _, fr = D(xa, yi)
            s, ff = D(torch.cat([ra, na]), torch.cat([yi, yr]))
            fm = sum((a[:B] - b).abs().mean(dtype=torch.float32) / b.abs().mean(dtype=torch.float32).clamp_min(1e-3) for a, b in zip(ff, fr))
            rl = pyramid(rec, xi)
            lg = 3 * rl + kl_w * kl + G.generator.over + fw * fm - gw * s[:B].mean() - gw * s[B:].mean()
        lg.backward()
        nn.utils.clip_grad_norm_(par, 5.)
        oG.step()
        if adv:
            for p in dpar:
                p.requires_grad_(True)
            xa, ra = augment(xi, rec.detach())
            na, = augment(rnd.detach())
            s, _ = D(torch.cat([xa, ra, na]), torch.cat([yi, yi, yr]))
            sr, sf = s[:B].mean(), s[B:].mean()
            ld = F.relu(1 - s[:B]).mean() + .5 * F.relu(1 + s[B:2 * B]).mean() + .5 * F.relu(1 + s[2 * B:]).mean()
            ld.backward()
            oD.step()
        over, G.generator.over = G.generator.over.detach(), None  # no graph outlives its step
        return torch.stack([v.detach() for v in (rl, kl, over, fm, ld, sr, sf, m.std())])

    def clear():
        oG.zero_grad(set_to_none=True)
        oD.zero_grad(set_to_none=True)

    def eager(adv):
        clear()
        return step_fn(adv)

    def capture(adv):
        """One whole training step as a CUDA graph (eager steps before it)."""
        for _ in range(4):
            eager(adv)
        clear()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g, stream=torch.cuda.current_stream()):
            r = step_fn(adv)
        return g, r

    def save(step):
        torch.save(dict(G=G.state_dict(), En=En.state_dict(), E=[e.cpu() for e in E], step=step), f'{out}/state.tmp')
        os.replace(f'{out}/state.tmp', f'{out}/state.pt')
        with torch.no_grad():
            bak = [p.detach().clone() for p in par]
            for p, e in zip(par, E):
                p.copy_(e)
            g = torch.Generator(device='cpu').manual_seed(1)
            i = torch.randperm(n, generator=g)[:64].to(dev)
            m, _ = En(x[i])
            t = torch.cat([x[i], G(m, y[i]), G(torch.randn(64, ZD, generator=g).to(dev), y[i])], 0)
            t = t.clamp(-1, 1).add(1).mul(127.5).byte().cpu().contiguous().numpy()
            for p, b in zip(par, bak):
                p.copy_(b)
        im = t.reshape(3, 8, 8, 3, res, res).transpose(1, 4, 0, 2, 5, 3).reshape(8 * res, 24 * res, 3)  # image | reconstruction | random z
        Image.fromarray(im).save(f'{out}/s{step:06d}.png')

    if cuda:
        torch.cuda.synchronize()
        torch.cuda.set_stream(torch.cuda.Stream())  # one side stream for all: captures need it
    t0 = last = time.time()
    tot, step, graphs, use_graph = minutes * 60, 0, {}, cuda and env('GRAPH', 1)
    while time.time() - t0 < tot:
        f = (time.time() - t0) / tot
        adv = f >= adv_from
        s = min(1, (1 - f) * 4) * min(1, (step + 1) / 100)
        if cuda:
            lrs[0].fill_(lr_g * s)
            lrs[1].fill_(lr_d * s)
        else:
            oG.param_groups[0]['lr'], oD.param_groups[0]['lr'] = lr_g * s, lr_d * s
        kl_w.fill_(beta * min(1, .25 + .75 * f / warm))
        if use_graph and adv not in graphs and step >= 20:
            graphs.clear()
            try:
                graphs[adv] = capture(adv)
                print(f'graph captured at step {step}', flush=True)
            except RuntimeError as e:
                print('no graph:', e, flush=True)
                use_graph = 0
        if use_graph and adv in graphs:
            g, log = graphs[adv]
            g.replay()
        else:
            log = eager(adv)
        with torch.no_grad():
            k = min(ema, (1 + step) / (10 + step))
            torch._foreach_mul_(E, k)
            torch._foreach_add_(E, par, alpha=1 - k)
        step += 1
        if step in (5, 20) or step % 100 == 0:
            v = log.tolist()
            print(f'{step} {time.time() - t0:.0f}s adv {adv:d} rec %.3f kl %.1f over %.4f fm %.3f d %.3f real %.2f fake %.2f mstd %.3f' % tuple(v), flush=True)
        elif step % 10 == 0 and cuda:
            torch.cuda.current_stream().synchronize()  # the clock in the loop should not run ahead of the device
        if time.time() - last > 240 or step == 100:
            save(step)
            last = time.time()
    save(step)
    print('done', step, f'{time.time() - t0:.0f}s', flush=True)


if __name__ == '__main__':
    main()
