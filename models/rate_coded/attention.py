"""The name under which a network of rate codes keeps its attention: that of torch, in each lane.

It is a name of its own, so that transformers refuses to load such a model where las_sj was not imported.
"""

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "las_sj_lanes"

AttentionInterface.register(NAME, sdpa_attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
