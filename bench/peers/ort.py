"""onnxruntime as a contestant: BERT encoders and BigGAN-deep.

    python ort.py bert   model=FOLDER texts=FILE precision=f32|int8 form=fused|raw cache=FOLDER threads=N
    python ort.py biggan model=FOLDER threads=N

Graphs are built from the same weights that we read, in the forms that onnxruntime runs best:
    bert fused    Attention, SkipLayerNormalization and BiasGelu, as onnxruntime.transformers makes them of an export; int8 is this graph after
                  quantize_dynamic, so QAttention and DynamicQuantizeMatMul
    bert raw      the operators of an export, for the optimizer in the session to fuse
    biggan        everything that is constant folded, only the three rows of conv_to_rgb that make colours, and a Mul and an Add for each
                  normalisation, since BatchNormalization with computed scales is slower
The graphs of encoders are kept in the cache.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors import safe_open
from safetensors.numpy import load_file

from serve import arguments, serve


class Graph:
    """Collects nodes and constants."""

    def __init__(self):
        self.nodes, self.tensors = [], []

    def const(self, value, dtype=np.float32):
        name = f"c{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def __call__(self, op, *inputs, outputs=None, domain="", **attributes):
        """Appends a node; constants may stand among the inputs as arrays."""
        name = f"n{len(self.nodes)}"
        names = outputs or [name]
        inputs = [self.const(i) if isinstance(i, np.ndarray) else i for i in inputs]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0]

    def ints(self, *values):
        return self.const(values, np.int64)

    def model(self, inputs, output):
        self("Identity", output, outputs=["result"])
        graph = helper.make_graph(self.nodes, "peer", [helper.make_tensor_value_info(*i) for i in inputs],
                                  [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)], self.tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, ir_version=8, opset_imports=opsets)


def bert(folder, form):
    c, w, g = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"), Graph()
    assert c["hidden_act"] == "gelu"
    heads, eps = c["num_attention_heads"], c["layer_norm_eps"]
    depth = c["hidden_size"] // heads
    ms = dict(domain="com.microsoft")

    def skip_norm(x, skip, name, bias):
        gamma, beta = w[name + ".LayerNorm.weight"], w[name + ".LayerNorm.bias"]
        if form == "fused":
            return g("SkipLayerNormalization", x, skip, gamma, beta, bias, epsilon=eps, **ms)
        return g("LayerNormalization", g("Add", g("Add", x, bias), skip), gamma, beta, epsilon=eps, axis=-1)

    def project(x, name):
        return g("Add", g("MatMul", x, w[name + ".weight"].T), w[name + ".bias"])

    def heads_of(x, *order):
        return g("Transpose", g("Reshape", x, g.ints(0, 0, heads, depth)), perm=order)

    def attention(x, p):
        qkv = [p + n for n in ("query", "key", "value")]
        if form == "fused":
            return g("Attention", x, np.concatenate([w[n + ".weight"] for n in qkv]).T, np.concatenate([w[n + ".bias"] for n in qkv]), num_heads=heads, **ms)
        q, k, v = (project(x, n) for n in qkv)
        scores = g("Div", g("MatMul", heads_of(q, 0, 2, 1, 3), heads_of(k, 0, 2, 3, 1)), np.float32([depth**0.5]))
        a = g("MatMul", g("Softmax", scores, axis=-1), heads_of(v, 0, 2, 1, 3))
        return g("Reshape", g("Transpose", a, perm=[0, 2, 1, 3]), g.ints(0, 0, heads * depth))

    def gelu(x, bias):
        if form == "fused":
            return g("BiasGelu", x, bias, **ms)
        x = g("Add", x, bias)
        return g("Mul", g("Mul", x, g("Add", g("Erf", g("Div", x, np.float32([2**0.5]))), np.float32([1]))), np.float32([0.5]))

    words = g("Gather", w["embeddings.word_embeddings.weight"], "ids")
    places = g("Gather", w["embeddings.position_embeddings.weight"], "places")
    x = skip_norm(words, places, "embeddings", w["embeddings.token_type_embeddings.weight"][0])
    for i in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        a = g("MatMul", attention(x, p + "attention.self."), w[p + "attention.output.dense.weight"].T)
        x = skip_norm(a, x, p + "attention.output", w[p + "attention.output.dense.bias"])
        h = gelu(g("MatMul", x, w[p + "intermediate.dense.weight"].T), w[p + "intermediate.dense.bias"])
        x = skip_norm(g("MatMul", h, w[p + "output.dense.weight"].T), x, p + "output", w[p + "output.dense.bias"])
    return g.model([(n, TensorProto.INT64, ["texts", "tokens"]) for n in ("ids", "places")], g("ReduceMean", x, axes=[1], keepdims=0))


def biggan(folder):
    path = folder / "model.safetensors"
    with safe_open(path, "np") as f:
        c = json.loads(f.metadata()["config"])
    w, g, ch, eps = load_file(path), Graph(), c["channel_width"], c["eps"]
    means, inverse = w["norms.means"][0], 1 / np.sqrt(w["norms.vars"][0] + eps)
    at = 0

    def affine(x, channels, bias):
        """ReLU of the conditional normalisation of x plus bias, as one multiply-add."""
        nonlocal at
        s = slice(at, at + channels)
        at += channels
        # (x + bias - mean)·inverse·(1 + scale·cond) + offset·cond
        gain = g("Gemm", "cond", w["norms.scale.weight"][s] * inverse[s, None], inverse[s], transB=1)
        offset = g("Add", g("Gemm", "cond", w["norms.offset.weight"][s], transB=1), g("Mul", gain, bias - means[s]))
        shape = g.ints(1, channels, 1, 1)
        return g("Relu", g("Add", g("Mul", x, g("Reshape", gain, shape)), g("Reshape", offset, shape)))

    def conv(x, name, bias=None):
        k = w[name + ".weight"]
        k = k[:, :, None, None] if k.ndim == 2 else k.transpose(0, 3, 1, 2)
        size = k.shape[2]
        return g("Conv", x, k, *([] if bias is None else [bias]), kernel_shape=[size, size], pads=[size // 2] * 4)

    def up(x):
        return g("Resize", x, "", np.float32([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def attention(x, n, size):
        def pool(x, rows):
            return g("Reshape", g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), g.ints(1, rows, size * size // 4))

        q = g("Transpose", g("Reshape", conv(x, "attention.query"), g.ints(1, n // 8, size * size)), perm=[0, 2, 1])
        scores = g("Softmax", g("MatMul", q, pool(conv(x, "attention.key"), n // 8)), axis=-1)
        values = g("Transpose", pool(conv(x, "attention.value"), n // 2), perm=[0, 2, 1])
        a = g("Transpose", g("MatMul", scores, values), perm=[0, 2, 1])
        return g("Add", x, conv(g("Reshape", a, g.ints(1, n // 2, size, size)), "attention.output"))

    x = g("Reshape", g("Gemm", "cond", w["gen_z.weight"], w["gen_z.bias"], transB=1), g.ints(1, 4, 4, 16 * ch))
    x, size = g("Transpose", x, perm=[0, 3, 1, 2]), 4
    for i, (upsample, inputs, outputs) in enumerate(c["layers"]):
        n, mid, p = inputs * ch, inputs * ch // 4, f"blocks.{i}.conv_"
        if i == c["attention_layer_position"]:
            x = attention(x, n, size)
        h = affine(x, n, np.zeros(n, np.float32))
        h = affine(conv(h, p + "0"), mid, w[p + "0.bias"])
        if upsample:
            h, size = up(h), 2 * size
        h = affine(conv(h, p + "1"), mid, w[p + "1.bias"])
        h = affine(conv(h, p + "2"), mid, w[p + "2.bias"])
        h = conv(h, p + "3", w[p + "3.bias"])
        if outputs != inputs:
            x = g("Slice", x, g.ints(0), g.ints(outputs * ch), g.ints(1))
        x = g("Add", h, up(x) if upsample else x)
    scale = w["bn.weight"] * inverse[at:]
    x = g("Add", g("Mul", x, scale[:, None, None]), (w["bn.bias"] - means[at:] * scale)[:, None, None])
    x = g("Tanh", conv(g("Relu", x), "conv_to_rgb", w["conv_to_rgb.bias"]))
    return g.model([("cond", TensorProto.FLOAT, [1, w["gen_z.weight"].shape[1]])], g("Transpose", x, perm=[0, 2, 3, 1]))


def cached(a):
    """The file of an encoder's graph."""
    folder, cache = pathlib.Path(a["model"]), pathlib.Path(a["cache"])
    path = {p: cache / f"{folder.name}-{a['form']}-{p}.onnx" for p in ("f32", "int8")}
    if not path["f32"].exists():
        onnx.save(bert(folder, a["form"]), path["f32"])
    if a["precision"] == "int8" and not path["int8"].exists():
        quantize_dynamic(path["f32"], path["int8"], op_types_to_quantize=["MatMul", "Attention"], weight_type=QuantType.QInt8,
                         extra_options={"DefaultTensorType": TensorProto.FLOAT})
    return path[a["precision"]]


def session(model, threads, **dimensions):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
    for name, value in dimensions.items():
        options.add_free_dimension_override_by_name(name, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main():
    a = arguments()
    folder = pathlib.Path(a["model"])
    if a["family"] == "bert":
        vocab = {word: i for i, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
        ids = np.array([[vocab[w] for w in ("[CLS]", *text.split(), "[SEP]")] for text in pathlib.Path(a["texts"]).read_text().splitlines()])
        feed = {"ids": ids, "places": np.tile(np.arange(ids.shape[1]), (len(ids), 1))}
        s = session(cached(a), a["threads"], texts=ids.shape[0], tokens=ids.shape[1])
    else:
        x = load_file(folder / "input.safetensors")
        feed = {"cond": np.concatenate([x["z"], x["class"]], 1)}
        s = session(biggan(folder).SerializeToString(), a["threads"])
    serve("onnxruntime", ort.__version__, lambda: s.run(None, feed)[0])


main()
