"""Functions that look at a current without computing anything from it, or make a constant of its shape."""

from typing import Any

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule

# What is asked of a tensor most often, and answered without another tensor, of a current as of a constant.
QUESTIONS = frozenset(
    {"shape", "dtype", "device", "ndim", "is_cuda", "is_cpu", "is_meta", "size", "dim", "numel", "stride"}
)


@rule(
    *QUESTIONS,
    """
    requires_grad is_mps is_leaf is_quantized is_sparse layout grad
    grad_fn names itemsize nbytes is_nested output_nr retains_grad is_mkldnn nelement
    ndimension data_ptr storage_offset element_size get_device untyped_storage storage is_floating_point
    is_complex is_contiguous is_conj is_neg is_same_size is_tensor is_shared is_pinned is_signed has_names
    retain_grad register_hook requires_grad_ type_of __hash__ __len__ __repr__ __str__ __format__ __dir__
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
    new_full new_tensor new_empty_strided new
    """,
)
def look(op: Operation, *args: Any, **kwargs: Any) -> Any:
    """What is no current."""
    return op.function(*args, **kwargs)
