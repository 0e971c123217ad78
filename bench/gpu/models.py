"""The models of a results file of netfusion-gpu in PyTorch, on the same weights and inputs.

    python3 models.py FOLDER    makes random weights in the folder, where there are none

netfusion-gpu reads them there, and leaves its results, NAME-SHAPE-PRECISION.f32, beside them.
"""

import json
import pathlib
import subprocess
import sys

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
FOLDERS = ["bert-base", "minilm", "biggan-128"]


def weights(folder):
    for name in FOLDERS:
        if not (folder / name / "model.safetensors").exists():
            subprocess.run([sys.executable, PEERS / "weights.py", name, folder / name], check=True)


def device(torch):
    return "cuda" if torch.cuda.is_available() else "cpu"


def numbers(torch, begin, count):
    """The numbers of models.go."""
    i = torch.arange(begin + 1, begin + count + 1, dtype=torch.int64)
    return ((i * 2654435761 % 2**32).double() / 2**32 - 0.5).mul(3.4641016151377544).float()


def encoder(torch, folder, shape, dtype):
    """Texts to the mean of the last states: what a caller hands over, and what computes with that."""
    from safetensors.torch import load_file

    c = json.loads((folder / "config.json").read_text())
    w = {k: v.to(device(torch), dtype) for k, v in load_file(folder / "model.safetensors").items()}
    texts, tokens, h, heads = shape["texts"], shape["tokens"], c["hidden_size"], c["num_attention_heads"]
    ids = (1 + 7919 * torch.arange(texts * tokens)) % c["vocab_size"]
    f = torch.nn.functional
    joined = []
    for i in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{i}.attention.self."
        joined.append(tuple(torch.cat([w[p + n + "." + part] for n in ("query", "key", "value")]) for part in ("weight", "bias")))

    def linear(x, name):
        return f.linear(x, w[name + ".weight"], w[name + ".bias"])

    def norm(x, name):
        return f.layer_norm(x, (h,), w[name + ".LayerNorm.weight"], w[name + ".LayerNorm.bias"], c["layer_norm_eps"])

    def compute(ids):
        x = w["embeddings.word_embeddings.weight"][ids.view(texts, tokens)]
        x = norm(x + w["embeddings.position_embeddings.weight"][:tokens] + w["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for i, (weight, bias) in enumerate(joined):
            p = f"encoder.layer.{i}."
            q, k, v = (t.view(texts, tokens, heads, -1).transpose(1, 2) for t in f.linear(x, weight, bias).chunk(3, -1))
            a = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(texts, tokens, h)
            x = norm(linear(a, p + "attention.output.dense") + x, p + "attention.output")
            x = norm(linear(f.gelu(linear(x, p + "intermediate.dense")), p + "output.dense") + x, p + "output")
        return x.float().mean(1)

    return (ids,), compute


def generator(torch, folder, shape, dtype):
    """A latent and a class embedding to the bytes of a picture. Normalisations are one multiply-add, their factors of all at once."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    with safe_open(path, "pt") as stored:
        c = json.loads(stored.metadata()["config"])
    w = {k: v.to(device(torch)) for k, v in load_file(path).items()}
    ch, images, f = c["channel_width"], shape["images"], torch.nn.functional
    inverse, means = (w["norms.vars"][-1] + c["eps"]).rsqrt(), w["norms.means"][-1]
    row = torch.cat([numbers(torch, 0, c["z_dim"]), w["classes.weight"][0].cpu()])
    filters = {}
    for name, v in w.items():
        if name.endswith(".weight") and (".conv_" in name or name.startswith(("conv_to_rgb", "attention."))):
            v = v[:, :, None, None] if v.dim() == 2 else v.permute(0, 3, 1, 2)
            filters[name[:-7]] = v.to(dtype).contiguous(memory_format=torch.channels_last)
    biases = {k[:-5]: v.to(dtype) for k, v in w.items() if k.endswith(".bias")}
    plan, at = [], 0  # of the normalisations: where they begin, how many channels, and the bias of what they read
    for i, (_, inputs, _) in enumerate(c["layers"]):
        n = inputs * ch
        for k, channels in enumerate((n, n // 4, n // 4, n // 4)):
            plan.append((at, channels))
            at += channels
    before = torch.zeros(at, device=device(torch))
    for j, (begin, channels) in enumerate(plan):
        if j % 4:
            before[begin:begin + channels] = w[f"blocks.{j // 4}.conv_{j % 4 - 1}.bias"]
    last = w["bn.weight"] * inverse[at:]
    last_offset = w["bn.bias"] - means[at:] * last

    def conv(x, name, bias=True):
        k = filters[name]
        return f.conv2d(x, k, biases.get(name) if bias else None, padding=k.shape[2] // 2)

    def up(x):
        return f.interpolate(x, scale_factor=2, mode="nearest")

    def compute(x):
        gain = inverse[:at] * (1 + f.linear(x, w["norms.scale.weight"]))
        shift = f.linear(x, w["norms.offset.weight"]) + (before - means[:at]) * gain
        gain, shift = gain.to(dtype)[:, :, None, None], shift.to(dtype)[:, :, None, None]

        def affine(x, j):
            begin, channels = plan[j]
            return torch.relu(torch.addcmul(shift[:, begin:begin + channels], x, gain[:, begin:begin + channels]))

        y = f.linear(x, w["gen_z.weight"], w["gen_z.bias"]).view(images, 4, 4, 16 * ch).permute(0, 3, 1, 2).to(dtype)
        for i, (upsample, inputs, outputs) in enumerate(c["layers"]):
            p = f"blocks.{i}.conv_"
            if i == c["attention_layer_position"]:
                n, size = y.shape[1], y.shape[2]
                q = conv(y, "attention.query").flatten(2).transpose(1, 2)
                k = f.max_pool2d(conv(y, "attention.key"), 2).flatten(2).transpose(1, 2)
                v = f.max_pool2d(conv(y, "attention.value"), 2).flatten(2).transpose(1, 2)
                a = torch.softmax((q @ k.transpose(1, 2)).float(), -1).to(dtype) @ v
                y = y + conv(a.transpose(1, 2).reshape(images, n // 2, size, size), "attention.output")
            h = conv(affine(y, 4 * i), p + "0", False)
            h = affine(h, 4 * i + 1)
            h = conv(up(h) if upsample else h, p + "1", False)
            h = conv(affine(h, 4 * i + 2), p + "2", False)
            h = conv(affine(h, 4 * i + 3), p + "3")
            y = y[:, :outputs * ch]
            y = h + (up(y) if upsample else y)
        y = torch.relu(torch.addcmul(last_offset.to(dtype)[:, None, None], y, last.to(dtype)[:, None, None]))
        y = torch.tanh(conv(y, "conv_to_rgb")).float()
        return ((y + 1) * 127.5).round_().permute(0, 2, 3, 1).to(torch.uint8)

    return (row.expand(images, -1).contiguous(),), compute


def flow(torch, folder, shape, dtype):
    """Given residuals and conditions to latents."""
    sys.path.insert(0, str(PEERS))
    import torch_flow

    model = torch_flow.load(folder / "flow.safetensors").eval().requires_grad_(False).to(device(torch), dtype)
    rows = shape["rows"]
    v = numbers(torch, 0, rows * torch_flow.LATENT).view(rows, -1)
    c = numbers(torch, v.numel(), rows * torch_flow.COND).view(rows, -1)
    return (v, c), lambda v, c: model(v.to(dtype), c.to(dtype)).float()


def step(torch, folder, shape):
    """Latents and conditions to the loss of a step of training, at the learning rate 0."""
    sys.path.insert(0, str(PEERS))
    import torch_flow

    model = torch_flow.load(folder / "flow.safetensors").to(device(torch))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.5, 0.9), fused=True, capturable=torch.cuda.is_available())
    rows = shape["rows"]
    x = numbers(torch, 0, rows * torch_flow.LATENT).view(rows, -1)
    c = numbers(torch, x.numel(), rows * torch_flow.COND).view(rows, -1)

    def compute(x, c):
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(x, c)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return (x, c), compute


def model(torch, name, folder, shape, dtype):
    """Returns the inputs, on the host, and the function of a row of the table of models."""
    if name == "step":
        return step(torch, folder, shape)
    if name == "flow":
        return flow(torch, folder, shape, dtype)
    return (generator if name.startswith("biggan") else encoder)(torch, folder / name, shape, dtype)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    weights(pathlib.Path(sys.argv[1]))
