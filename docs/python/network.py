#!/usr/bin/env python3
"""A riftmesh network in PyTorch: reads its weights and computes what the Rust program computes.

    python3 docs/python/network.py weights games.npz [expected.npz]

prints the loss of the network's policy on the games, and, when the third file has `logits` (one per entry of
`policy_index`) and `values` (rows x 4), the largest differences; exit code 1 if one is above 1e-4. Needs torch and numpy.
"""

import json
import struct
import sys

import numpy
import torch
from torch.nn import functional

TOLERANCE = 1e-4


def read_weights(path):
    """{name: tensor} of a safetensors file: eight bytes of length, a JSON list of tensors, their numbers."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    header.pop("__metadata__", None)
    weights = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        numbers = numpy.frombuffer(data[begin:end], dtype="<f4").reshape(tensor["shape"])
        weights[name] = torch.from_numpy(numbers.copy())
    return weights


class Network:
    """Convolutions are [out, in, 3, 3] or, for 1x1, [out, in]; linear layers are [in, out]."""

    def __init__(self, weights, description):
        self.weights = weights
        self.blocks = sum(name.endswith(".conv1.weight") and name.startswith("block.") for name in weights)
        self.cells, side = description["cells"], description["side"]
        self.squares = torch.tensor(description["squares"])
        mask = torch.zeros(side * side)
        mask[self.squares] = 1.0
        self.mask = mask.reshape(1, 1, side, side)
        # Taps that connect no neighbours on this board carry no weight.
        self.taps = torch.tensor(description["taps"], dtype=torch.float32).reshape(1, 1, 3, 3)

    def conv(self, name, x):
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        if weight.dim() == 2:
            return functional.conv2d(x, weight[:, :, None, None], bias)
        return functional.conv2d(x, weight * self.taps, bias, padding=1)

    def linear(self, name, x):
        return x @ self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def mean(self, x):
        return x.sum((2, 3)) / self.cells

    def trunk(self, planes, globals_):
        first = (globals_ @ self.weights["stem.globals.weight"])[:, :, None, None]
        x = torch.relu(self.conv("stem.conv", planes) + first) * self.mask
        for block in range(self.blocks):
            name = f"block.{block}."
            inner = torch.relu(self.conv(name + "conv1", x)) * self.mask
            inner = self.conv(name + "conv2", inner) * self.mask
            squeezed = torch.relu(self.linear(name + "squeeze", self.mean(inner)))
            gain, shift = self.linear(name + "excite", squeezed).chunk(2, dim=1)
            x = torch.relu(x + inner * torch.sigmoid(gain)[:, :, None, None] + shift[:, :, None, None]) * self.mask
        return x

    def logits(self, planes, globals_):
        """Logits of the policy on the squares, [rows, action_planes, side, side], of the special actions, and of the
        four values."""
        x = self.trunk(planes, globals_)
        pooled = torch.cat([self.mean(x), x.amax((2, 3)), globals_], dim=1)
        spatial = self.conv("policy.conv2", torch.relu(self.conv("policy.conv1", x)))
        hidden = torch.relu(self.linear("value.hidden", pooled))
        return spatial, self.linear("policy.special", pooled), self.linear("value.out", hidden)

    def __call__(self, planes, globals_, players):
        """Logits of every action, [rows, action_planes * cells + specials], and the chances of the players, [rows, 4],
        from the decider on."""
        spatial, special, value = self.logits(planes, globals_)
        policy = torch.cat([spatial.flatten(2)[:, :, self.squares].flatten(1), special], dim=1)
        values = torch.zeros(len(planes), 4)
        values[:, :players] = torch.softmax(value[:, :players], dim=1)
        return policy, values


def evaluate(network, games, players):
    """One logit per entry of `policy_index`, and the values of every row."""
    starts, index = games["policy_start"].astype(numpy.int64), games["policy_index"].astype(numpy.int64)
    logits, values = [], []
    for first in range(0, len(starts) - 1, 256):
        rows = slice(first, min(first + 256, len(starts) - 1))
        planes, globals_ = torch.from_numpy(games["planes"][rows]), torch.from_numpy(games["globals"][rows])
        policy, value = network(planes, globals_, players)
        for row, all_logits in zip(range(rows.start, rows.stop), policy):
            logits.append(all_logits[torch.from_numpy(index[starts[row] : starts[row + 1]])].numpy())
        values.append(value.numpy())
    return logits, numpy.concatenate(values)


def loss(logits, games):
    """Mean cross-entropy of the network's policy against the search's."""
    starts, total = games["policy_start"].astype(numpy.int64), 0.0
    for row, logit in enumerate(logits):
        target = torch.from_numpy(games["policy_probability"][starts[row] : starts[row + 1]])
        total -= float((target * torch.log_softmax(torch.from_numpy(logit), dim=0)).sum())
    return total / len(logits)


def main(weights, archive, expected=None):
    with numpy.load(archive, allow_pickle=False) as file:
        games = {name: file[name] for name in file.files if name != "manifest.json"}
        description = json.loads(file["manifest.json"])
    with torch.no_grad():
        network = Network(read_weights(weights), description)
        logits, values = evaluate(network, games, description["players"])
    answer = {"rows": len(values), "policy_loss": loss(logits, games)}
    if expected is not None:
        with numpy.load(expected, allow_pickle=False) as file:
            answer["logits_differ_by"] = float(numpy.abs(numpy.concatenate(logits) - file["logits"]).max())
            answer["values_differ_by"] = float(numpy.abs(values - file["values"]).max())
    print(json.dumps(answer))
    differ = max(answer.get("logits_differ_by", 0.0), answer.get("values_differ_by", 0.0))
    return 0 if differ <= TOLERANCE else 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
