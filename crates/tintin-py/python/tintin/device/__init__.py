"""Nets on microcontrollers: the client of a runner, emulated cores, and step-by-step comparison (`tintin verify`).

from tintin import device, models

net = models.lenet5()
given = device.random_samples(net, "cross_entropy", seed=0)
with device.Emulator("m4") as runner:
    print(device.compare(runner, net, given, device.recipe_of(net, 1), steps=100).equal)
"""

from .emulator import CORES, Core, Emulator, NotInstalled, Process
from .runner import DoesNotFit, Hello, LinkError, Loaded, Refused, Runner, Stepped, Stream
from .tasks import POLICIES, OnDevice, adapt, task
from .verify import (
    Difference,
    Outcome,
    Samples,
    choose_samples,
    compare,
    data_samples,
    default,
    random_samples,
    recipe_of,
    samples,
)

__all__ = [
    "CORES",
    "POLICIES",
    "Core",
    "Difference",
    "DoesNotFit",
    "Emulator",
    "Hello",
    "LinkError",
    "Loaded",
    "NotInstalled",
    "OnDevice",
    "Outcome",
    "Process",
    "Refused",
    "Runner",
    "Samples",
    "Stepped",
    "Stream",
    "adapt",
    "choose_samples",
    "compare",
    "data_samples",
    "default",
    "random_samples",
    "recipe_of",
    "samples",
    "task",
]
