"""The same training by minigrad and by PyTorch's autograd, whose network is written out.

    python -m experiments.trainer

MLP-BN-10-100 on CIFAR-10 after two epochs. A seed has the same initial W in both, and another order
of the samples. Means over layers or entries: median (range) of five seeds. Standard errors: how far
the two are apart seed by seed, over all layers or entries, in standard errors of the mean; about 1
where nothing but chance divides them. The last four rows are a planted fault, half the decay in
PyTorch, which shows how a different training looks.
"""

import numpy as np
from tqdm import tqdm

import minigrad as mg

from . import bench, report


def by_torch(graph, params, x, y, B, epochs, seed, decay):
    """The trained parameters of an MLP with the true gradient of batch norm."""
    import torch
    from torch.nn import functional as F

    tensors = {key: torch.tensor(value, requires_grad=True) for key, value in params.items()}
    *hidden, last = [tensors[edge] for edge in graph.E_T]
    gamma, beta = ([tensors[name, p] for p in range(2, graph.L)] for name in ("gamma", "beta"))
    groups = [{"params": [*hidden, last], "weight_decay": decay}, {"params": [*gamma, *beta]}]
    optimizer = torch.optim.SGD(groups, lr=bench.ETA, momentum=bench.MOMENTUM)
    x, labels = torch.from_numpy(x), torch.from_numpy(y.argmax(1))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: len(x) - len(x) % B].view(-1, B):
            v = x[batch]
            for W, scale, shift in zip(hidden, gamma, beta):
                v = F.relu(scale * F.batch_norm(v @ W.T, None, None, training=True) + shift)
            optimizer.zero_grad()
            F.cross_entropy(v @ last.T, labels[batch]).backward()
            optimizer.step()
    return {key: tensor.detach().numpy() for key, tensor in tensors.items()}


def quantities(graph, start, trained, x, y):
    """{quantity: entries} of one training."""
    _, accuracy, _ = mg.evaluate(graph, trained, x, y, "cross_entropy")
    W = [trained[edge] for edge in graph.E_T]
    return {
        "train accuracy, %": [100 * accuracy],
        "norm of W": [np.linalg.norm(a) for a in W],
        "norm of W minus its start": [np.linalg.norm(trained[e] - start[e]) for e in graph.E_T],
        "singular values": np.concatenate([mg.singular_values(a) for a in W]),
    }


def standard_errors(a, b):
    """How far a and b (seeds, entries) are apart: about 1 where only chance divides them."""
    difference = b - a
    scatter = difference.var(0, ddof=1) / len(difference)
    return ((difference.mean(0) ** 2).sum() / scatter.sum()) ** 0.5


def compare(graph, x, y, B, epochs, seeds, decay):
    """[(quantity, minigrad's, PyTorch's)], the numbers (seeds, entries); `decay` is PyTorch's."""
    ours, theirs = [], []
    for seed in seeds:
        start = mg.init_params(graph, np.random.default_rng(seed))
        train = bench.by_minigrad(graph, start, x, y)
        for epoch in range(1, epochs + 1):
            trained = train(mg.batches(len(x), B, seed, epoch))
        ours.append(quantities(graph, start, trained, x, y))
        trained = by_torch(graph, start, x, y, B, epochs, seed, decay)
        theirs.append(quantities(graph, start, trained, x, y))
    sides = ours, theirs
    return [(name, *(np.array([one[name] for one in side]) for side in sides)) for name in ours[0]]


def page():
    """The comparisons in Markdown."""
    x, y, *_ = mg.load_dataset("cifar10")
    decay = 2 * bench.LAM
    settings = [("true gradient", 128, decay), ("true gradient", 16, decay)]
    settings += [("standard", 128, decay), ("standard", 16, decay), ("standard", 128, decay / 2)]
    rows = []
    for variant, B, decay in tqdm(settings):
        is_scalar = variant == "true gradient"
        graph = mg.parse("MLP-BN-10-100", 3072, 10, detached=False, scalar=is_scalar)
        for quantity, *sides in compare(graph, x, y, B, 2, range(5), decay):
            means = [bench.median_and_range(side.mean(1), ".4g") for side in sides]
            rows.append((variant, B, quantity, *means, f"{standard_errors(*sides):.1f}"))
    header = ("batch norm", "B", "quantity", "minigrad", "PyTorch", "standard errors")
    table = report.markdown(header, rows)
    return "\n".join(["# Training by PyTorch\n", bench.machine(), __doc__, table])


if __name__ == "__main__":
    bench.write_page("figures/trainer.md", page)
