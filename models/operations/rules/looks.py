"""Functions that look at a current without computing anything from it, or make a constant of its shape."""

from typing import Any

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule


@rule(
    """
    shape dtype device ndim requires_grad is_cuda is_cpu is_mps is_meta is_leaf is_quantized is_sparse layout grad
    grad_fn names itemsize nbytes is_nested output_nr retains_grad is_mkldnn size dim numel stride nelement
    ndimension element_size data_ptr storage_offset get_device untyped_storage storage is_floating_point
    is_complex is_contiguous is_conj is_neg is_same_size is_tensor is_shared is_pinned is_signed has_names
    retain_grad register_hook requires_grad_ type_of __len__ __hash__ __repr__ __str__ __format__ __dir__
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
    new_full new_tensor new_empty_strided new
    """
)
def look(op: Operation, *args: Any, **kwargs: Any) -> Any:
    """What is no current."""
    return op.function(*args, **kwargs)
