"""BERT (Devlin et al. 2018) written once more, in plain torch functions, as the reference that the Go encoder is measured against.

    python bert_reference.py CHECKPOINT_DIR TEXTS.txt OUT.safetensors [--transformers]

reads config.json, model.safetensors and tokenizer.json, embeds each line of TEXTS.txt and writes
    text        U8   the lines, joined by newlines
    embedding   F32  [n][hidden]  mean over all tokens, not normalised
--transformers also runs the library's own BertModel and prints the largest difference to this file's.
"""
import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "relu": F.relu,
}


def strip_prefix(weights):
    """Removes what comes before embeddings.word_embeddings.weight, e.g. "bert."."""
    key = "embeddings.word_embeddings.weight"
    prefix = next(k for k in weights if k.endswith(key))[: -len(key)]
    return {k[len(prefix):]: v for k, v in weights.items() if k.startswith(prefix)}


def forward(w, config, ids, types=None):
    """The hidden state [tokens][hidden] after the embeddings and after every layer, for one sequence of ids."""
    eps, heads, hidden = config["layer_norm_eps"], config["num_attention_heads"], config["hidden_size"]
    act, d = ACTIVATIONS[config["hidden_act"]], hidden // heads
    ids = torch.as_tensor(ids)
    types = torch.zeros_like(ids) if types is None else torch.as_tensor(types)

    def norm(x, name):
        return F.layer_norm(x, (hidden,), w[name + ".weight"], w[name + ".bias"], eps)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][types], "embeddings.LayerNorm")
    states = [x]
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(x, p + "attention.self." + n).view(-1, heads, d).transpose(0, 1) for n in ("query", "key", "value"))
        a = torch.softmax(q @ k.transpose(1, 2) / d**0.5, -1) @ v
        a = linear(a.transpose(0, 1).reshape(-1, hidden), p + "attention.output.dense")
        x = norm(x + a, p + "attention.output.LayerNorm")
        h = linear(act(linear(x, p + "intermediate.dense")), p + "output.dense")
        x = norm(x + h, p + "output.LayerNorm")
        states.append(x)
    return states


def load(folder):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = strip_prefix({k: torch.from_numpy(v) for k, v in load_file(folder / "model.safetensors").items()})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # a checkpoint's own padding and truncation are a batch's business, not the text's
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    return config, weights, tokenizer


def main():
    args = argparse.ArgumentParser()
    args.add_argument("checkpoint")
    args.add_argument("texts")
    args.add_argument("out")
    args.add_argument("--transformers", action="store_true")
    args = args.parse_args()
    torch.set_grad_enabled(False)
    config, weights, tokenizer = load(args.checkpoint)

    texts = pathlib.Path(args.texts).read_text(encoding="utf-8").split("\n")
    texts = [t for t in texts if t]
    ids = [tokenizer.encode(t).ids for t in texts]
    embedding = torch.stack([forward(weights, config, i)[-1].mean(0) for i in ids])
    probe = forward(weights, config, tokenizer.encode("What is Deep Learning?").ids)[-1].mean(0)
    print("What is Deep Learning?", " ".join(f"{v:.8f}" for v in probe[:6].tolist()))

    if args.transformers:
        import transformers
        model = transformers.BertModel.from_pretrained(args.checkpoint).eval()
        other = torch.stack([model(torch.tensor([i])).last_hidden_state[0].mean(0) for i in ids])
        print(f"transformers {transformers.__version__}: max abs difference {(other - embedding).abs().max():.3g}")

    save_file({"text": np.frombuffer("\n".join(texts).encode(), np.uint8), "embedding": embedding.numpy()}, args.out)
    print(f"{len(texts)} texts, {embedding.shape[1]} numbers each -> {args.out}")


if __name__ == "__main__":
    main()
