"""A random image encoder, and what PyTorch makes of it in float64.

    python autoencoder.py OUT    (experts/autoencoder/testdata/tiny)

needs torch and numpy. The folder gets config.json, encoder.npz (float16, with the names of bench/expert/biggan.py's Encoder) and golden.npz:
    image                 uint8   [images][16][16][3]
    mean, log_variance    float32 [images][latent]
    stages.i[.norm]       float32 every 29th value, channels last, of a stage (.norm: after the first LeakyReLU)
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn

RESOLUTION, LATENT, WIDTHS, IMAGES, STEP = 16, 2, [8, 16, 24], 3, 29


def encoder():
    layers, widths = [], [3] + WIDTHS
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        layers += [nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1), nn.GroupNorm(8, b), nn.LeakyReLU(.2),
                   nn.Conv2d(b, b, 3, padding=1), nn.LeakyReLU(.2)]
    side = RESOLUTION >> (len(WIDTHS) - 1)
    return nn.ModuleDict(dict(body=nn.Sequential(*layers), head=nn.Linear(WIDTHS[-1] * side * side, 2 * LATENT)))


def main(out):
    torch.manual_seed(1)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    net = encoder()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 1.5 / p[0].numel() ** .5)
            elif name.split(".")[1] in ("1", "6", "11") and name.endswith("weight"):
                p.uniform_(.5, 1.5)
            else:
                p.normal_(0, .3)
        net["head"].weight[LATENT:] *= 20  # some log-variances beyond the clamp
        for p in net.parameters():
            p.copy_(p.half().float())
    state = {k: v.half().numpy() for k, v in net.state_dict().items()}

    image = torch.randint(0, 256, (IMAGES, RESOLUTION, RESOLUTION, 3), dtype=torch.uint8)
    golden = {"image": image.numpy()}
    net.double()
    h = image.permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        for i, layer in enumerate(net["body"]):
            h = layer(h)
            if i % 5 in (2, 4):
                name = f"stages.{i // 5}" + (".norm" if i % 5 == 2 else "")
                golden[name] = h.permute(0, 2, 3, 1).flatten()[::STEP].float().numpy()
        mean, log_variance = net["head"](h.flatten(1)).chunk(2, 1)
    golden["mean"], golden["log_variance"] = mean.float().numpy(), log_variance.clamp(-8, 4).float().numpy()

    (out / "config.json").write_text(json.dumps(dict(output_dim=RESOLUTION)) + "\n")
    np.savez_compressed(out / "encoder.npz", **state)
    np.savez_compressed(out / "golden.npz", **golden)


if __name__ == "__main__":
    main(*sys.argv[1:])
