# SPDX-License-Identifier: LGPL-2.1-or-later
"""State files of leases, as another hand would write them: broker/lease-record.h says what is in them."""

import json
import pathlib

DIRECTORY = "run/spe-broker/leases"


def paths(root):
    """Those below a daemon's root, by lease id; what has been set aside is not among them."""
    return {p.name: p for p in pathlib.Path(root, DIRECTORY).iterdir() if "." not in p.name}


def read(path):
    return json.loads(pathlib.Path(path).read_bytes())


def text_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\x7f", "\\u007f")


def sum_of(record):
    """What the file's member "sum" has to be."""
    summed = {"bootId": record["bootId"], "leaseId": record["lease"]["leaseId"]}
    summed |= {name: record[name] for name in ("request", "owner", "state")}
    value = 0xCBF29CE484222325
    for byte in text_of(summed).encode():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return f"{value:016x}"


def write(path, record, seal=True):
    """Writes it whole; with its sum, so that it is believed."""
    if seal:
        record = record | {"sum": sum_of(record)}
    pathlib.Path(path).write_text(text_of(record) + "\n")
