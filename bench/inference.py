#!/usr/bin/env python3
"""Our CPU evaluator against ONNX Runtime and PyTorch: the same networks, positions and core, in turn.

    cargo build --release --locked -p riftmesh-learning --examples
    python3 bench/inference.py target/release/examples/measured [--rounds 5] [--core 0] [--json FILE]

Needs numpy, onnx and onnxruntime; torch is measured too where it can be imported. For every network and batch the
engines take turns, round by round, on one core with one thread each; rates are medians of evaluations per second of
processor time, which a busy machine disturbs least. First the engines have to agree with ours to 1e-4 in every logit and
value. The network for ONNX is built here from the safetensors file; masks are left out where a board fills its square.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs" / "python"))

TOLERANCE = 1e-4
BATCHES = [1, 8, 32, 128]
PLANES, GLOBALS = 36, 66


def read_weights(path):
    """{name: array} of a safetensors file."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(body[slice(*tensor["data_offsets"])], dtype="<f4").reshape(tensor["shape"])
        for name, tensor in header.items()
    }


class Graph:
    """Builds the playing part of a network: `planes`, `globals` to `policy` (spatial), `special` and `value` logits."""

    def __init__(self, weights, frame):
        self.weights, self.frame = weights, frame
        self.nodes, self.constants = [], {}
        self.full = frame["cells"] == frame["side"] ** 2

    def constant(self, name, array):
        self.constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(array), name)
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, name, x):
        weight = self.weights[name + ".weight"]
        if weight.ndim == 2:
            weight, pads = weight[:, :, None, None], [0, 0, 0, 0]
        else:
            weight, pads = weight * numpy.array(self.frame["taps"], dtype="f4").reshape(1, 1, 3, 3), [1, 1, 1, 1]
        names = [self.constant(name + ".w", weight), self.constant(name + ".b", self.weights[name + ".bias"])]
        return self.node("Conv", [x, *names], name, kernel_shape=list(weight.shape[2:]), pads=pads)

    def linear(self, name, x):
        names = [self.constant(name + ".w", self.weights[name + ".weight"])]
        names.append(self.constant(name + ".b", self.weights[name + ".bias"]))
        return self.node("Gemm", [x, *names], name)

    def relu(self, x):
        return self.node("Relu", [x], x + ".relu")

    def masked(self, x):
        return x if self.full else self.node("Mul", [x, "mask"], x + ".masked")

    def mean(self, x, flat):
        """Over the board's cells: squares off the board are zero."""
        mean = self.node("GlobalAveragePool", [x], x + ".mean")
        if not self.full:
            mean = self.node("Mul", [mean, "share"], mean + ".cells")
        return self.node("Flatten", [mean], flat)

    def wide(self, x, name):
        return self.node("Reshape", [x, "wide"], name)

    def model(self, blocks):
        side, cells, channels = self.frame["side"], self.frame["cells"], len(self.weights["stem.conv.bias"])
        mask = numpy.zeros(side * side, dtype="f4")
        mask[self.frame["squares"]] = 1
        if not self.full:
            self.constant("mask", mask.reshape(1, 1, side, side))
            self.constant("share", numpy.array(side * side / cells, dtype="f4"))
        self.constant("wide", numpy.array([0, channels, 1, 1], dtype="i8"))
        self.constant("stem.globals.w", self.weights["stem.globals.weight"])
        first = self.wide(self.node("MatMul", ["globals", "stem.globals.w"], "stem.globals"), "stem.bias")
        x = self.masked(self.relu(self.node("Add", [self.conv("stem.conv", "planes"), first], "stem")))
        for block in range(blocks):
            name = f"block.{block}."
            inner = self.masked(self.relu(self.conv(name + "conv1", x)))
            inner = self.masked(self.conv(name + "conv2", inner))
            squeezed = self.relu(self.linear(name + "squeeze", self.mean(inner, name + "pooled")))
            excited = self.linear(name + "excite", squeezed)
            self.nodes.append(helper.make_node("Split", [excited], [name + "gain", name + "shift"], axis=1, num_outputs=2))
            gain = self.wide(self.node("Sigmoid", [name + "gain"], name + "gate"), name + "gain.wide")
            shift = self.wide(name + "shift", name + "shift.wide")
            branch = self.node("Mul", [inner, gain], name + "scaled")
            branch = self.node("Add", [branch, shift], name + "shifted")
            x = self.masked(self.relu(self.node("Add", [x, branch], name + "sum")))
        largest = self.node("Flatten", [self.node("GlobalMaxPool", [x], "max")], "max.flat")
        pooled = self.node("Concat", [self.mean(x, "mean.flat"), largest, "globals"], "pooled", axis=1)
        self.conv("policy.conv2", self.relu(self.conv("policy.conv1", x)))
        self.linear("policy.special", pooled)
        self.linear("value.out", self.relu(self.linear("value.hidden", pooled)))
        shapes = {"planes": ["batch", PLANES, side, side], "globals": ["batch", GLOBALS]}
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        planes, specials = len(self.weights["policy.conv2.bias"]), len(self.weights["policy.special.bias"])
        shapes = {"policy.conv2": ["batch", planes, side, side], "policy.special": ["batch", specials], "value.out": ["batch", 4]}
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph(self.nodes, "riftmesh", inputs, outputs, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        return model


class Ours:
    name = "ours"

    def __init__(self, program, folder, inputs):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([program, "serve", folder, inputs], **pipes)

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def outputs(self, batch):
        answer = self.ask(f"outputs {batch}")
        return numpy.array(answer["logits"]), numpy.array(answer["values"])

    def rate(self, batch, seconds):
        return self.ask(f"run {batch} {seconds}")["per_processor_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Library:
    """An engine in this process: `compute(batch)` gives spatial, special and value logits."""

    def __init__(self, frame):
        self.frame = frame

    def outputs(self, batch):
        spatial, special, value = self.compute(batch)
        cells, squares = self.frame["cells"], self.frame["squares"]
        policy = numpy.concatenate([spatial.reshape(batch, -1, self.frame["side"] ** 2)[:, :, squares].reshape(batch, -1), special], 1)
        assert policy.shape[1] == spatial.shape[1] * cells + special.shape[1]
        players = self.frame["players"]
        chances = numpy.zeros((batch, 4))
        shares = numpy.exp(value[:, :players] - value[:, :players].max(1, keepdims=True))
        chances[:, :players] = shares / shares.sum(1, keepdims=True)
        return policy[:, self.frame["actions"]], chances

    def rate(self, batch, seconds):
        self.compute(batch)
        begin, busy, done = time.monotonic(), time.process_time(), 0
        while time.monotonic() - begin < seconds:
            self.compute(batch)
            done += batch
        return done / (time.process_time() - busy)

    def close(self):
        pass


class OnnxRuntime(Library):
    name = "onnxruntime"

    def __init__(self, model, frame, planes, globals_):
        super().__init__(frame)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.feeds = {batch: {"planes": planes[:batch], "globals": globals_[:batch]} for batch in BATCHES}

    def compute(self, batch):
        return self.session.run(["policy.conv2", "policy.special", "value.out"], self.feeds[batch])


class PyTorch(Library):
    name = "pytorch"

    def __init__(self, weights, frame, planes, globals_):
        super().__init__(frame)
        import network
        import torch

        torch.set_num_threads(1)
        self.torch = torch
        self.network = network.Network(network.read_weights(weights), frame)
        self.planes, self.globals = torch.from_numpy(planes), torch.from_numpy(globals_)

    def compute(self, batch):
        with self.torch.inference_mode():
            return [part.numpy() for part in self.network.logits(self.planes[:batch], self.globals[:batch])]


def positions(frame, count):
    """Random positions: zeros and ones on the board, as most planes are."""
    generator = numpy.random.default_rng(7)
    side = frame["side"]
    planes = numpy.zeros((count, PLANES, side * side), dtype="f4")
    planes[:, :, frame["squares"]] = generator.random((count, PLANES, frame["cells"])) < 0.2
    globals_ = generator.random((count, GLOBALS), dtype="f4")
    return planes.reshape(count, PLANES, side, side), globals_


def measure(program, configuration, shape, rounds, seconds):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "make", configuration, shape, folder], check=True)
        frame = json.loads(Path(folder, "frame.json").read_text())
        planes, globals_ = positions(frame, max(BATCHES))
        inputs = Path(folder, "inputs")
        inputs.write_bytes(numpy.concatenate([planes.reshape(len(planes), -1), globals_], 1).astype("<f4").tobytes())
        weights = read_weights(Path(folder, "weights"))
        blocks = sum(name.endswith(".conv1.weight") and name.startswith("block.") for name in weights)
        model = Graph(weights, frame).model(blocks)
        ours = Ours(program, folder, str(inputs))
        engines = [ours, OnnxRuntime(model, frame, planes, globals_)]
        try:
            engines.append(PyTorch(Path(folder, "weights"), frame, planes, globals_))
        except ImportError as error:
            print(f"PyTorch is not measured: {error}", file=sys.stderr)
        expected = ours.outputs(8)
        for engine in engines[1:]:
            differ = max(float(numpy.abs(a - b).max()) for a, b in zip(engine.outputs(8), expected))
            if differ > TOLERANCE:
                sys.exit(f"{configuration} {shape}: {engine.name} differs from ours by {differ}")
        for batch in BATCHES:
            rates = {engine.name: [] for engine in engines}
            for _ in range(rounds):
                for engine in engines:
                    rates[engine.name].append(engine.rate(batch, seconds))
            medians = {name: statistics.median(values) for name, values in rates.items()}
            best = max(rate for name, rate in medians.items() if name != "ours")
            yield {"configuration": configuration, "shape": shape, "batch": batch, **medians, "ratio": medians["ours"] / best}
        for engine in engines:
            engine.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the example `measured`, built for release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per engine, batch and round")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--configurations", nargs="+", default=["hex8_2p", "square8_2p"])
    parser.add_argument("--shapes", nargs="+", default=["tiny", "parity"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    lines = []
    for configuration in args.configurations:
        for shape in args.shapes:
            for line in measure(args.program, configuration, shape, args.rounds, args.seconds):
                lines.append(line)
                texts = [f"{name} {rate:.0f}" for name, rate in line.items() if isinstance(rate, float) and name != "ratio"]
                print(f"{configuration} {shape} batch {line['batch']}: {', '.join(texts)} per processor second; ratio {line['ratio']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
