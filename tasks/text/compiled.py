"""Kernel compilation ahead of time, so that no run waits for it: `python -m tasks.text.compiled`. Setting up does this."""

import numpy as np
import pyarrow as pa


def compile_kernels() -> None:
    """Calls each kernel on a short text; numba keeps the machine code beside the modules."""
    from tasks.documents import text_buffers
    from tasks.kernels.clusters import Clusters, SignatureRows, join_equal, join_near
    from tasks.kernels.overlap import EvaluationBuilder, OverlapFinder
    from tasks.kernels.packing import best_fit, by_row, copy_pieces, longest_first
    from tasks.kernels.quality_classifier import train_scorer
    from tasks.kernels.repeated_blocks import find_blocks
    from tasks.kernels.shingles import sign
    from tasks.kernels.statistics import measure
    from tasks.text.repairs import RepairConfig, Repairer

    buffers = text_buffers(pa.array(["The mill by the river turns.", "水轮转动石磨，the mill."], pa.large_string()))
    measure(*buffers)
    signed = sign(*buffers, 2, 16, 1)
    sign(*buffers, 2, 0, 1)
    numbers = np.arange(2)
    clusters = Clusters(2)
    join_equal(signed.keys, numbers, clusters)
    join_near(signed.keys[:, 0], numbers, SignatureRows([signed.signatures]).similarity, 0.5, clusters)
    SignatureRows([signed.signatures]).similarity(numbers, numbers)
    builder = EvaluationBuilder(3, 3)
    builder.add("item", "the mill by the river")
    OverlapFinder(builder.build(()), 3, 3).hits(*buffers)
    find_blocks(*buffers, False, 5)
    train_scorer(*buffers, np.array([0.0, 1.0]), 1, 1.0, 1).score(*buffers)
    order = longest_first(numbers, 2)
    best_fit(numbers, order, 2)
    by_row(numbers, order, 2)
    for kind in (np.uint16, np.uint32):
        mapped = np.frombuffer(bytes(8), kind)
        copy_pieces(mapped, numbers, numbers, numbers, numbers, np.zeros((2, 2), kind))
    Repairer(RepairConfig()).repair("e\u0301 \x00")


if __name__ == "__main__":
    compile_kernels()
