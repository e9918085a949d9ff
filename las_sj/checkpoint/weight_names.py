"""Under which names weights are saved: those of original checkpoints, unless thresholds would be taken for weights."""

from transformers import PreTrainedModel
from transformers.conversion_mapping import PrefixChange, get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightTransform, apply_converters

from las_sj.neurons import WindowNode

CONVERSIONS = "_weight_conversions"  # where transformers keeps what it did to a checkpoint, to undo it when it saves


def keep_neurons_apart(model: PreTrainedModel) -> None:
    """Have transformers save weights as they are where it would join or split thresholds with them.

    It saves the weights of some models as their original checkpoints have them, such as queries, keys and values in
    one. It finds them by the beginning of their names, which neurons of the same layers have too.

    Args:
        model: a converted model.
    """
    conversions = _conversions_of(model)
    kept = [conversion for conversion in conversions if not _takes_neurons(conversion, model)]
    if len(kept) < len(conversions):
        model.__dict__[CONVERSIONS] = kept


def _conversions_of(model: PreTrainedModel) -> list[WeightTransform]:
    """What transformers would undo, as it finds it out itself."""
    known: list[WeightTransform] | None = getattr(model, CONVERSIONS, None)
    if known is not None:
        return known
    found = get_model_conversion_mapping(model, add_legacy=False)
    return [conversion for conversion in found if not isinstance(conversion, PrefixChange)]


def _takes_neurons(conversion: WeightTransform, model: PreTrainedModel) -> bool:
    """Whether a conversion, undone, joins or splits tensors of neurons."""
    if not isinstance(conversion, WeightConverter):
        return False
    undone = conversion.reverse_transform()
    assert isinstance(undone, WeightConverter)
    return any(apply_converters(name, [undone])[1] is not None for name in _tensors_of_neurons(model))


def _tensors_of_neurons(model: PreTrainedModel) -> list[str]:
    nodes = [(name, module) for name, module in model.named_modules() if isinstance(module, WindowNode)]
    return [f"{name}.{tensor}" for name, node in nodes for tensor in node.state_dict()]
