"""Writes the golden of cinn/flow's net2net checkpoints with the published implementation of the paper itself (github:CompVis/net2net,
commit 5311cb8): a small flow with random weights, in the form in which a training run saves it, and what it makes of a few inputs in
both directions.

usage: python3 net2net.py --net2net CHECKOUT OUT_FOLDER

Nothing of the checkout is copied: the folder gets the numbers that it computes.
"""

import argparse
import json
import pathlib
import sys

import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net2net", type=pathlib.Path, required=True, help="checkout of the published code")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.net2net))
    from net2net.modules.flow.flatflow import ConditionalFlatCouplingFlow
    from net2net.modules.flow.loss import NLL

    torch.manual_seed(23)
    flow = ConditionalFlatCouplingFlow(in_channels=10, conditioning_dim=7, embedding_dim=6, hidden_dim=16, hidden_depth=2, n_flows=3,
                                       conditioning_option="none", activation="none", conditioning_hidden_dim=20, conditioner_use_bn=True)
    # Steps of training, so that neither ActNorm nor the running moments of BatchNorm are what they are at the start.
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, betas=(0.5, 0.9), amsgrad=True)
    loss = NLL()
    for _ in range(5):
        c = torch.randn(32, 7) * 1.5 + 0.5
        z = torch.cat([c, c[:, :3]], dim=1) * 0.7 + torch.randn(32, 10)
        value, _ = loss(*flow(z[:, :, None, None], c))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    flow.eval()

    with torch.no_grad():
        c, z, v = torch.randn(5, 7), 2 * torch.randn(5, 10), torch.randn(5, 10)
        out, logdet = flow(z[:, :, None, None], c)
        back = flow.reverse(v[:, :, None, None], c)
    state = {"flow." + name: value for name, value in flow.state_dict().items()}
    state["cond_stage_model.model.weight"] = torch.zeros(2, 3)  # the experts are saved beside the flow
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 1, "global_step": 5, "state_dict": state}, args.out / "net2net.ckpt")
    with open(args.out / "net2net.json", "w") as f:
        json.dump({"c": c.tolist(), "z": z.tolist(), "v": out.flatten(1).tolist(), "logdet": logdet.tolist(),
                   "noise": v.tolist(), "sample": back.flatten(1).tolist()}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
