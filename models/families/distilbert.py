"""DistilBERT. Modelling code applies a ReLU to the first layer of its classifier."""

from las_sj.models.layers.linear import RectifiedLinear
from las_sj.models.registry import Family, register_family

DISTILBERT = register_family(
    Family(
        model_types=("distilbert",),
        attention={"DistilBertSelfAttention": ("q_lin", "k_lin", "v_lin")},
        readouts=("classifier", "qa_outputs"),
        activated={"FFN": ("activation", "lin2")},
        named_layers={"pre_classifier": RectifiedLinear},
    )
)
