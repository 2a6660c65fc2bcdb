"""Write scikit-learn's handwritten digits for firmware: target/firmware/digits.bin, or the file named.

`TDIG`, number of training and of test samples (u16, little-endian), then 64 pixels 0..16 and the class of each sample:
what `crates/tintin-mcu/src/apps/digits.rs` reads. The split is that of `tintin.datasets.load("digits")`. The same file
comes out every time. `make firmware-data` runs this with the Python that has scikit-learn.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np

import tintin
from tintin._files import write_atomically

DEFAULT = Path(__file__).resolve().parent.parent / "target" / "firmware" / "digits.bin"


def pack(data: tintin.datasets.Dataset) -> bytes:
    """All samples as bytes; pixels of the data set are 0..255 for 0..16."""
    parts = [b"TDIG", struct.pack("<HH", len(data.x_train), len(data.x_test))]
    for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        pixels = (images.reshape(len(images), -1).astype(np.int64) * 16 + 254) // 255
        parts.append(np.column_stack([pixels, labels]).astype(np.uint8).tobytes())
    return b"".join(parts)


def main() -> None:
    """Write the file named on the command line, or the default one."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = pack(tintin.datasets.load("digits"))
    write_atomically(path, lambda stream: stream.write(packed))
    print(f"firmware-data: {path.name}, {len(packed)} bytes")


if __name__ == "__main__":
    main()
