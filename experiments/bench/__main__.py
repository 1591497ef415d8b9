"""python -m experiments.bench: prints the table as it is measured, then writes it, whole or not at all."""

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path

from . import cores


def main():
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench",
        description="make bench: minigrad, PyTorch, JAX and the machine's limit side by side, in turns, "
        "one thread each; a table of medians.",
    )
    parser.add_argument("--quick", action="store_true", help="four cells and three rounds")
    parser.add_argument("--out", metavar="FILE", default="figures/bench.md", help="where the table goes")
    args = parser.parse_args()
    path = Path(args.out)
    if not path.suffix:
        parser.error(f"--out takes a name with an ending, like bench.md; got {args.out}")
    missing = [name for name in ("torch", "jax") if not importlib.util.find_spec(name)]
    if missing:
        parser.error(f"{' and '.join(missing)} not installed: call make bench, or pip install '.[bench]'")

    try:  # before the work, whose numbers would be lost
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        parser.error(f"{path.parent} can't be written ({error.strerror}): give another --out")

    # Before the libraries are imported, which read it then.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    cores.use_one()

    from threadpoolctl import threadpool_limits

    from ..files import together
    from .problem import QUICK, WHOLE
    from .table import sections

    begun = time.monotonic()
    texts = []
    with threadpool_limits(1):
        for text in sections(QUICK if args.quick else WHOLE):
            print(text, flush=True)
            texts.append(text)
    print(f"{time.monotonic() - begun:.0f} s")
    with together(path.with_suffix(""), path.suffix[1:]) as (_, partial):
        partial[0].write_text("\n".join(texts), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
