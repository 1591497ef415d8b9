"""Two processes with a thread each, against one process with two."""

import multiprocessing

from threadpoolctl import threadpool_limits

import minigrad as mg

from . import contestants, cores
from .measurements import seconds
from .problem import data, start

EPOCHS = 4  # that a worker is timed over


def processes(rounds):
    """Steps a second of MLP-5-500, B = 128, of all processes together."""
    speeds = {"two processes": [], "two threads": []}
    with cores.all_in_use():
        for _ in range(rounds):
            speeds["two processes"].append(steps_a_second(number=2, threads=1))
            speeds["two threads"].append(steps_a_second(number=1, threads=2))
    return speeds


def steps_a_second(number, threads):
    """Of `number` processes together, each with so many threads."""
    context = multiprocessing.get_context("spawn")
    barrier, speeds = context.Barrier(number), context.SimpleQueue()
    workers = [context.Process(target=_worker, args=(threads, barrier, speeds)) for _ in range(number)]
    for worker in workers:
        worker.start()
    together = sum(speeds.get() for _ in workers)
    for worker in workers:
        worker.join()
    return together


def _worker(threads, barrier, speeds):
    graph, params = start("MLP-5-500")
    x, y = data(2560)
    advance, _ = contestants.minigrad(graph, params, x, y)
    rows = mg.batches(len(x), 128, seed=0, epoch=1)

    def train():
        for _ in range(EPOCHS):
            advance(rows)

    with threadpool_limits(threads):
        advance(rows)
        barrier.wait()
        speeds.put(EPOCHS * len(rows) / seconds(train))
