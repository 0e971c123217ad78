"""Random BigGAN-deep checkpoints, and what the reference implementation, pytorch-pretrained-biggan 0.1.1, makes of them.

    python biggan.py tiny OUT    two tiny generators (experts/biggan/testdata): one saved by the legacy format with strided tensors, one in zip and float16
    python biggan.py full OUT    the public 128-pixel generator's shape, every value of every stage

needs torch, safetensors, scipy, boto3 and pytorch-pretrained-biggan. Each folder gets config.json, pytorch_model.bin and golden.safetensors:
    z       F32  [images][z_dim]
    labels  F32  [images][classes]   a class, then mixes of classes
    t/stage F32  every step-th value, channels last, of a stage at truncation t, then the largest magnitude of the stage;
                 the reference runs in float64, so that all of a difference is the reader's
with step = (values // samples + 1) | 1 for the metadata's "samples", or 1 where that is 0.
"""
import json
import pathlib
import sys

import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from pytorch_pretrained_biggan.model import BigGANBatchNorm, GenBlock, SelfAttn
from safetensors.torch import save_file

TRUNCATIONS = (0.14, 0.28, 0.4, 0.56, 0.58, 0.94, 1.0)
TINY = {
    "tiny": dict(output_dim=16, z_dim=2, class_embed_dim=2, channel_width=4, num_classes=3,
                 layers=[[False, 16, 8], [True, 8, 4], [False, 4, 2], [True, 2, 1]], attention_layer_position=1, eps=1e-4, n_stats=51),
    "tiny_f16": dict(output_dim=32, z_dim=6, class_embed_dim=6, channel_width=4, num_classes=5,
                     layers=[[True, 16, 8], [False, 8, 8], [True, 8, 4], [True, 4, 2], [False, 2, 1]], attention_layer_position=2, eps=1e-3, n_stats=26),
}


def labels(images, classes):
    y = torch.rand(images, classes)
    y[0] = torch.eye(classes)[1]
    return y / y.sum(1, keepdim=True)


def build(config, z, y, images):
    """A generator with random weights. Like a trained one it is well-conditioned: the statistics, each row different, are about those of its
    activations on so many images; attention is neither flat nor all on one key; what goes into tanh for z and y has standard deviation 0.6."""
    model = BigGAN(BigGANConfig.from_dict(config))
    model.eval()
    for name, p in list(model.named_parameters()) + list(model.named_buffers()):
        if name.endswith("weight_u"):  # one power step from a random vector, so that sigma is not the largest singular value
            with torch.no_grad():
                w = model.get_parameter(name[:-1] + "orig")
                w.normal_(0, 0.5)
                w = w.flatten(1)
                v = torch.nn.functional.normalize(w.t() @ torch.randn(len(w)), dim=0)
                model.get_buffer(name[:-1] + "v").copy_(v)
                p.copy_(torch.nn.functional.normalize(w @ v, dim=0))
        elif name.endswith("bias"):
            torch.nn.init.normal_(p, 0, 0.2)
        elif name.endswith("gamma"):
            torch.nn.init.constant_(p, 0.7)
        elif name.endswith("bn.weight"):
            torch.nn.init.uniform_(p, 0.5, 1.5)
        elif name == "embeddings.weight":
            torch.nn.init.normal_(p)

    def record(m, inputs):
        x = inputs[0].transpose(0, 1).flatten(1)
        n = (len(m.running_means), x.shape[0])
        m.running_means.copy_(x.mean(1) + 0.15 * x.std(1) * torch.randn(n))
        m.running_vars.copy_(x.var(1) * torch.exp(0.2 * torch.randn(n)))

    def soften(m, inputs):
        x = inputs[0]
        pool = lambda p: torch.nn.functional.max_pool2d(p, 2).flatten(2)
        scores = m.snconv1x1_theta(x).flatten(2).transpose(1, 2) @ pool(m.snconv1x1_phi(x))
        m.snconv1x1_theta.weight_u *= scores.std() / 2

    hooks = [m.register_forward_pre_hook(record) for m in model.modules() if isinstance(m, BigGANBatchNorm)]
    hooks += [m.register_forward_pre_hook(soften) for m in model.modules() if isinstance(m, SelfAttn)]
    with torch.no_grad():
        model(0.4 * torch.randn(images, config["z_dim"]), labels(images, config["num_classes"]), 0.4)
        for h in hooks:
            h.remove()
        colours = []
        h = model.generator.conv_to_rgb.register_forward_hook(lambda m, i, o: colours.append(o[:, :3]))
        model(z, y, 0.4)
        h.remove()
        gain = 0.6 / colours[0].std()  # a tanh that saturates would hide errors
        for p in (model.generator.bn.weight, model.generator.bn.bias, model.generator.conv_to_rgb.bias):
            p *= gain
    return model


