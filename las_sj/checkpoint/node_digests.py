"""Digests of the neurons of a model, by which a checkpoint tells whether thresholds, tables and ranges are still those
that were saved."""

import hashlib
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.models import named_sites
from las_sj.neurons import WindowNode
from las_sj.neurons.fetching import fetched
from las_sj.neurons.gated import Gated

_CHARACTERS = 16  # of SHA-256, as hexadecimal digits: against damage, not against intent


def digests_of(model: nn.Module) -> dict[str, str]:
    """The digest of every site of a converted model, by the name of its node; offloaded tensors are fetched."""
    digests = {}
    for name, site in named_sites(model):
        with fetched([site.node]):
            digests[name] = digest_of(site.node)
    return digests


def digest_of(node: WindowNode) -> str:
    """A digest of a node's thresholds and tables as single precision, in which they are loaded, and of its range."""
    found = hashlib.sha256()
    for name, tensor in chain(node.named_parameters(recurse=False), node.named_buffers(recurse=False)):
        found.update(f"{name} {[*tensor.shape]} ".encode())
        found.update(_bytes_of(tensor))
    if isinstance(node, Gated):
        found.update(f"{node.low!r} {node.high!r}".encode())
    return found.hexdigest()[:_CHARACTERS]


def _bytes_of(tensor: Tensor) -> bytes:
    kind = torch.float32 if tensor.is_floating_point() else torch.int32
    return tensor.detach().to("cpu", kind).contiguous().numpy().tobytes()


def check_node(name: str, node: WindowNode, digests: Mapping[str, str] | None, prefix: str) -> None:
    """Raise a BrokenCheckpointError where a site's neurons are not those that were saved, or none that can be.

    Args:
        name: of the site.
        node: its neurons, loaded.
        digests: of the model that was saved; None where the checkpoint is older than they are.
        prefix: of names in that model, where the one that was loaded is inside of it.
    """
    with fetched([node]):
        for tensor, fault in node.faults():
            raise BrokenCheckpointError(
                f"{name}.{tensor} is missing from the checkpoint or broken, it {fault}: load the class that was saved, "
                "or convert the model again"
            )
        if digests is not None and digest_of(node) != (digests.get(name) or digests.get(prefix + name)):
            raise BrokenCheckpointError(
                f"thresholds, tables or the range of {name} are not those that were saved, by their digest in "
                "config.json: the checkpoint is damaged, convert the model again"
            )
