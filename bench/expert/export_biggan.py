# SPDX-License-Identifier: Apache-2.0
"""Exports train_biggan.py's averaged generator under the key names of the public BigGAN-deep checkpoints (config.json,
pytorch_model.bin), the encoder, the latent of every image and golden images; draws sheets; measures how much z means.
usage: STYLES=034 HALF=1 MIX=0.5 export_biggan.py DATA.npz STATE_DIR OUT_DIR RES CH (MIX as in training)"""
import json
import os
import sys
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from biggan import ATTENTION, BN, BigGAN, Encoder, LAYERS, NS, ZD, load

data, st, out, res, ch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
os.makedirs(out, exist_ok=True)
dev = 'cuda' if torch.cuda.is_available() else 'cpu'
half = bool(os.environ.get('HALF'))
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # golden images in full single precision
x, y, K, cols = load(data, os.environ.get('STYLES', '034'), res)
x, y, n = x.to(dev), y.to(dev), len(x)
c = torch.load(f'{st}/state.pt', map_location='cpu')
G, En = BigGAN(res, ch, K), Encoder(res)
G.load_state_dict(c['G'])
En.load_state_dict(c['En'])
with torch.no_grad():
    par = list(G.parameters()) + list(En.parameters())
    for p, e in zip(par, c['E']):
        p.copy_(e)
        if half:
            p.copy_(p.half().float())  # measure and draw what is written
    G, En = G.to(dev), En.to(dev)
    h = [En(a) for a in x.split(256)]
    M, S = torch.cat([a for a, _ in h]), torch.cat([(b / 2).exp() for _, b in h])
    post = lambda j: M[j] + S[j] * torch.randn(len(j), ZD, device=dev)
    bns = [m for m in G.modules() if isinstance(m, BN)]
    for m in bns:
        m.sums = [0, 0, 0]
    mix = float(os.environ.get('MIX', 0))
    for r in range(160):  # standing statistics over the batches that training saw: posterior samples, half as many unpaired codes
        j = torch.randint(n, (128,), device=dev)
        k = int(64 * mix)
        z = post(j)
        t = torch.rand(k, 1, device=dev) * .5
        zi = ((1 - t) * z[:k] + t * z[k:2 * k]) / ((1 - t) ** 2 + t ** 2).sqrt()
        yy = torch.cat([y[j], y[j[:k]], y[torch.randint(n, (64 - k,), device=dev)]])
        e = G.embeddings.weight.t()[yy]
        G.generator(torch.cat([torch.cat([z, zi, torch.randn(64 - k, ZD, device=dev)]), e + .2 * torch.randn_like(e)], 1))
    for m in bns:
        mu = m.sums[0] / m.sums[2]
        v = m.sums[1] / m.sums[2] - mu * mu
        if half:
            mu, v = mu.half().float(), v.half().float()
        m.sums, m.fixed = None, (mu, v)
        m.running_means.copy_(mu.expand(NS, -1))
        m.running_vars.copy_(v.expand(NS, -1))

sd = {'embeddings.weight': G.embeddings.weight.detach().cpu().clone()}
for k, v in G.state_dict().items():
    v = v.cpu()
    if k in sd:
        continue
    if k.endswith('.weight') and k != 'generator.bn.weight':
        w = v.reshape(v.shape[0], -1).contiguous()
        vv = torch.randn(w.shape[1], generator=torch.Generator().manual_seed(len(k)))
        vv /= vv.norm()
        wv = w @ vv
        b = k[:-len('weight')]
        sd[b + 'weight_orig'] = v.contiguous()
        sd[b + 'weight_u'] = wv / (wv @ wv)  # u.(W v) = 1
        sd[b + 'weight_v'] = vv
    else:
        sd[k] = v.contiguous()
torch.save({k: v.half() if half else v for k, v in sd.items()}, f'{out}/pytorch_model.bin')
json.dump(dict(output_dim=res, z_dim=ZD, class_embed_dim=128, channel_width=ch, num_classes=K, layers=[[bool(u), a, b] for u, a, b in LAYERS[res]],
               attention_layer_position=ATTENTION[res], eps=1e-4, n_stats=NS), open(f'{out}/config.json', 'w'), indent=1)
np.savez_compressed(f'{out}/latents.npz', mean=M.cpu().numpy(), std=S.cpu().numpy(), **cols)
np.savez_compressed(f'{out}/encoder.npz', **{k: (v.half() if half else v).contiguous().cpu().numpy() for k, v in En.state_dict().items()})


def sheet(t, rows, cols, f):
    im = t.clamp(-1, 1).add(1).mul(127.5).byte().cpu().contiguous().numpy().reshape(rows, cols, 3, res, res).transpose(0, 3, 1, 4, 2)
    k = 64 // res
    Image.fromarray(im.reshape(rows * res, cols * res, 3)).resize((cols * res * k, rows * res * k), Image.NEAREST).save(f)