def stages(model, z, y, truncation):
    """Every stage's activation, [N][H][W][C]."""
    g, out = model.generator, {}
    last = lambda x: x.detach().permute(0, 2, 3, 1)
    hooks = [g.gen_z.register_forward_hook(lambda m, i, o: out.update(gen_z=o.detach().view(-1, 4, 4, 16 * g.config.channel_width)))]
    for k, layer in enumerate(g.layers):
        hooks.append(layer.register_forward_hook(lambda m, i, o, k=k: out.update({f"layers.{k}": last(o)})))
        if isinstance(layer, GenBlock):  # its one ReLU runs after each of bn_0 … bn_3
            count = iter(range(4))
            hooks.append(layer.relu.register_forward_hook(lambda m, i, o, k=k, c=count: out.update({f"layers.{k}.bn_{next(c)}": last(o)})))
    with torch.no_grad():
        out["image"] = last(model.double()(z.double(), y.double(), truncation))
    for h in hooks:
        h.remove()
    print(f"truncation {truncation}: before tanh, standard deviation {torch.atanh(out['image']).std():.2f}; largest of layers:",
          *(f"{v.abs().max():.1f}" for k, v in out.items() if k.count(".") == 1))
    return {k: v for k, v in out.items() if not k.endswith("bn_0")}


def write(folder, config, state, z, y, truncations, samples, model, **save):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    torch.save(state, folder / "pytorch_model.bin", **save)
    golden = {"z": z, "labels": y}
    for t in truncations:
        for name, v in stages(model, z, y, t).items():
            flat = v.flatten()
            step = (len(flat) // samples + 1) | 1 if samples else 1
            golden[f"{t}/{name}"] = torch.cat([flat[::step], flat.abs().max()[None]]).float()
    save_file(golden, folder / "golden.safetensors", {"samples": str(samples)})


def strided(v):
    """The same values in the memory order of the original TensorFlow weights, as the public checkpoints have them."""
    if v.dim() == 4:
        return v.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    return v.t().contiguous().t() if v.dim() == 2 else v


def main(what, out):
    torch.manual_seed(1)
    out = pathlib.Path(out)
    if what == "full":
        config = {k: v for k, v in vars(BigGANConfig()).items()}
        z, y = 0.4 * torch.randn(1, config["z_dim"]), labels(1, config["num_classes"])
        model = build(config, z, y, 8)
        write(out, config, {k: strided(v) for k, v in model.state_dict().items()}, z, y, (0.4,), 0, model, _use_new_zipfile_serialization=False)
        return
    for name, config in TINY.items():
        z, y = 0.4 * torch.randn(2, config["z_dim"]), labels(2, config["num_classes"])
        model = build(config, z, y, 32)
        if name == "tiny":
            state, save = {k: strided(v) for k, v in model.state_dict().items()}, dict(_use_new_zipfile_serialization=False)
        else:
            state, save = {k: v.half() for k, v in model.state_dict().items()}, {}
            model.load_state_dict({k: v.float() for k, v in state.items()})
        write(out / name, config, state, z, y, TRUNCATIONS, 31, model, **save)


if __name__ == "__main__":
    main(*sys.argv[1:])
