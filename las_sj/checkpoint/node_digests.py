"""Digests of the neurons of a model, by which a checkpoint tells whether thresholds, tables, codes and ranges are still
those that were saved."""

import hashlib
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.models import named_sites
from las_sj.neurons import ThresholdNode, WindowNode
from las_sj.neurons.fetching import fetched
from las_sj.neurons.gated import Gated
from las_sj.neurons.rate_coded import QCFSWindowNode

_CHARACTERS = 16  # of SHA-256, as hexadecimal digits: against damage, not against intent


def digests_of(model: nn.Module) -> dict[str, str]:
    """The digest of every site of a converted model, by the name of its node; offloaded tensors are fetched."""
    digests = {}
    for name, site in named_sites(model):
        with fetched([site.node]):
            digests[name] = digest_of(site.node)
    return digests


def digest_of(node: WindowNode, of_code: bool = True) -> str:
    """A digest of a node's thresholds and tables as single precision, in which they are loaded, its range and code.

    Args:
        node: the neurons.
        of_code: whether its code is part of it, as it is not in checkpoints up to format 5.
    """
    found = hashlib.sha256()
    for name, tensor in chain(node.named_parameters(recurse=False), node.named_buffers(recurse=False)):
        found.update(f"{name} {[*tensor.shape]} ".encode())
        found.update(_bytes_of(tensor))
    if isinstance(node, Gated):
        found.update(f"{node.low!r} {node.high!r}".encode())
    if of_code:
        found.update(_code_of(node).encode())
    return found.hexdigest()[:_CHARACTERS]


def _code_of(node: WindowNode) -> str:
    """What decides which train a membrane potential becomes, beside thresholds and tables."""
    if isinstance(node, ThresholdNode):
        code = node.code
        return f"{code.time_steps} {code.levels} {code.rounding} {code.max_spikes}"
    if isinstance(node, QCFSWindowNode):
        return f"{node.time_steps} {node.levels} {node.clip_first}"
    return ""


def _bytes_of(tensor: Tensor) -> bytes:
    kind = torch.float32 if tensor.is_floating_point() else torch.int32
    return tensor.detach().to("cpu", kind).contiguous().numpy().tobytes()


def check_node(
    name: str, node: WindowNode, digests: Mapping[str, str] | None, prefix: str, of_codes: bool = True
) -> None:
    """Raise a BrokenCheckpointError where a site's neurons are not those that were saved, or none that can be.

    Args:
        name: of the site.
        node: its neurons, loaded.
        digests: of the model that was saved; None where the checkpoint is older than they are.
        prefix: of names in that model, where the one that was loaded is inside of it.
        of_codes: whether these digests are of codes too.
    """
    with fetched([node]):
        for tensor, fault in node.faults():
            raise BrokenCheckpointError(
                f"{name}.{tensor} is missing from the checkpoint or broken, it {fault}: load the class that was saved, "
                "or convert the model again"
            )
        saved = None if digests is None else digests.get(name) or digests.get(prefix + name)
        if digests is not None and digest_of(node, of_codes) != saved:
            raise BrokenCheckpointError(
                f"thresholds, tables, the code or the range of {name} are not those that were saved, by their digest "
                "in config.json: the checkpoint is damaged, convert the model again"
            )
