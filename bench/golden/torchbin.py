"""Writes the goldens of nn/torchbin with PyTorch itself: the same checkpoint in the legacy and in the zip format, and
the same tensors as raw little-endian row-major bytes with a JSON index.

usage: python3 torchbin.py OUT_FOLDER
"""

import collections
import json
import pathlib
import sys
import zipfile

import torch


def checkpoint():
    torch.manual_seed(7)
    base = torch.randn(4, 6)
    d = collections.OrderedDict()
    d["plain"] = base
    d["transposed"] = base.t()  # shares the storage of plain
    d["permuted"] = torch.randn(2, 3, 4).permute(2, 0, 1)
    d["sliced"] = base[1:, 2:5]
    d["row"] = base[2]
    d["half"] = torch.randn(3, 5).half()
    d["bfloat16"] = torch.randn(5, 3).bfloat16().t()
    d["double"] = torch.randn(3).double()
    d["int64"] = torch.tensor([1, -2, 2**40])
    d["int32"] = torch.tensor([3, -4], dtype=torch.int32)
    d["int16"] = torch.tensor([5, -6], dtype=torch.int16)
    d["int8"] = torch.tensor([7, -8], dtype=torch.int8)
    d["uint8"] = torch.tensor([9, 250], dtype=torch.uint8)
    d["bool"] = torch.tensor([True, False])
    d["scalar"] = torch.tensor(12)
    d["empty"] = torch.zeros(0, 3)
    d["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    layer = torch.nn.BatchNorm1d(3).state_dict()  # has the _metadata attribute
    d["nested"] = layer
    d["epoch"] = 3
    d["loss"] = 0.5
    return d


def flatten(prefix, value):
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(f"{prefix}.{key}" if prefix else key, item)


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    d = checkpoint()
    torch.save(d, out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(d, out / "zip.bin")
    torch.save(d, out / "protocol4.bin", pickle_protocol=4)
    with zipfile.ZipFile(out / "zip.bin") as src, zipfile.ZipFile(out / "deflated.bin", "w", zipfile.ZIP_DEFLATED) as dst:
        for e in src.infolist():
            dst.writestr(zipfile.ZipInfo(e.filename), src.read(e), zipfile.ZIP_DEFLATED)

    index, raw = [], b""
    for name, t in flatten("", d):
        t = t.detach().contiguous()
        words = t.view(torch.int16) if t.dtype == torch.bfloat16 else t  # numpy has no bfloat16
        data = words.numpy().tobytes()
        index.append({"name": name, "dtype": str(t.dtype), "shape": list(t.shape), "size": len(data)})
        raw += data
    (out / "tensors.json").write_text(json.dumps(index, indent=1) + "\n")
    (out / "tensors.raw").write_bytes(raw)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
