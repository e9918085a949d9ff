"""ELECTRA."""

from las_sj.models.families.bert import refuse_decoder
from las_sj.models.registry import Family, register_family

ELECTRA = register_family(
    Family(
        model_types=("electra",),
        attention={"ElectraSelfAttention": ("query", "key", "value")},
        readouts=("classifier", "classifier.out_proj", "qa_outputs", "discriminator_predictions.dense_prediction"),
        activated={"ElectraLayer": ("intermediate.intermediate_act_fn", "output.dense")},
        unsupported=refuse_decoder,
    )
)
