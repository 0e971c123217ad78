"""Writes random weights and inputs of the cases once, for all contestants of the same case to read.

    python weights.py bert-base|minilm|biggan-128|biggan-256|biggan-512 FOLDER

Weights keep activations near 1, as those of trained networks do, so that a rounding error is as large as it would be there.
"""
import itertools
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

BERT = dict(model_type="bert", hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, max_position_embeddings=512,
            type_vocab_size=2, vocab_size=30522, hidden_act="gelu", layer_norm_eps=1e-12)

MINILM = BERT | dict(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)

# The published sizes: [up, in, out] in multiples of the width, and the block that attention precedes.
BIGGAN = {
    128: ([(0, 16, 16), (1, 16, 16), (0, 16, 16), (1, 16, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4), (1, 4, 2), (0, 2, 2), (1, 2, 1)], 8),
    256: ([(0, 16, 16), (1, 16, 16), (0, 16, 16), (1, 16, 8), (0, 8, 8), (1, 8, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4), (1, 4, 2), (0, 2, 2), (1, 2, 1)], 8),
    512: ([(0, 16, 16), (1, 16, 16), (0, 16, 16), (1, 16, 8), (0, 8, 8), (1, 8, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4), (1, 4, 2), (0, 2, 2), (1, 2, 1),
           (0, 1, 1), (1, 1, 1)], 8),
}

rng = np.random.default_rng(1)


def normal(*shape, std=1.0, mean=0.0):
    x = rng.standard_normal(shape, np.float32)
    x *= std
    x += mean
    return x


def bert(folder, c):
    """A checkpoint folder, whose vocabulary is made of words of four letters."""
    w = {}
    h, f = c["hidden_size"], c["intermediate_size"]

    def linear(name, n, k):
        w[name + ".weight"], w[name + ".bias"] = normal(n, k, std=k**-0.5), normal(n, std=0.1)

    def norm(name):
        w[name + ".weight"], w[name + ".bias"] = normal(h, mean=1, std=0.1), normal(h, std=0.1)

    for name, rows in (("word", c["vocab_size"]), ("position", c["max_position_embeddings"]), ("token_type", c["type_vocab_size"])):
        w[f"embeddings.{name}_embeddings.weight"] = normal(rows, h)
    norm("embeddings.LayerNorm")
    for i in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(p + "attention.self." + name, h, h)
        linear(p + "attention.output.dense", h, h)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", f, h)
        linear(p + "output.dense", h, f)
        norm(p + "output.LayerNorm")
    (folder / "config.json").write_text(json.dumps(c))
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = map("".join, itertools.product(letters, repeat=4))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *itertools.islice(words, c["vocab_size"] - 5)]) + "\n")
    save_file(w, folder / "model.safetensors")


def biggan(folder, resolution):
    """An expert file of experts/biggan, and an input: z and the embedding of a class in one row."""
    layers, attention = BIGGAN[resolution]
    ch, cond, w = 128, 256, {}

    def linear(name, n, *k):
        w[name + ".weight"] = normal(n, *k, std=np.prod(k) ** -0.5)

    channels = sum(i * ch + 3 * i * ch // 4 for _, i, _ in layers)
    w["classes.weight"] = normal(1000, 128)
    w["norms.scale.weight"], w["norms.offset.weight"] = normal(channels, cond, std=0.2 * cond**-0.5), normal(channels, cond, std=0.5 * cond**-0.5)
    w["norms.means"], w["norms.vars"] = normal(1, channels + ch, std=0.2), np.exp(normal(1, channels + ch, std=0.2))
    linear("gen_z", 256 * ch, cond)
    w["gen_z.bias"] = normal(256 * ch, std=0.1)
    for i, (_, inputs, outputs) in enumerate(layers):
        n, mid = inputs * ch, inputs * ch // 4
        if i == attention:
            for name, rows in (("query", n // 8), ("key", n // 8), ("value", n // 2)):
                linear("attention." + name, rows, n)
            linear("attention.output", n, n // 2)
        for k, shape in enumerate(((mid, n), (mid, 3, 3, mid), (mid, 3, 3, mid), (outputs * ch, mid))):
            linear(f"blocks.{i}.conv_{k}", *shape)
            w[f"blocks.{i}.conv_{k}.bias"] = normal(shape[0], std=0.1)
    w["bn.weight"], w["bn.bias"] = normal(ch, mean=1, std=0.2), normal(ch, std=0.2)
    linear("conv_to_rgb", 3, 3, 3, ch)
    w["conv_to_rgb.bias"] = normal(3, std=0.1)
    config = dict(output_dim=resolution, z_dim=128, class_embed_dim=128, channel_width=ch, num_classes=1000, layers=layers,
                  attention_layer_position=attention, eps=1e-4, n_stats=51, stats_rows=1)
    save_file(w, folder / "model.safetensors", {"arch": "biggan-deep", "config": json.dumps(config)})
    save_file({"z": normal(1, 128), "class": w["classes.weight"][:1]}, folder / "input.safetensors")


def main(what, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if what in ("bert-base", "minilm"):
        bert(folder, BERT if what == "bert-base" else MINILM)
    elif what.startswith("biggan-"):
        biggan(folder, int(what.removeprefix("biggan-")))
    else:
        sys.exit(f"no weights are called {what}")


main(*sys.argv[1:])
