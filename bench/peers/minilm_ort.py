"""Times a BERT sentence encoder in onnxruntime, to set beside experts/bert's BenchmarkCheckpoint on the same machine.

    python minilm_ort.py CHECKPOINT_DIR [--threads 1 2] [--tokens 8 16 32 128] [--seconds 2]

The graph is built from the checkpoint's weights with the fused operators (Attention, SkipLayerNormalization, BiasGelu) that onnxruntime's own optimizer
would make of an export, so this is its best float32 form. Prints the least, the median and the mean of many runs, in milliseconds, and checks one embedding.
compare.py runs it in turns with the benchmark.
"""
import argparse
import json
import pathlib
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from safetensors.numpy import load_file


def build(folder):
    config = json.loads((folder / "config.json").read_text())
    w = load_file(folder / "model.safetensors")
    assert config["hidden_act"] == "gelu"
    nodes, tensors = [], []

    def const(name, value):
        tensors.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op, inputs, out, domain="com.microsoft", **attributes):
        nodes.append(helper.make_node(op, inputs, [out], domain=domain, **attributes))
        return out

    def skip_norm(x, skip, name, bias, out):
        return node("SkipLayerNormalization", [x, skip, const(name + ".g", w[name + ".LayerNorm.weight"]), const(name + ".b", w[name + ".LayerNorm.bias"]),
                                               const(name + ".bias", bias)], out, epsilon=config["layer_norm_eps"])

    hidden = config["hidden_size"]
    words = node("Gather", [const("words", w["embeddings.word_embeddings.weight"]), "ids"], "word", "")
    places = node("Gather", [const("positions", w["embeddings.position_embeddings.weight"]), "places"], "place", "")
    x = skip_norm(words, places, "embeddings", w["embeddings.token_type_embeddings.weight"][0], "x0")
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        qkv = [p + "attention.self." + n for n in ("query", "key", "value")]
        a = node("Attention", [x, const(p + "qkv", np.concatenate([w[n + ".weight"] for n in qkv]).T), const(p + "qkvb", np.concatenate([w[n + ".bias"] for n in qkv]))],
                 p + "a", num_heads=config["num_attention_heads"])
        a = node("MatMul", [a, const(p + "wo", w[p + "attention.output.dense.weight"].T)], p + "o", "")
        x = skip_norm(a, x, p + "attention.output", w[p + "attention.output.dense.bias"], p + "y")
        h = node("MatMul", [x, const(p + "w1", w[p + "intermediate.dense.weight"].T)], p + "h", "")
        h = node("BiasGelu", [h, const(p + "b1", w[p + "intermediate.dense.bias"])], p + "gelu")
        h = node("MatMul", [h, const(p + "w2", w[p + "output.dense.weight"].T)], p + "d", "")
        x = skip_norm(h, x, p + "output", w[p + "output.dense.bias"], f"x{i + 1}")
    node("ReduceMean", [x], "embedding", "", axes=[1], keepdims=0)
    graph = helper.make_graph(nodes, "bert", [helper.make_tensor_value_info(n, TensorProto.INT64, [1, "tokens"]) for n in ("ids", "places")],
                              [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, hidden])], tensors)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]).SerializeToString()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("checkpoint", type=pathlib.Path)
    args.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args.add_argument("--tokens", type=int, nargs="+", default=[8, 16, 32, 128])
    args.add_argument("--seconds", type=float, default=2)
    args = args.parse_args()
    model = build(args.checkpoint)
    print("onnxruntime", ort.__version__)
    for threads in args.threads:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if threads == args.threads[0]:
            ids = np.array([[101, 2054, 2003, 2784, 4083, 1029, 102]])  # What is Deep Learning?
            out = session.run(None, {"ids": ids, "places": np.arange(7)[None]})[0][0]
            print("check:", " ".join(f"{v:.8f}" for v in out[:4]))
        for tokens in args.tokens:
            feed = {"ids": np.full((1, tokens), 2417), "places": np.arange(tokens)[None]}
            times = []
            end = time.perf_counter() + args.seconds
            while time.perf_counter() < end:
                t = time.perf_counter()
                session.run(None, feed)
                times.append(1e3 * (time.perf_counter() - t))
            print(f"threads={threads} tokens={tokens}: least {min(times):.3f} ms, median {np.median(times):.3f} ms, mean {np.mean(times):.3f} ms")


main()
