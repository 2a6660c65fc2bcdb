"""Few-sample scenarios: what a net is pre-trained on, and episodes of classes, persons or domains it never saw.

Each scenario has base samples to pre-train on, validation episodes to choose settings by, and test episodes; no class
(or person, where the classes stay the same) is in two of them. An episode takes a group (an alphabet, a person), draws
`ways` of its classes, then `shots` samples of each to learn from and up to `queries` further ones to be classified.
Episode i of a part depends on nothing but the scenario's name, the part and i.

    TINTIN_DATA=... python benchmarks/fewshot_data.py                    # what there is, as a table

Arrays are what the engine takes: uint8, or int8 where values have a sign, height x width x channels.
"""

import argparse
import zlib
from dataclasses import dataclass, field

import numpy as np

from tintin import datasets

PARTS = ("validation", "test")
#: of episodes of various ways and shots; Meta-Dataset has 50, 100 and 500, for nets and sets of another size
MOST_WAYS, MOST_SHOTS, MOST_SUPPORT = 20, 10, 100


@dataclass(frozen=True, eq=False)
class Episode:
    """Samples to learn from and samples to be classified; labels count from 0 to ways - 1."""

    x_support: np.ndarray
    y_support: np.ndarray
    x_query: np.ndarray
    y_query: np.ndarray


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples that episodes are drawn from; `group` None: all are one."""

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray | None = None

    def cells(self, least):
        """For each group that has classes with at least `least` samples: the rows of each such class."""
        group = np.zeros(len(self.y), np.uint8) if self.group is None else self.group
        found = []
        for g in np.unique(group):
            inside = np.flatnonzero(group == g)
            classes = [inside[self.y[inside] == c] for c in np.unique(self.y[inside])]
            found.append([rows for rows in classes if len(rows) >= least])
        return [classes for classes in found if len(classes) >= 2]


@dataclass(frozen=True, eq=False)
class Scenario:
    """Base samples, and pools for validation and test. `shift`: places a pseudo-query may move, down and right.

    `base` names what a net is pre-trained on: scenarios of one base share the net.
    """

    name: str
    base: str
    x: np.ndarray
    y: np.ndarray
    pools: dict[str, Pool]
    shift: tuple[int, int]
    ways: int = 5
    shots: int = 5
    queries: int = 10
    _cells: dict = field(default_factory=dict, repr=False)

    @property
    def input_shape(self):
        return self.x.shape[1:]

    def _rng(self, *numbers):
        return np.random.Generator(np.random.PCG64([zlib.crc32(self.name.encode()), *numbers]))

    def episode(self, part, number, ways=None, shots=None):
        """Episode `number` of a part. With fewer classes in the group than `ways`, all of them."""
        ways, shots = ways or self.ways, shots or self.shots
        pool = self.pools[part]
        if (part, shots) not in self._cells:
            self._cells[part, shots] = pool.cells(shots + 1)
        cells = self._cells[part, shots]
        rng = self._rng(PARTS.index(part), number)
        group = cells[rng.integers(len(cells))]
        support, query = [], []
        for c in rng.permutation(len(group))[:ways]:
            rows = rng.permutation(group[c])
            support.append(rows[:shots])
            query.append(rows[shots : shots + self.queries])

        return self._taken(pool, support, query)

    def various(self, part, number):
        """Episode `number` of various ways and shots, drawn as Meta-Dataset draws them (arXiv 1903.03096, 3.2).

        Ways: 5 to all classes of the group, at most MOST_WAYS. A share drawn from (0, 1] of `most` samples a class, at
        most MOST_SUPPORT in all, is spread over the classes by weights drawn between 1/2 and 2: at least 2 each, as the
        engine needs (there: 1), `most` being MOST_SHOTS or what the queries leave.
        """
        pool = self.pools[part]
        if (part, "various") not in self._cells:
            found = pool.cells(self.queries + 2)
            self._cells[part, "various"] = [classes for classes in found if len(classes) >= 5]
        cells = self._cells[part, "various"]
        rng = self._rng(len(PARTS), PARTS.index(part), number)
        group = cells[rng.integers(len(cells))]
        ways = rng.integers(5, min(len(group), MOST_WAYS) + 1)
        chosen = [rng.permutation(group[c]) for c in rng.permutation(len(group))[:ways]]
        most = [min(MOST_SHOTS, len(rows) - self.queries) for rows in chosen]
        share = 1 - rng.random()
        size = min(MOST_SUPPORT, sum(int(np.ceil(share * m)) for m in most))
        weights = np.exp(rng.uniform(np.log(0.5), np.log(2), ways))
        free = max(size - 2 * ways, 0) * weights / weights.sum()
        shots = [min(int(more) + 2, m) for more, m in zip(free, most, strict=True)]
        support = [rows[:n] for rows, n in zip(chosen, shots, strict=True)]
        query = [rows[n : n + self.queries] for rows, n in zip(chosen, shots, strict=True)]
        return self._taken(pool, support, query)

    @staticmethod
    def _taken(pool, support, query):
        """The episode of these rows of each class."""

        def labels(parts):
            return np.repeat(np.arange(len(parts)), [len(p) for p in parts]).astype(np.uint8)

        s, q = np.concatenate(support), np.concatenate(query)
        return Episode(pool.x[s], labels(support), pool.x[q], labels(query))


def _numbered(y):
    return np.unique(y, return_inverse=True)[1].astype(np.uint16)


def _omniglot():
    """24 alphabets are the base, 6 the validation, the 20 of the published test part the test: within one alphabet."""
    data = datasets.omniglot()
    x, y, alphabet = data.x_train[..., None], data.y_train, data.about["alphabet_train"]
    held_out = np.isin(alphabet, np.unique(alphabet)[4::5])
    pools = {
        "validation": Pool(x[held_out], y[held_out], alphabet[held_out]),
        "test": Pool(data.x_test[..., None], data.y_test, data.about["alphabet_test"]),
    }
    return x[~held_out], _numbered(y[~held_out]), pools


def _digits():
    data = datasets.load("mnist")
    return data.x_train[..., None], data.y_train


def omniglot():
    x, y, pools = _omniglot()
    return Scenario("omniglot", "omniglot", x, y, pools, (2, 2), ways=10)


def omniglot_from_digits():
    """A net that knows ten digits learns characters of an alphabet."""
    return Scenario("omniglot_from_digits", "mnist", *_digits(), _omniglot()[2], (2, 2), ways=10)


def _fashion():
    """Validation with the training images of five kinds, test with the test images of the other five."""
    data = datasets.load("fashion_mnist")
    kinds = (0, 1, 5, 6, 8)
    first, second = np.isin(data.y_train, kinds), ~np.isin(data.y_test, kinds)
    return {
        "validation": Pool(data.x_train[first][..., None], data.y_train[first]),
        "test": Pool(data.x_test[second][..., None], data.y_test[second]),
    }


def fashion_from_digits():
    return Scenario("fashion_from_digits", "mnist", *_digits(), _fashion(), (2, 2))


def fashion_from_omniglot():
    return Scenario("fashion_from_omniglot", "omniglot", *_omniglot()[:2], _fashion(), (2, 2))


BASE_WORDS = ("yes", "no", "up", "down", "left")
TEST_WORDS = ("right", "on", "off", "stop", "go")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def keywords():
    """Base: five words, silence, and other words as one class; validation: spoken numbers; test: five other words."""
    data = datasets.speech_commands()
    x = np.concatenate([data.x_train, data.x_test])[..., None]
    word = np.concatenate([data.about["word_train"], data.about["word_test"]])
    y = np.unique(word, return_inverse=True)[1].astype(np.uint8)
    test, validation = np.isin(word, TEST_WORDS), np.isin(word, NUMBERS)
    base = ~test & ~validation
    label = np.where(np.isin(word, (*BASE_WORDS, "silence")), word, "other")[base]
    pools = {"validation": Pool(x[validation], y[validation]), "test": Pool(x[test], y[test])}
    return Scenario("keywords", "keywords", x[base], _numbered(label), pools, (3, 1))


def _persons(name, x, y, user, x_test, y_test, user_test, shift, ways):
    """Persons: the last fifth of the training persons are the validation."""
    people = np.unique(user)
    held_out = np.isin(user, people[-(len(people) // 5) :])
    pools = {"validation": Pool(x[held_out], y[held_out], user[held_out]), "test": Pool(x_test, y_test, user_test)}
    return Scenario(name, name, x[~held_out], y[~held_out].astype(np.uint16), pools, shift, ways=ways)


def activity():
    """Six activities of a person the net never saw, from the signals of a phone: 1/45 g and 1.12 degrees/s a step."""
    data = datasets.har()
    shifts = np.array([4, 4, 4, 6, 6, 6], np.int16)

    def take(x):
        return np.clip(x >> shifts, -127, 127).astype(np.int8)[:, :, None, :]

    about = data.about
    return _persons("activity", take(data.x_train), data.y_train, about["user_train"], take(data.x_test), data.y_test,
                    about["user_test"], (8, 0), 6)  # fmt: skip


def watch():
    """18 activities of a person the net never saw, from 91 features of a watch, 1/32 standard deviation a step."""
    data = datasets.wisdm_watch()

    def take(x):
        return np.clip(x >> 4, -127, 127).astype(np.int8)[:, None, None, :]

    about = data.about
    return _persons("watch", take(data.x_train), data.y_train, about["user_train"], take(data.x_test), data.y_test,
                    about["user_test"], (0, 0), 18)  # fmt: skip


SCENARIOS = {
    s.__name__: s
    for s in (omniglot, omniglot_from_digits, fashion_from_omniglot, fashion_from_digits, keywords, activity, watch)
}


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| scenario | base samples | classes | input | episode | validation | test |")
    print("|---|---:|---:|---|---|---:|---:|")
    for make in SCENARIOS.values():
        s = make()
        episode = s.episode("test", 0)
        held = " | ".join(str(len(s.pools[part].y)) for part in PARTS)
        print(
            f"| {s.name} | {len(s.y)} | {len(np.unique(s.y))} | {' x '.join(map(str, s.input_shape))} {s.x.dtype} | "
            f"{len(np.unique(episode.y_support))} ways, {len(episode.y_support)} + {len(episode.y_query)} | {held} |"
        )


if __name__ == "__main__":
    main()
