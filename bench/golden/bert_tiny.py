"""Writes encoders of random weights with the hidden state after every layer, for experts/bert's tests.

    python bert_tiny.py OUT_DIR         the small ones, experts/bert/testdata
    python bert_tiny.py base OUT_DIR    one of the size of bert-base, 340 MB, with few words: BERT_BASE_GOLDEN names it to the test

Each file tiny-NAME.safetensors holds the checkpoint under "checkpoint/" in one of the naming dialects, its config.json as metadata, and for each of the
sequences s: s.ids, s.types, and s.state.0 (embeddings) to s.state.L, [tokens][hidden]. The checkpoint alone is also written as PyTorch does,
tiny-plain.bin in the zip format and tiny-legacy.bin in the legacy one, which holds addresses, so that its bytes differ from run to run.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

from bert_reference import forward, strip_prefix

VARIANTS = {
    "plain": dict(prefix="", legacy=False, hidden=32, heads=4, inner=48, layers=2, act="gelu", eps=1e-12),
    "legacy": dict(prefix="bert.", legacy=True, hidden=24, heads=2, inner=40, layers=3, act="relu", eps=1e-5),
    "nested": dict(prefix="0.auto_model.", legacy=False, hidden=48, heads=3, inner=64, layers=1, act="gelu_new", eps=1e-12),
}
BASE = {"base": dict(prefix="bert.", legacy=False, hidden=768, heads=12, inner=3072, layers=12, act="gelu", eps=1e-12)}
VOCAB, POSITIONS, TYPES = 60, 40, 2


def weights(v, rng):
    h, f = v["hidden"], v["inner"]
    w = {}

    def normal(name, *shape, mean=0.0, std=None):
        std = std if std is not None else shape[-1] ** -0.5
        w[v["prefix"] + name] = (mean + std * rng.standard_normal(shape)).astype(np.float32)

    def linear(name, n, k, gain=1.5):
        normal(name + ".weight", n, k, std=gain * k**-0.5)
        normal(name + ".bias", n, std=0.3)

    def norm(name):
        normal(name + (".gamma" if v["legacy"] else ".weight"), h, mean=1, std=0.3)
        normal(name + (".beta" if v["legacy"] else ".bias"), h, std=0.3)

    normal("embeddings.word_embeddings.weight", VOCAB, h, std=1)
    normal("embeddings.position_embeddings.weight", POSITIONS, h, std=0.5)
    normal("embeddings.token_type_embeddings.weight", TYPES, h, std=0.5)
    norm("embeddings.LayerNorm")
    for i in range(v["layers"]):
        p = f"encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(p + "attention.self." + name, h, h)
        linear(p + "attention.output.dense", h, h)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", f, h)
        linear(p + "output.dense", h, f)
        norm(p + "output.LayerNorm")
    if v["legacy"]:  # what follows the encoder in checkpoints of its pre-training
        linear("pooler.dense", h, h)
        w["cls.predictions.bias"] = np.zeros(VOCAB, np.float32)
        w[v["prefix"] + "embeddings.position_ids"] = np.arange(POSITIONS, dtype=np.int64)[None]
    return w


def main():
    torch.set_grad_enabled(False)
    out = pathlib.Path(sys.argv[-1])
    out.mkdir(parents=True, exist_ok=True)
    for seed, (name, v) in enumerate((BASE if sys.argv[1] == "base" else VARIANTS).items()):
        rng = np.random.default_rng(seed)
        config = {"model_type": "bert", "hidden_size": v["hidden"], "num_hidden_layers": v["layers"], "num_attention_heads": v["heads"],
                  "intermediate_size": v["inner"], "max_position_embeddings": POSITIONS, "type_vocab_size": TYPES, "vocab_size": VOCAB,
                  "hidden_act": v["act"], "layer_norm_eps": v["eps"]}
        w = weights(v, rng)
        tensors = {"checkpoint/" + k: x for k, x in w.items()}
        plain = {k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): torch.from_numpy(x).double()
                 for k, x in strip_prefix(w).items()}
        for s, length in enumerate((1, 7, 19, 40)):
            ids, types = rng.integers(0, VOCAB, length), np.sort(rng.integers(0, TYPES, length))
            tensors[f"{s}.ids"], tensors[f"{s}.types"] = ids.astype(np.int32), types.astype(np.int32)
            for i, state in enumerate(forward(plain, config, ids, types)):
                tensors[f"{s}.state.{i}"] = state.float().numpy()
        path = out / (f"{name}.safetensors" if name in BASE else f"tiny-{name}.safetensors")
        save_file(tensors, path, {"config": json.dumps(config)})
        print(path, path.stat().st_size)
        if name in ("plain", "legacy"):
            path = out / f"tiny-{name}.bin"
            torch.save({k: torch.from_numpy(x) for k, x in w.items()}, path, _use_new_zipfile_serialization=not v["legacy"])
            print(path, path.stat().st_size)


main()
