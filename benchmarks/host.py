"""tintin against every float32 framework that is installed, on this CPU: the same nets, data, batches and threads.

    make bench-host                      # everything, which takes an hour or two
    make bench-host HOST=--quick         # minutes: LeNet-5 at batch 1 and 64 on one thread
    .venv/bin/python benchmarks/host.py --float-python target/floatenv/bin/python --nets lenet5 --batches 64 \\
        --threads 1 2 --sections epoch scaling --json host.json

Every engine (host_engines.py: what "the fastest of a framework" is taken from) runs in a process of its own, pinned to
as many cores as it may have threads. All stay alive, and this script lets them work in turn, one at a time: a round is
one training epoch over `images`. The first round, with compilation, is the warm-up and not in the median; an engine
that is then more than twice as slow as the best of its framework runs no further rounds. Rounds of a part of the
data are scaled to 60,000 images, and the tables say so.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from host_engines import FRAMEWORKS, MODULES, engines_of, layers_of, weight_shapes

import tintin

EPOCH = 60_000
NETS = {"lenet5": "LeNet-5", "mlp": "MLP 784-200-100-10", "vgg": "small VGG"}
SECTIONS = ("epoch", "inference", "memory", "startup", "scaling")
WIDTHS = {"mlp": (0.5, 1, 2, 4), "vgg": (0.5, 1, 2)}
#: images of a round by least batch size, so that it takes the slower engines seconds, not minutes
IMAGES = {
    "lenet5": {1: 3_000, 16: 16_000, 64: EPOCH},
    "mlp": {1: 6_000, 16: 32_000, 64: EPOCH},
    "vgg": {1: 500, 16: 2_000, 64: 5_120},
}
QUICK = {"nets": ["lenet5"], "batches": [1, 64], "threads": [1], "rounds": 3, "limit": 6_400}
HOPELESS = 2
MEBIBYTE = 2**20


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Worker:
    """A process with one engine."""

    def __init__(self, python, case):
        self.case, self.seconds, self.predictions = case, [], {}
        self.alive, self.memory = True, {}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `stop`)
        script = Path(__file__).with_name("host_engines.py")
        command = [python, str(script), json.dumps(case)]
        # The process stays in this one's group: Ctrl-C stops all.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.told = self.answer()

    @property
    def name(self):
        return f"{self.case['framework']} {self.case['engine']}"

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"{self.name}: exit code {self.process.returncode}, {last[0][:300]}")
        return json.loads(line)

    def ask(self, command):
        print(command, file=self.process.stdin, flush=True)
        return self.answer()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()


class Bench:
    """Runs cases and keeps what they measured."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.results, self.failures, self.startup = [], [], {}
        self.pythons = {"tintin": sys.executable} | dict.fromkeys(list(FRAMEWORKS)[1:], options.float_python)

    def images(self, net, batch):
        usual = next(count for least, count in reversed(IMAGES[net].items()) if least <= batch)
        return min(usual, self.options.limit or usual)

    def workers(self, net, batch, threads, width, engines):
        """The processes of a case, each ready; what cannot start is reported and left out."""
        images = self.images(net, batch)
        for framework in self.options.frameworks:
            for engine in engines.get(framework) or engines_of(framework, net):
                case = {"framework": framework, "engine": engine, "net": net, "batch": batch, "threads": threads}
                case |= {"width": width, "images": images, "tests": min(images, 10_000)}
                case |= {"layers": layers_of(net, width), "data": str(self.folder)}
                try:
                    yield Worker(self.pythons[framework], case)
                except RuntimeError as error:
                    self.fail(error)

    def ask(self, worker, command):
        """The answer, or None from a process that has failed."""
        try:
            return worker.ask(command) if worker.alive else None
        except (RuntimeError, OSError) as error:
            worker.alive = False
            self.fail(error)
            return None

    def fail(self, error):
        self.failures.append(str(error))
        say(f"failed: {error}")

    def turns(self, workers, command, keep):
        """Rounds of one command, in turn; `keep` gives a worker's list."""
        running = list(workers)
        for number in range(self.options.rounds + 1):
            for worker in running:
                seconds = self.ask(worker, command)
                if seconds is not None:
                    keep(worker).append(seconds)
            running = [worker for worker in running if worker.alive]
            if number == 1:
                best = {}
                for worker in running:
                    framework = worker.case["framework"]
                    best[framework] = min(keep(worker)[1], best.get(framework, float("inf")))
                running = [w for w in running if keep(w)[1] <= HOPELESS * best[w.case["framework"]]]

    def case(self, net, batch, threads, width=1, engines=None, sections=("epoch",)):
        """One net, batch size and number of threads with all engines (or the given ones)."""
        say(
            f"{NETS[net]} width {width}, batch {batch}, {threads} thread(s), {self.images(net, batch):,} images a round"
        )
        workers = []
        try:
            workers += self.workers(net, batch, threads, width, engines or {})
            self.turns(workers, "train", lambda worker: worker.seconds)
            for worker in workers:
                worker.memory = self.ask(worker, "memory")
            if "inference" in sections:
                self.turns(workers, "predict", lambda worker: worker.predictions.setdefault("predict", []))
                own = [worker for worker in workers if worker.case["framework"] == "tintin"]
                self.turns(own, "predict_at_once", lambda worker: worker.predictions.setdefault("predict_at_once", []))
            for worker in workers:
                if len(worker.seconds) > 1:
                    case = {key: value for key, value in worker.case.items() if key not in ("data", "layers")}
                    measured = {"seconds": worker.seconds, "predictions": worker.predictions, "memory": worker.memory}
                    self.results.append(case | worker.told | measured | {"right": self.ask(worker, "check")})
                    say(f"    {worker.name}: {median(worker.seconds):.3f} s a round")
        finally:
            for worker in workers:
                worker.stop()
        self.save()

    def of(self, **wanted):
        """The results with these values."""
        return [r for r in self.results if all(r[key] == value for key, value in wanted.items())]

    def time_imports(self):
        """Seconds of `python -c "import X"`, of all in turn."""
        own = {"numpy in tintin's Python": (sys.executable, "numpy"), "tintin": (sys.executable, "tintin")}
        theirs = {"numpy in the frameworks' Python": (self.options.float_python, "numpy")}
        theirs |= {name: (self.pythons[name], MODULES[name]) for name in self.options.frameworks if name != "tintin"}
        commands = own | (theirs if len(theirs) > 1 else {})
        say("start-up times")
        for number in range(self.options.rounds + 3):
            for name, (python, module) in commands.items():
                environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
                start = time.perf_counter()
                command = [python, "-I", "-c", f"import {module}"]
                subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
                seconds = time.perf_counter() - start
                if number:  # the first one fills the file cache
                    self.startup.setdefault(name, []).append(seconds)
        self.save()

    def save(self):
        if self.options.json:
            raw = {"machine": machine(), "command": command_line(), "startup": self.startup, "results": self.results}
            text = json.dumps(raw | {"failures": self.failures}, indent=1)
            self.options.json.write_text(text + "\n", encoding="utf-8")


