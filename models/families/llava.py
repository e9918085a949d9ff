"""LLaVA: a vision tower, a projector and a language model, each of a family of its own."""

from las_sj.models.registry import Family, register_family

LLAVA = register_family(Family(model_types=("llava",)))
