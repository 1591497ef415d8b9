"""python tests/campaign.py [MUTATIONS KILLS]: what wrong files and sudden deaths do; not run by CI.

Mutations: files of the store with bytes changed, cut or moved, and the well-formed wrong files of
test_wrong_files. Kills: the command and all its processes, kill -9 at a random moment, again and again.
"""

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import test_wrong_files as wrong  # noqa: E402
from experiments import store  # noqa: E402
from experiments.runner import Where, train  # noqa: E402

SHARED_MEMORY = Path("/dev/shm")


def outcome(folder, kind, expected):
    """What reading does: a sentence that names the file, the same numbers, or what must not be."""
    try:
        meta, arrays = wrong.read(folder, kind)
    except store.StoreError as error:
        named = str(wrong.path_of(folder, kind)) in str(error) and "\n" not in str(error)
        return "refused by a sentence" if named else "REFUSED WITHOUT THE NAME"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}"
    same = meta == expected[0] and arrays.keys() == expected[1].keys()
    equal = same and all(numpy.array_equal(arrays[n], expected[1][n], equal_nan=True) for n in arrays)
    return "the same numbers" if equal else "OTHER NUMBERS, SILENTLY"


def damaged(content, rng):
    """The bytes of a file, with a few of them changed, cut off, doubled or moved."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        place, length = rng.randrange(len(content)), rng.choice((1, 2, 8, 64))
        how = rng.choice(("change", "cut", "remove", "insert", "move"))
        if how == "change":
            content[place : place + length] = rng.randbytes(length)
        elif how == "cut":
            del content[place:]
        elif how == "remove":
            del content[place : place + length]
        elif how == "insert":
            content[place:place] = rng.randbytes(length)
        else:
            piece = content[place : place + length]
            del content[place : place + length]
            there = rng.randrange(len(content) + 1)
            content[there:there] = piece
        if not content:
            break
    return bytes(content)


def mutations(number, folder):
    """{kind of mutation: {outcome: how often}}."""
    os.fsync = lambda file: None
    rng, found = random.Random(0), collections.defaultdict(collections.Counter)
    where = Where(str(folder / "whole"), keep_weights=True)
    train([wrong.RUN], where)
    meta, arrays = store.read_result(folder / "whole", wrong.RUN)
    whole = {"result with weights": (meta, arrays), "checkpoint": wrong.at_epoch_11(meta, arrays)}
    for kind, expected in whole.items():
        path = wrong.path_of(folder, kind)
        for name, cases in (("meta", wrong.wrong_metas(meta)), ("array", wrong.wrong_arrays(arrays))):
            for what, new in cases:
                changed = (new, expected[1]) if name == "meta" else (expected[0], new)
                wrong.put(path, *changed)
                found[f"well formed, wrong {name}"][outcome(folder, kind, expected)] += 1
        wrong.put(path, *expected)
        content = path.read_bytes()
        for _ in range(number // len(whole)):
            path.write_bytes(damaged(content, rng))
            found["damaged bytes"][outcome(folder, kind, expected)] += 1
    return found


def command(folder):
    """The smoke Figure 1, in a group of processes of its own."""
    args = ["fig1", "--preset", "smoke", "--set", "epochs=3", "--set", "dataset=mnist", "--jobs", "2"]
    args += ["--results", str(folder), "--figures", str(folder / "figures")]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *args],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def semaphores():
    return set(SHARED_MEMORY.glob("sem.mp-*")) if SHARED_MEMORY.is_dir() else set()


def kills(number, folder):
    """{what: how often} of lives that end at a random moment; every 20th folder is finished and compared."""
    rng, found = random.Random(1), collections.Counter()
    whole = folder / "uninterrupted"
    begun = time.monotonic()
    assert command(whole).wait() == 0
    length = time.monotonic() - begun
    before = semaphores()
    for life in range(number):
        killed = folder / f"killed {life // 20}"
        process = command(killed)
        time.sleep(rng.uniform(0.2, 1.0) * length)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found["kills"] += 1
        if life % 20 == 19 or life == number - 1:
            assert command(killed).wait() == 0
            (csv,) = (killed / "figures").glob("*.csv")
            (expected,) = (whole / "figures").glob("*.csv")
            found["folders finished"] += 1
            found["folders with other numbers"] += csv.read_bytes() != expected.read_bytes()
            found["leftovers in results and figures"] += len(names(killed) - names(whole))
    found["semaphores left in shared memory"] = len(semaphores() - before)
    return found


def main():
    """Print both tables."""
    mutated, killed = map(int, sys.argv[1:] or (10_000, 200))
    with tempfile.TemporaryDirectory() as folder:
        for kind, counts in mutations(mutated, Path(folder)).items():
            print(f"{kind}: " + ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())))
    with tempfile.TemporaryDirectory() as folder:
        for what, count in kills(killed, Path(folder)).items():
            print(f"{what}: {count}")


if __name__ == "__main__":
    main()
