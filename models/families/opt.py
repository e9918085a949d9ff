"""OPT."""

from las_sj.models.registry import Family, register_family

OPT = register_family(
    Family(
        model_types=("opt",),
        attention={"OPTAttention": ("q_proj", "k_proj", "v_proj")},
        readouts=("qa_outputs",),
        activated={"OPTDecoderLayer": ("activation_fn", "fc2")},
    )
)