def median(seconds):
    """Without the warm-up."""
    return statistics.median(seconds[1:])


def machine():
    lines = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tintin": tintin.__version__,
        "kernels": tintin.kernels(),
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def command_line():
    return " ".join(["python", *sys.argv])


def table(header, body):
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for row in body:
        print(f"| {' | '.join(row)} |")
    print()


def span(seconds, scale=1.0, digits=2):
    """Smallest to largest, without the warm-up."""
    return f"{scale * min(seconds[1:]):.{digits}f} to {scale * max(seconds[1:]):.{digits}f}"


def fastest(results, seconds=lambda result: result["seconds"]):
    """The quickest result of each framework."""
    best = {}
    for result in results:
        known = best.get(result["framework"])
        if known is None or median(seconds(result)) < median(seconds(known)):
            best[result["framework"]] = result
    return best


def cases(bench):
    """Results by (net, batch, threads) at width 1, in the order they were measured."""
    found = {}
    for result in bench.of(width=1):
        found.setdefault((result["net"], result["batch"], result["threads"]), []).append(result)
    return found


def print_epochs(bench):
    print("## Epoch\n\nSeconds per epoch of 60,000 images, medians; the last column compares the quickest rounds.\n")
    summary, details = [], []
    for (net, batch, threads), results in cases(bench).items():
        images = results[0]["images"]
        scale, name = EPOCH / images, f"{NETS[net]}, batch {batch}, {threads} thread(s)"
        best = fastest(results)
        mine = scale * median(best["tintin"]["seconds"]) if "tintin" in best else None
        others = [result for framework, result in best.items() if framework != "tintin"]
        if mine and others:
            other = min(others, key=lambda result: median(result["seconds"]))
            theirs = scale * median(other["seconds"])
            least = min(min(r["seconds"][1:]) for r in results if r["framework"] != "tintin")
            quickest = least / min(best["tintin"]["seconds"][1:])
            row = [name, f"{mine:.2f}", f"{other['framework']} {other['engine']}", f"{theirs:.2f}"]
            summary.append([*row, f"{theirs / mine:.2f}", f"{quickest:.2f}"])
        body = []
        for result in results:
            seconds = result["seconds"]
            middle = scale * median(seconds)
            row = [f"{result['framework']} {result['engine']}", f"{middle:.2f}", span(seconds, scale)]
            row += [str(len(seconds) - 1), f"{seconds[0]:.1f}"]
            against = f"{middle / mine:.2f}" if mine and result["framework"] != "tintin" else ""
            right = "" if result["right"] is None else f"{100 * result['right']:.0f}"
            body.append([*row, against, right])
        part = "" if images == EPOCH else f"; rounds of {images:,} images, times 60,000/{images:,}"
        details.append((f"{name}{part}:\n", body))
    table(("", "tintin", "fastest other", "seconds", "other / tintin", "quickest rounds"), summary)
    for title, body in details:
        print(title)
        table(("engine", "median", "min to max", "rounds", "warm-up, s", "/ tintin", "right, %"), body)
    print("Warm-up: the first round as it was, with compilation; in no median.")
    print("Right: of 1,000 training images at the end, to see that it learnt.\n")


