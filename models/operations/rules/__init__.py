"""The rules of torch functions, one file for each kind; importing this package registers them."""

from las_sj.models.operations.rules import (  # noqa: F401
    additive,
    attention,
    decisions,
    division,
    linear,
    looks,
    losses,
    movements,
    norms,
    pieces,
    pooling,
    processes,
    products,
    recurrent,
    reductions,
    softmax,
    unary,
    views,
    writes,
)
