"""README.md of a converted model: what it is, how it is loaded, and the figures of its conversion."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from las_sj.config import LASConfig
from las_sj.fas_config import FASConfig

TAGS = ["spiking-neural-network", "neuromorphic", "las", "spikingjelly"]

# By the fastest execution in which neurons spike.
ACCUMULATED = {
    "accumulated": "the same network, its windows summed up",
    "temporal": "the quantised ANN that it stands for",
}

_CARD = """---
{data}
---

# Spiking {architecture}

A spiking network made of {name} by las_sj {version} ({settings}).
It runs on SpikingJelly, and loads like any model of transformers once las_sj is imported:

```python
import las_sj
from transformers import {architecture}

model = {architecture}.from_pretrained("path/to/this/folder")   # a temporal network
las_sj.set_execution(model, "accumulated")                      # {accumulated}
```

{figures}"""


def model_card(
    source: str, architecture: str, settings: LASConfig | FASConfig, version: str, figures: str
) -> ModelCard:
    """The card of a converted model.

    Args:
        source: hub name or folder of the original, or what it is in words.
        architecture: class of the model.
        settings: of the conversion.
        version: of las_sj.
        figures: Markdown that the card holds below its first section.
    """
    on_the_hub = source.count("/") == 1 and not Path(source).exists() and " " not in source
    data = ModelCardData(library_name="transformers", tags=TAGS, base_model=source if on_the_hub else None)
    content = _CARD.format(
        data=data.to_yaml(),
        architecture=architecture,
        name=Path(source).name if Path(source).exists() else source,
        version=version,
        settings=settings.in_words,
        accumulated=ACCUMULATED[settings.counted_in],
        figures=figures,
    )
    return ModelCard(content)
