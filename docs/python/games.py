#!/usr/bin/env python3
"""Reads an archive of games (`riftmesh data export`) with nothing but Python's standard library.

With numpy it is one line, `numpy.load("games.npz", allow_pickle=False)`; this file is for machines without it, shows
what lies in the bytes, and checks the archive's own list of checksums.

    python3 docs/python/games.py games.npz      prints a summary as JSON; exit code 1 and a reason if something is wrong
"""

import array
import ast
import json
import struct
import sys
import zipfile
import zlib

MAGIC = b"\x93NUMPY\x01\x00"
# numpy's name of a type: the type code of the `array` module.
CODES = {"<f4": "f", "|u1": "B", "<u4": "I", "<u8": "Q"}


def read_array(data):
    """(dtype, shape, numbers) of the bytes of an .npy file; texts come as a list of str."""
    if data[:8] != MAGIC:
        raise ValueError("not an .npy array of version 1.0")
    (length,) = struct.unpack("<H", data[8:10])
    head = ast.literal_eval(data[10 : 10 + length].decode("latin1"))
    if head["fortran_order"]:
        raise ValueError("column-major arrays are never written")
    body, dtype = data[10 + length :], head["descr"]
    if dtype.startswith("|S"):
        width = int(dtype[2:])
        texts = [body[at : at + width] for at in range(0, len(body), width)]
        return dtype, head["shape"], [text.rstrip(b"\0").decode("ascii") for text in texts]
    numbers = array.array(CODES[dtype])
    numbers.frombytes(body)
    if sys.byteorder == "big":
        numbers.byteswap()
    return dtype, head["shape"], numbers


def read(path):
    """({name: (shape, numbers)}, description); every array is checked against the list in the archive."""
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("manifest.json"))
        arrays = {}
        for entry in listed["arrays"]:
            name = entry["name"]
            data = archive.read(name + ".npy")
            (length,) = struct.unpack("<H", data[8:10])
            dtype, shape, numbers = read_array(data)
            found = (dtype, list(shape), zlib.crc32(data[10 + length :]))
            if found != (entry["dtype"], entry["shape"], entry["crc32"]):
                raise ValueError(f"array {name} is {found}, the list says {entry}")
            arrays[name] = (tuple(shape), numbers)
        return arrays, listed


def summary(path):
    """What a reader most likely wants to know first, checked while it is counted."""
    arrays, listed = read(path)
    starts = arrays["policy_start"][1]
    probabilities = arrays["policy_probability"][1]
    for row, (first, end) in enumerate(zip(starts, starts[1:])):
        total = sum(probabilities[first:end])
        if abs(total - 1.0) > 1e-3:
            raise ValueError(f"the policy of row {row} sums to {total}")
    winners = list(arrays["game_winner"][1])
    return {
        "configuration": listed["configuration"],
        "games": len(winners),
        "rows": arrays["planes"][0][0],
        "planes": list(arrays["planes"][0]),
        "moves": len(arrays["moves"][1]),
        "first_moves": arrays["moves"][1][:3],
        "decisions": len(arrays["decision_action"][1]),
        "wins": [winners.count(seat) for seat in range(listed["players"])],
        "planes_sum": round(sum(arrays["planes"][1])),
        "value_sum": sum(arrays["value"][1]),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(json.dumps(summary(sys.argv[1])))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