def print_inference(bench):
    print("## Inference\n\nImages per second; tintin in calls of the batch size and in one call for all.\n")
    body = []
    for (net, batch, threads), results in cases(bench).items():
        rates, mine = [], 0.0
        results = [result for result in results if len(result["predictions"].get("predict", [])) > 1]
        for name, result in fastest(results, lambda r: r["predictions"]["predict"]).items():
            for how, seconds in result["predictions"].items():
                label = "tintin, one call" if how == "predict_at_once" else f"{name} {result['engine']}"
                rate = result["tests"] / median(seconds)
                rates.append((label.replace(" fit", ", calls"), rate, result["tests"], seconds))
                mine = max(mine, rate if name == "tintin" else 0.0)
        for label, rate, tests, seconds in rates:
            spread = f"{tests / max(seconds[1:]):,.0f} to {tests / min(seconds[1:]):,.0f}"
            against = "" if label.startswith("tintin") else f"{mine / rate:.2f}"
            row = [f"{NETS[net]}, batch {batch}, {threads} thread(s)", label]
            body.append([*row, f"{rate:,.0f}", spread, against])
    table(("net", "engine", "images/s, median", "min to max", "tintin / it"), body)


def print_memory(bench):
    print(
        "## Memory\n\nResident MiB: after the import; what loading the data then adds, in the engine's own form; what\n"
        "training adds at its peak beyond both. The data are as many images as a round has.\n"
    )
    body = []
    for (net, batch, threads), results in cases(bench).items():
        for name, result in fastest(results).items():
            if result["after_import"] is None or not result["memory"]:
                continue
            imported, loaded, peak = result["after_import"], result["after_data"], result["memory"]["peak"]
            sizes = (imported, loaded - imported, peak - loaded, peak)
            row = [f"{NETS[net]}, batch {batch}, {threads} thread(s), {result['images']:,} images"]
            body.append([*row, f"{name} {result['engine']}", *(f"{size / MEBIBYTE:.1f}" for size in sizes)])
    table(("net", "engine", "import", "+ data", "+ training", "peak"), body)


def print_startup(bench):
    print('## Start-up\n\nSeconds of `python -I -c "import …"`, and beyond importing numpy in the same Python.\n')
    times, body = bench.startup, []
    for name, seconds in times.items():
        base = "numpy in tintin's Python" if name == "tintin" else "numpy in the frameworks' Python"
        middle = statistics.median(seconds)
        beyond = "" if name.startswith("numpy") else f"{middle - statistics.median(times[base]):.3f}"
        body.append([name, f"{middle:.3f}", f"{min(seconds):.3f} to {max(seconds):.3f}", beyond])
    table(("import", "median", "min to max", "beyond numpy"), body)


