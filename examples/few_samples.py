"""A few samples: pre-train on six digits at home, then learn the four others on the device, from five samples each."""

import sys

import numpy as np

import tintin

QUICK = "--quick" in sys.argv
NEW = (6, 7, 8, 9)
SHOTS = 5
TASKS = 2 if QUICK else 10  # support sets, drawn anew
EPISODES = 100 if QUICK else 1500
STEPS = 5 if QUICK else 40

data = tintin.datasets.load("digits")
known = ~np.isin(data.y_train, NEW)
test = np.isin(data.y_test, NEW)
x_test, y_test = data.x_test[test], data.y_test[test]

# At home: the net ends in 32 features, and learns to bring samples of one class near to each other.
net = tintin.zoo.resnet8((8, 8, 1), outputs=None, width=8)
history = net.fit_episodes(data.x_train[known], data.y_train[known], EPISODES, shift=1, progress=False)
before = net.digest()
print(f"pre-trained on the digits 0 to 5: {history['accuracy'][-1]:.1%} of the queries right, {before:#018x}\n")

rng = np.random.default_rng(0)
of_class = [np.flatnonzero(data.y_train == digit) for digit in NEW]
tasks = [np.concatenate([rng.choice(members, SHOTS, replace=False) for members in of_class]) for _ in range(TASKS)]

ways = {
    "none": {"policy": "none"},
    "last_layer": {"policy": "last_layer", "steps": STEPS},
    "full": {"policy": "full", "steps": STEPS},
    "tinytrain": {"policy": "tinytrain", "steps": STEPS, "memory_budget": 32 * 1024},
}
print(f"{'learns':<12}{'accuracy':>9}{'± std':>7}{'RAM':>10}{'products':>10}  digest of the first task")
for name, settings in ways.items():
    found = [net.adapt(data.x_train[task], data.y_train[task], **settings) for task in tasks]
    accuracy = [adapted.score(x_test, y_test) for adapted in found]
    ram, share = max(a.memory for a in found), max(a.products / a.full_products for a in found)
    if name == "none":
        assert all(adapted.net.digest() == before for adapted in found)
    print(
        f"{name:<12}{np.mean(accuracy):>9.1%}{np.std(accuracy):>7.1%}{ram:>10,}{share:>10.3f}  "
        f"{found[0].net.digest():#018x}"
    )
print("\nRAM in bytes of the plan, batch 5 (none: of inference); products of a backward pass, 1 for all of the net.")
