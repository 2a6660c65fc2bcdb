"""Worker of host.py: one engine with one net, batch size and number of threads. Not run by hand.

Takes its case as JSON on the command line, then a command per line of standard input, and answers each with a line of
JSON. It is pinned to its cores before any framework is imported, because they size their thread pools by them.

Every engine is written for speed on a CPU: the data are in memory in the framework's own form, batches are gathered
from a fresh permutation every epoch, nothing is logged, and no loss is brought back to Python. Nets have no biases.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

CLASSES = 10
SIDE = 28


def layers_of(net, width=1.0):
    """The layers as lists: conv (in, out, kernel, padding), linear (in, out), relu, pool (2 x 2), flatten."""

    def wide(units):
        return max(1, round(units * width))

    if net == "lenet5":
        plan = [("conv", wide(6), 5, 2), ("pool",), ("conv", wide(16), 5, 0), ("pool",), ("flatten",)]
        plan += [("linear", wide(120)), ("linear", wide(84))]
    elif net == "mlp":
        plan = [("flatten",), ("linear", wide(200)), ("linear", wide(100))]
    elif net == "vgg":
        blocks = [(("conv", wide(units), 3, 1), ("conv", wide(units), 3, 1), ("pool",)) for units in (16, 32, 64)]
        plan = [layer for block in blocks for layer in block] + [("flatten",), ("linear", wide(64))]
    else:
        raise ValueError(f"no net {net!r}")
    layers, side, channels = [], SIDE, 1
    for kind, *sizes in [*plan, ("linear", CLASSES)]:
        layers.append([kind, channels, *sizes] if sizes else [kind])
        if kind == "pool":
            side //= 2
        elif kind == "flatten":
            side, channels = 1, side * side * channels
        else:
            layers.append(["relu"])
            channels = sizes[0]
        if kind == "conv":
            side += 2 * sizes[2] - sizes[1] + 1
    return layers[:-1]


def weight_shapes(layers):
    """(kernel, kernel, in, out) of convolutions, (in, out) of dense layers."""
    return [
        (sizes[2], sizes[2], *sizes[:2]) if kind == "conv" else tuple(sizes)
        for kind, *sizes in layers
        if kind in ("conv", "linear")
    ]


def initial_weights(layers):
    """He's uniform weights, the same for every framework."""
    rng = np.random.default_rng(0)
    bounds = [(shape, (6 / np.prod(shape[:-1])) ** 0.5) for shape in weight_shapes(layers)]
    return [rng.uniform(-bound, bound, shape).astype(np.float32) for shape, bound in bounds]


def learning_rate(batch):
    """A rate at which every net learns: what is timed is a training, and no number runs away."""
    return 0.01 if batch == 1 else 0.05


def rows(order, size):
    """The order of an epoch as full batches and the shorter rest."""
    full = len(order) // size * size
    return order[:full].reshape(-1, size), order[full:]


def cut(images, size):
    """The images as full batches and the shorter rest."""
    full = len(images) // size * size
    return [images[at : at + size] for at in range(0, full, size)], images[full:]


class Tintin:
    """The public interface. `predict` takes the samples one by one whatever it is called with."""

    def __init__(self, case, images, labels):
        import tintin

        self.version, self.case, self.images, self.labels = tintin.__version__, case, images, labels
        made = {
            "conv": lambda _, units, kernel, padding: tintin.Conv2d(units, kernel_size=kernel, padding=padding),
            "linear": lambda _, units: tintin.Linear(units),
            "relu": tintin.ReLU,
            "pool": lambda: tintin.MaxPool2d(2),
            "flatten": tintin.Flatten,
        }
        layers = [made[kind](*sizes) for kind, *sizes in case["layers"]]
        self.net = tintin.Sequential(layers, input_shape=(SIDE, SIDE, 1))

    def train(self):
        self.net.fit(self.images, self.labels, 1, self.case["batch"], progress=False)

    def inputs(self, images):
        return images

    def predict(self, images):
        batches, rest = cut(images, self.case["batch"])
        return np.concatenate([self.net.predict(part) for part in [*batches, rest] if len(part)])

    def predict_at_once(self, images):
        return self.net.predict(images)