def print_growth(title, groups, label):
    """Microseconds per image of the fastest engine of each framework, and against the first of the group."""
    body = []
    for name, results_by_value in groups.items():
        if len(results_by_value) < 2:
            continue
        first = {}
        for value, results in results_by_value.items():
            for framework, result in fastest(results).items():
                each = 1e6 * median(result["seconds"]) / result["images"]
                first.setdefault(framework, each)
                row = [name, label.format(value), f"{framework} {result['engine']}"]
                body.append([*row, f"{each:,.1f}", f"{each / first[framework]:.2f}", f"{first[framework] / each:.2f}"])
    if body:
        print(f"{title}\n")
        table(("net", "", "engine", "µs per image", "time, relative", "speed, relative"), body)


def print_scaling(bench):
    print("## Scaling\n\nThe fastest engine of each framework; relative to the first line of each.\n")
    batches, threads_of, widths = {}, {}, {}
    for (net, batch, threads), results in cases(bench).items():
        batches.setdefault(f"{NETS[net]}, {threads} thread(s)", {})[batch] = results
        threads_of.setdefault(f"{NETS[net]}, batch {batch}", {})[threads] = results
    threads, batch = bench.options.threads[0], bench.width_batch
    for net in bench.options.nets:
        for width in WIDTHS.get(net, ()):
            found = bench.of(net=net, batch=batch, threads=threads, width=width)
            count = sum(int(np.prod(shape)) for shape in weight_shapes(layers_of(net, width)))
            if found:
                widths.setdefault(f"{NETS[net]}, batch {batch}", {})[f"{width} ({count:,} weights)"] = found
    print_growth("By batch size:", batches, "batch {}")
    print_growth("By threads:", threads_of, "{} thread(s)")
    print_growth(f"By width of the layers, {threads} thread(s):", widths, "width × {}")


def installed(python, frameworks):
    """Those of the frameworks that this Python has."""
    names = {name: MODULES[name] for name in frameworks if name != "tintin"}
    code = f"import importlib.util as u; print([n for n, m in {names!r}.items() if u.find_spec(m)])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return [name for name in frameworks if name == "tintin" or repr(name) in found]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after the warm-up")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N images a round; times are scaled to 60,000")
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--float-python", default=sys.executable, help="Python with the frameworks (requirements.txt)")
    parser.add_argument("--quick", action="store_true", help=f"minutes instead of hours: {QUICK}")
    parser.add_argument("--json", type=Path, help="write every single time to this file as well")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.frameworks = installed(options.float_python, options.frameworks)
    return options


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        data = tintin.datasets.load("mnist")
        for name in ("x_train", "y_train", "x_test", "y_test"):
            np.save(Path(folder) / f"{name}.npy", getattr(data, name))
        bench = Bench(options, folder)
        bench.width_batch = 64 if 64 in options.batches else options.batches[0]
        if "startup" in options.sections:
            bench.time_imports()
        if set(options.sections) - {"startup"}:
            for net in options.nets:
                for batch in options.batches:
                    for threads in options.threads:
                        bench.case(net, batch, threads, sections=options.sections)
        if "scaling" in options.sections:
            for net in options.nets:
                at = {"net": net, "batch": bench.width_batch, "threads": options.threads[0]}
                engines = {name: [best["engine"]] for name, best in fastest(bench.of(**at, width=1)).items()}
                for width in WIDTHS.get(net, ()):
                    if width != 1:
                        bench.case(**at, width=width, engines=engines)
        report(bench)


def report(bench):
    about = machine()
    print("# tintin and float32 frameworks on a CPU\n")
    print(f"{about['cpu']}, {about['cores']} core(s), {about['system']}, {about['date']}; kernels {about['kernels']};")
    print(f"load average {about['load']:.1f} in the end, of which 1 is this script's." if about["load"] else "")
    versions = {result["framework"]: result["version"] for result in bench.results} | {"numpy": about["numpy"]}
    print(f"Python {about['python']}, {', '.join(f'{name} {version}' for name, version in versions.items())}.")
    print(f"Command: `{command_line()}`\n")
    for net in bench.options.nets:
        count = sum(int(np.prod(shape)) for shape in weight_shapes(layers_of(net)))
        print(f"- {NETS[net]}: {count:,} weights, no biases; MNIST, 28 × 28 × 1")
    print()
    sections = {"epoch": print_epochs, "inference": print_inference, "memory": print_memory}
    sections |= {"startup": print_startup, "scaling": print_scaling}
    for name, section in sections.items():
        if name in bench.options.sections:
            section(bench)
    for failure in bench.failures:
        print(f"- failed: {failure}")


if __name__ == "__main__":
    main()
