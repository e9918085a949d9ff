"""Convert a model, save it, load it again, and let the spiking network write the same text as the ANN.

python examples/convert_and_generate.py [--output DIR]
"""

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

import las_sj
from las_sj.checkpoint.loading import default_model


def main(output: Path) -> None:
    name = default_model()  # a folder; the name of a model on the hub serves as well
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name)
    prompt = tokenizer("ROMEO:\nWhat light", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=32, do_sample=False, pad_token_id=0)

    texts = (name / "calibration.txt").read_text(encoding="utf-8").split("\n\n")[:32]
    batches = [tokenizer(text, return_tensors="pt", truncation=True, max_length=128) for text in texts]
    las_sj.convert(model, las_sj.LASConfig(time_steps=16), calibration=batches)  # in place
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)

    snn = AutoModelForCausalLM.from_pretrained(output)
    for execution in ("temporal", "accumulated"):
        las_sj.set_execution(snn, execution)
        spiking = snn.generate(**prompt, max_new_tokens=32, do_sample=False, pad_token_id=0)
        print(f"{execution}: {'the same text' if spiking.equal(written) else 'another text'}")
    print(tokenizer.decode(spiking[0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("converted"))
    main(parser.parse_args().output)
