"""In shards, on named devices, partly or wholly on disk, and made without weights: the same network, bit for bit?"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from every_type.building import Subject
from every_type.comparing import EXECUTIONS, first_output
from every_type.weights import Model
from las_sj.models import running

_WAYS = ("cpu", "cpu and disk", "disk", "meta")
_SHARDS = 3


@torch.no_grad()
def same_bits_anywhere(snn: Model, subject: Subject) -> str:
    """Save in shards, load in every way, and compare outputs of both executions with those of the network.

    Ways in which transformers does not run the ANN either are named.
    """
    kind, expected, answers = type(subject.model), _outputs(snn, subject), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        _save_in_shards(snn, folder)
        for way in _WAYS:
            try:
                found = _outputs(_loaded(snn, kind, folder, way), subject)
            except Exception:
                if _does_the_ann_run(subject, way):
                    raise
                answers.append(f"nor does the ANN run: {way}")
                continue
            answers += [
                f"DIFFERS, {way}, {name}" for name in EXECUTIONS if not torch.equal(found[name], expected[name])
            ]
    return ", ".join(answers) or "bit-identical"


def _outputs(snn: Model, subject: Subject) -> dict[str, Tensor]:
    found = {}
    for execution in EXECUTIONS:
        with running(snn, execution):
            found[execution] = first_output(snn(**subject.inputs.make(1)))
    return found


def _save_in_shards(model: Model, folder: str) -> None:
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    model.save_pretrained(folder, max_shard_size=size // _SHARDS)
    if len(_shards_in(folder)) < 2:
        raise ValueError("the model was not saved in shards")


def _loaded(model: Model, kind: type[Model], folder: str, way: str) -> Model:
    """A saved model as transformers loads it in one of `_WAYS`; in the last, it makes an empty one, without files."""
    if way == "meta":
        tensors = {name: tensor for path in _shards_in(folder) for name, tensor in load_file(path).items()}
        return kind.from_pretrained(None, config=kind.config_class.from_pretrained(folder), state_dict=tensors).eval()
    places = {"cpu": {"": "cpu"}, "cpu and disk": dict(_in_turns(model)), "disk": {"": "disk"}}
    return kind.from_pretrained(folder, device_map=places[way], offload_folder=f"{folder}/offload").eval()


def _in_turns(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every other layer is on disk; what is not made of layers is not, since it may be tied."""
    for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield prefix + name, "cpu"
    for number, (name, part) in enumerate(module.named_children()):
        if isinstance(module, nn.ModuleList):
            yield prefix + name, "cpu" if number % 2 else "disk"
        elif any(isinstance(inner, nn.ModuleList) for inner in part.modules()):
            yield from _in_turns(part, f"{prefix}{name}.")
        else:
            yield prefix + name, "cpu"


def _shards_in(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.safetensors"))


def _does_the_ann_run(subject: Subject, way: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _save_in_shards(subject.model, folder)
            _loaded(subject.model, type(subject.model), folder, way)(**subject.inputs.make(1))
        except Exception:  # of any kind: transformers cannot
            return False
    return True