with torch.no_grad():
    g = torch.Generator().manual_seed(3)
    emb = G.embeddings.weight.t()
    dec = lambda z, e: torch.cat([G.generator(torch.cat([a, b], 1)) for a, b in zip(z.split(64), e.split(64))])
    i = torch.randperm(n, generator=g)[:96].to(dev)
    rec, smp = dec(M[i], emb[y[i]]), dec(post(i), emb[y[i]] + .2 * torch.randn(96, 128, device=dev))
    jit = dec(M[i] + .3 * torch.randn(96, ZD, device=dev), emb[y[i]])
    al = torch.arange(n, device=dev)
    l1 = lambda z, e: (dec(z, e) - x).abs().mean().item()
    print('L1 rec %.4f (96 images); all: mean %.4f, posterior sample with class noise 0.2 %.4f, mean + 0.3 eps %.4f; params %d' % (
        (rec - x[i]).abs().mean(), l1(M, emb[y]), l1(post(al), emb[y] + .2 * torch.randn(n, 128, device=dev)),
        l1(M + .3 * torch.randn(n, ZD, device=dev), emb[y]), sum(p.numel() for p in G.parameters())))
    sheet(torch.stack([x[i], rec], 1).reshape(-1, 3, res, res), 12, 16, f'{out}/sheet_reconstructions.png')
    sheet(torch.stack([x[i], rec, smp, jit], 1)[:48].reshape(-1, 3, res, res), 12, 16, f'{out}/sheet_samples.png')  # image, mean, mean + std eps with class noise, mean + 0.3 eps
    yr = torch.arange(12).repeat_interleave(16) * 7 % K
    zr = (torch.randn(192, ZD, generator=g) * .8).to(dev)
    sheet(dec(zr, emb[yr.to(dev)]), 12, 16, f'{out}/sheet_random.png')
    pa = []  # interpolation: two images of one class per row, between them 6 steps; two pairs a row
    for k in torch.randperm(n, generator=g).tolist():
        o = (y == y[k]).nonzero()[:, 0]
        if len(pa) < 24 and len(o) > 8:
            pa.append((k, int(o[int(torch.randint(len(o), (1,), generator=g))])))
    t = torch.linspace(0, 1, 6, device=dev)[None, :, None]
    a, b = torch.tensor([p for p, _ in pa], device=dev), torch.tensor([q for _, q in pa], device=dev)
    zi = (M[a][:, None] * (1 - t) + M[b][:, None] * t).reshape(-1, ZD)
    mid = dec(zi, emb[y[a]].repeat_interleave(6, 0)).view(24, 6, 3, res, res)
    sheet(torch.cat([x[a][:, None], mid, x[b][:, None]], 1).reshape(-1, 3, res, res), 12, 16, f'{out}/sheet_interpolations.png')
    np.savez(f'{out}/golden.npz', z=M[:8].cpu().numpy(), label=y[:8].cpu().numpy(), image=torch.cat([dec(M[j:j + 1], emb[y[j:j + 1]]) for j in range(8)]).cpu().contiguous().numpy())
    # what z means: the same emoji in the other styles; R2 from image principal components
    x, y, M, S = x.cpu(), y.cpu(), M.cpu(), S.cpu()
    Mz = M - M.mean(0)
    e, s = (torch.from_numpy(cols[k].astype(int)) for k in ('emoji', 'style'))
    u, s0 = F.normalize(Mz, dim=1), int(s[0])
    first = {int(q): j for j, q in enumerate(e) if s[j] == s0}
    pr = [(first[int(q)], j) for j, q in enumerate(e) if s[j] != s0 and int(q) in first]
    sim = u[[p for p, _ in pr]] @ u[[q for _, q in pr]].t()
    print('same-emoji cosine %.3f, random %.3f, cross-style retrieval top1 %.3f' % (sim.diag().mean(), sim.mean(), (sim.argmax(1) == torch.arange(len(pr))).float().mean()))
    xi = F.avg_pool2d(x, res // 16).reshape(n, -1)
    xi = xi - xi.mean(0)
    te = (e * 7919 % 10) == 0
    _, _, V = torch.svd_lowrank(xi[~te], 100)
    Pc = torch.cat([xi @ V, F.one_hot(y, K).float()], 1)
    Wt = torch.linalg.lstsq(Pc[~te].t() @ Pc[~te] + 10 * torch.eye(Pc.shape[1]), Pc[~te].t() @ Mz[~te]).solution
    r2 = 1 - ((Mz[te] - Pc[te] @ Wt) ** 2).sum() / (Mz[te] ** 2).sum()
    print('held-out R2 of z from its image (PCs + class) %.3f; aggregate z std %.3f, posterior std %.3f, dims with std < 0.9: %d, KL %.1f nats; class embedding std %.3f; steps %d' % (
        r2, M.std(), S.mean(), (S.mean(0) < .9).sum(), .5 * (M * M + S * S - 1 - 2 * S.log()).sum(1).mean(), G.embeddings.weight.std(), c['step']))