class Torch:
    """PyTorch. Plain functions and an update by hand spare the overhead of modules and optimizer objects.

    eager: autograd; compile: gradients and update as one graph by torch.compile, called from C++; predictions with
    frozen weights. native: PyTorch's own convolutions, better for single images; onednn: oneDNN, channels last.
    """

    def __init__(self, case, images, labels):
        import torch

        self.version, self.torch, self.case = torch.__version__, torch, case
        self.compiled, self.onednn = "compile" in case["engine"], "native" not in case["engine"]
        torch.set_num_threads(case["threads"])
        torch.set_num_interop_threads(1)
        torch.backends.mkldnn.set_flags(self.onednn)
        torch.manual_seed(0)
        self.order = torch.channels_last if self.onednn else torch.contiguous_format
        self.images, self.labels = self.inputs(images), torch.from_numpy(labels.astype(np.int64))
        self.rate = learning_rate(case["batch"])
        self.weights = [self.weight(weight) for weight in initial_weights(case["layers"])]
        self.train_step, self.forward_frozen = self.step, None
        if self.compiled:
            torch._inductor.config.cpp_wrapper = True
            self.train_step = torch.compile(self.functional_step, dynamic=False, fullgraph=True)

    def weight(self, values):
        values = self.torch.from_numpy(values)
        values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.t()
        # asked for here: contiguous() would leave a kernel of one channel in the slower of two orders that are the same
        order = self.order if values.ndim == 4 else self.torch.contiguous_format
        made = self.torch.empty(values.shape, memory_format=order).copy_(values)
        return made if self.compiled else made.requires_grad_()

    def inputs(self, images):
        return self.torch.from_numpy(images).float().div_(255)[:, None].contiguous(memory_format=self.order)

    def forward(self, weights, x):
        functional, weights = self.torch.nn.functional, iter(weights)
        for kind, *sizes in self.case["layers"]:
            if kind == "conv":
                x = functional.conv2d(x, next(weights), padding=sizes[3])
            elif kind == "linear":
                x = functional.linear(x, next(weights))
            elif kind == "relu":
                x = functional.relu(x)
            elif kind == "pool":
                x = functional.max_pool2d(x, 2)
            else:
                x = x.flatten(1)
        return x

    def loss(self, weights, x, y):
        return self.torch.nn.functional.cross_entropy(self.forward(weights, x), y)

    def step(self, weights, x, y):
        gradients = self.torch.autograd.grad(self.loss(weights, x, y), weights)
        with self.torch.no_grad():
            self.torch._foreach_add_(weights, gradients, alpha=-self.rate)

    def functional_step(self, weights, x, y):
        gradients = self.torch.func.grad(self.loss)(weights, x, y)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.add_(gradient, alpha=-self.rate)

    def train(self):
        batch = self.case["batch"]
        # gathered in blocks: one call for many small batches, and still warm in the cache
        block = -(-1024 // batch) * batch
        with self.torch.no_grad() if self.compiled else contextlib.nullcontext():
            for index in self.torch.randperm(len(self.images)).split(block):
                images, labels = self.images[index].split(batch), self.labels[index].split(batch)
                for x, y in zip(images, labels, strict=True):
                    self.train_step(self.weights, x, y)

    def frozen(self):
        """The net with its weights as constants, which the compiler may bring into the order it likes."""
        torch, forward = self.torch, self.forward

        class Net(torch.nn.Module):
            def __init__(self, weights):
                super().__init__()
                self.weights = torch.nn.ParameterList(weights)

            def forward(self, x):
                return forward(list(self.weights), x).argmax(1)

        torch._inductor.config.freezing = True
        return torch.compile(Net(self.weights).eval(), dynamic=False)

    def predict(self, images):
        torch = self.torch
        with torch.no_grad() if self.compiled else torch.inference_mode():
            if self.compiled:
                if self.forward_frozen is None:
                    self.forward_frozen = self.frozen()
                found = [self.forward_frozen(x) for x in images.split(self.case["batch"])]
            else:
                found = [self.forward(self.weights, x).argmax(1) for x in images.split(self.case["batch"])]
            return torch.cat(found).numpy()


class Jax:
    """JAX, channels last. step: one compiled step per batch; scan: the loop over the batches is compiled as well.

    patches: convolutions as products of patches cut from the map; without it XLA's own convolutions, which are slow
    inside a loop. Pooling is the maximum of a reshaped map: the gradient of reduce_window is slow on a CPU.
    """

    def __init__(self, case, images, labels):
        import jax
        import jax.numpy as jnp

        self.version, self.jax, self.jnp, self.case = jax.__version__, jax, jnp, case
        self.scanned, self.patches = "scan" in case["engine"], "patches" in case["engine"]
        self.images, self.labels = self.inputs(images), jnp.asarray(labels.astype(np.int32))
        self.weights = [jnp.asarray(weight) for weight in initial_weights(case["layers"])]
        self.rng = np.random.default_rng(1)
        rate = learning_rate(case["batch"])

        def loss(weights, x, y):
            logarithms = jax.nn.log_softmax(self.forward(weights, x))
            return -jnp.take_along_axis(logarithms, y[:, None], 1).mean()

        def step(weights, index, images, labels):
            # mode="clip" spares the check of indices that are valid anyway
            x, y = jnp.take(images, index, 0, mode="clip"), jnp.take(labels, index, 0, mode="clip")
            gradients = jax.grad(loss)(weights, x, y)
            return [weight - rate * gradient for weight, gradient in zip(weights, gradients, strict=True)]

        def epoch(weights, order, images, labels):
            return jax.lax.scan(lambda w, index: (step(w, index, images, labels), None), weights, order)[0]

        def classes(weights, x):
            return self.forward(weights, x).argmax(1)

        self.step, self.epoch = jax.jit(step, donate_argnums=0), jax.jit(epoch, donate_argnums=0)
        self.classes = jax.jit(classes)
        self.all_classes = jax.jit(lambda weights, batches: jax.lax.map(lambda x: classes(weights, x), batches))

    def inputs(self, images):
        return self.jnp.asarray(images[..., None].astype(np.float32) / np.float32(255))

    def convolution(self, x, w, padding):
        if not self.patches:
            around = [(padding, padding)] * 2
            names = ("NHWC", "HWIO", "NHWC")
            return self.jax.lax.conv_general_dilated(x, w, (1, 1), around, dimension_numbers=names)
        x = self.jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return cut_patches(self.jnp.concatenate, x, w.shape[0]) @ w.reshape(-1, w.shape[3])

    def forward(self, weights, x):
        weights = iter(weights)
        for kind, *sizes in self.case["layers"]:
            if kind == "conv":
                x = self.convolution(x, next(weights), sizes[3])
            elif kind == "linear":
                x = x @ next(weights)
            elif kind == "relu":
                x = self.jax.nn.relu(x)
            elif kind == "pool":
                x = windows(self.jnp.reshape, x).max((2, 4))
            else:
                x = x.reshape(len(x), -1)
        return x

    def train(self):
        order = self.rng.permutation(len(self.images)).astype(np.int32)
        full, rest = rows(order, self.case["batch"])
        if self.scanned:
            self.weights = self.epoch(self.weights, full, self.images, self.labels)
        else:
            for index in full:
                self.weights = self.step(self.weights, index, self.images, self.labels)
        if len(rest):
            self.weights = self.step(self.weights, rest, self.images, self.labels)
        self.jax.block_until_ready(self.weights)

    def predict(self, images):
        batches, rest = cut(images, self.case["batch"])
        if self.scanned:
            full = images[: len(images) - len(rest)].reshape(-1, self.case["batch"], *images.shape[1:])
            found = [self.all_classes(self.weights, full).reshape(-1)]
        else:
            found = [self.classes(self.weights, x) for x in batches]
        if len(rest):
            found.append(self.classes(self.weights, rest))
        return np.concatenate([np.asarray(part) for part in found])


class TensorFlow:
    """TensorFlow with oneDNN, channels last; the whole epoch is one tf.function.

    xla: compiled by XLA, with convolutions and pooling as in JAX's `patches`, because XLA's own are slow inside a loop.
    """

    def __init__(self, case, images, labels):
        import tensorflow as tf

        self.version, self.tf, self.case = tf.__version__, tf, case
        tf.config.threading.set_intra_op_parallelism_threads(case["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.xla = "xla" in case["engine"]
        self.images, self.labels = self.inputs(images), tf.constant(labels.astype(np.int32))
        self.weights = [tf.Variable(weight) for weight in initial_weights(case["layers"])]
        self.rng = np.random.default_rng(1)
        rate = learning_rate(case["batch"])

        def step(index):
            x, y = tf.gather(self.images, index), tf.gather(self.labels, index)
            with tf.GradientTape() as tape:
                found = self.forward(x)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, found))
            for weight, gradient in zip(self.weights, tape.gradient(loss, self.weights), strict=True):
                weight.assign_sub(rate * gradient)

        def epoch(order):
            for i in tf.range(tf.shape(order)[0]):
                step(order[i])

        def classes(x):
            return tf.argmax(self.forward(x), 1, output_type=tf.int32)

        def all_classes(batches):
            return tf.map_fn(classes, batches, fn_output_signature=tf.int32)

        functions = (step, epoch, classes, all_classes)
        self.step, self.epoch, self.classes, self.all_classes = (
            tf.function(function, jit_compile=self.xla) for function in functions
        )

    def inputs(self, images):
        return self.tf.constant(images[..., None].astype(np.float32) / np.float32(255))

    def convolution(self, x, w, padding):
        if not self.xla:
            return self.tf.nn.conv2d(x, w, 1, "SAME" if padding else "VALID")
        x = self.tf.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        patches = cut_patches(self.tf.concat, x, w.shape[0])
        return self.tf.tensordot(patches, self.tf.reshape(w, (-1, w.shape[3])), 1)

    def pool(self, x):
        if not self.xla:
            return self.tf.nn.max_pool2d(x, 2, 2, "VALID")
        return self.tf.reduce_max(windows(self.tf.reshape, x), (2, 4))

    def forward(self, x):
        weights = iter(self.weights)
        for kind, *sizes in self.case["layers"]:
            if kind == "conv":
                x = self.convolution(x, next(weights), sizes[3])
            elif kind == "linear":
                x = x @ next(weights)
            elif kind == "relu":
                x = self.tf.nn.relu(x)
            elif kind == "pool":
                x = self.pool(x)
            else:
                x = self.tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        return x

    def train(self):
        order = self.rng.permutation(len(self.images)).astype(np.int32)
        full, rest = rows(order, self.case["batch"])
        self.epoch(self.tf.constant(full))
        if len(rest):
            self.step(self.tf.constant(rest))
        self.weights[0].numpy()

    def predict(self, images):
        rest = len(images) % self.case["batch"]
        full = self.tf.reshape(images[: len(images) - rest], (-1, self.case["batch"], *images.shape[1:]))
        found = [np.asarray(self.all_classes(full)).reshape(-1)]
        if rest:
            found.append(np.asarray(self.classes(images[-rest:])))
        return np.concatenate(found)


def pin(threads):
    """Before any framework is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    settings = {"OMP_NUM_THREADS": str(threads), "TINTIN_NUM_THREADS": str(threads)}
    settings |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if threads == 1:
        # XLA takes its threads from the cores it sees; with one it should not hand work over at all
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ.update(settings)


def cut_patches(concatenate, x, kernel):
    """The patch at each place as one row."""
    height, width = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    places = [(i, j) for i in range(kernel) for j in range(kernel)]
    return concatenate([x[:, i : i + height, j : j + width] for i, j in places], 3)


def windows(reshape, x):
    """2 x 2 windows as axes 2 and 4; a last odd row or column falls away."""
    _, height, width, channels = x.shape
    height, width = height // 2, width // 2
    return reshape(x[:, : 2 * height, : 2 * width], (-1, height, 2, width, 2, channels))


FRAMEWORKS = {"tintin": Tintin, "PyTorch": Torch, "TensorFlow": TensorFlow, "JAX": Jax}
MODULES = {"tintin": "tintin", "PyTorch": "torch", "TensorFlow": "tensorflow", "JAX": "jax"}


def engines_of(framework, net):
    """What counts for a framework: the fastest of these. A net of dense layers has fewer."""
    if framework == "tintin":
        return ["fit"]
    if framework == "TensorFlow":
        return ["epoch", "epoch xla"]
    if framework == "PyTorch":
        convolutions = ("eager native", "eager onednn", "compile native", "compile onednn")
        return ["eager", "compile"] if net == "mlp" else list(convolutions)
    return ["step", "scan"] if net == "mlp" else ["step", "step patches", "scan patches"]


def memory(field):
    """VmRSS (now) or VmHWM (peak) of this process in bytes; None where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)


