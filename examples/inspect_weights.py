"""Look inside: integer mantissas and scales, their real values, the same net computed in floats, and back again."""

import sys

import numpy as np

import tintin
from tintin import Flatten, Linear, ReLU

data = tintin.datasets.load("digits")
net = tintin.Sequential([Flatten(), Linear(32, bias=True), ReLU(), Linear(10, bias=True)], input_shape=(8, 8, 1))
net.fit(data.x_train, data.y_train, epochs=2 if "--quick" in sys.argv else 10, batch_size=16)

# A real value is mantissa * 2^s * (4/5)^u * (4/3)^d, with one scale (s, u, d) for a whole tensor.
real = {}
for tensor in net.tensors():
    s, u, d = tensor["scale"]
    values = tensor["mantissas"] * 2.0**s * 0.8**u * (4 / 3) ** d
    real[tensor["layer"], tensor["bias"]] = values
    name = f"layer {tensor['layer']} {'bias' if tensor['bias'] else 'weights'}"
    span = f"{tensor['mantissas'].min()} to {tensor['mantissas'].max()}"
    print(
        f"{name:<16} {values.shape!s:<10} mantissas {span:<12} scale {tensor['scale']!s:<12} {np.abs(values).max():.3f}"
    )

# The same net in floats, with weights from above: only the 8-bit activations in between differ.
x = (data.x_test >> 1).reshape(len(data.x_test), -1) / 128
hidden = np.maximum(x @ real[1, False].T + real[1, True], 0)
floats = hidden @ real[3, False].T + real[3, True]
integers = net.logits(data.x_test)
same = (floats.argmax(axis=1) == net.predict(data.x_test)).mean()
print(f"\nfloat and integer outputs differ by {np.abs(floats - integers).mean():.3f} on average")
print(f"and name the same digit for {same:.1%} of the test samples")

# And back: the largest weights alone, the others set to zero, in a copy of the net.
pruned = tintin.Sequential.from_bytes(net.to_bytes())
for tensor in net.tensors():
    q = tensor["mantissas"]
    small = np.abs(q.astype(int)) < np.quantile(np.abs(q.astype(int)), 0.5)
    pruned.set_tensor(tensor["layer"], np.where(small, 0, q).astype(np.int8), tensor["scale"], bias=tensor["bias"])
print(f"\n{net.score(data.x_test, data.y_test):.1%} right with all weights,", end=" ")
print(f"{pruned.score(data.x_test, data.y_test):.1%} without the smaller half")