def forget_peak():
    """Makes the peak so far the present size, so that what loading took is not counted as the training's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def load(folder, name, limit):
    """A copy of the first part of an array, so that no more of the file is in memory."""
    return np.array(np.load(Path(folder) / f"{name}.npy", mmap_mode="r")[:limit])


def main():
    case = json.loads(sys.argv[1])
    # frameworks print what they like: answers go to a descriptor that they do not know
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    pin(case["threads"])
    __import__(MODULES[case["framework"]])
    told = {"after_import": memory("VmRSS")}
    images, labels = load(case["data"], "x_train", case["images"]), load(case["data"], "y_train", case["images"])
    engine = FRAMEWORKS[case["framework"]](case, images, labels)
    images, labels = images[:1000].copy(), labels[:1000].copy()  # an engine keeps what it needs
    told |= {"after_data": memory("VmRSS"), "version": engine.version}
    forget_peak()
    test = None

    def timed(function, *arguments):
        start = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - start

    def answer(command):
        nonlocal test
        if command == "train":
            return timed(engine.train)
        if command == "memory":
            return {"now": memory("VmRSS"), "peak": memory("VmHWM")}
        if command == "check":  # that it learnt: the share of training images it has right
            return float((engine.predict(engine.inputs(images)) == labels).mean())
        if test is None:
            test = engine.inputs(load(case["data"], "x_test", case["tests"]))
        return timed(getattr(engine, command), test)

    print(json.dumps(told), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
