"""Train the default model: a GPT-2 of under one million parameters on Tiny Shakespeare.

    python -m las_sj.default_model.train path/to/tinyshakespeare.txt --output DIR

The text is public domain. Its last tenth is never trained on: the first half of that tenth is shipped as
calibration text, the second half as evaluation text.
"""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

CONTEXT = 256  # tokens
HELD_OUT = 0.1  # share of the text
VOCABULARY = 512


def split_text(text: str) -> tuple[str, str, str]:
    """Training, calibration and evaluation text, cut at line ends."""
    first = text.rindex("\n\n", 0, int(len(text) * (1 - HELD_OUT))) + 2
    second = text.rindex("\n\n", 0, int(len(text) * (1 - HELD_OUT / 2))) + 2
    return text[:first], text[first:second], text[second:]


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `VOCABULARY` entries."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([text], vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )


def build_model() -> GPT2LMHeadModel:
    """A four-layer GPT-2, 128 wide."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=128,
            n_layer=4,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.1,
            embd_pdrop=0.1,
            attn_pdrop=0.1,
        )
    )


def train(model: GPT2LMHeadModel, tokens: torch.Tensor, steps: int, batch_size: int, rate: float) -> None:
    """AdamW with a one-cycle learning rate on random windows of `tokens` ([N])."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    model.train()
    progress = tqdm(range(steps), desc="training", unit="step")
    for _ in progress:
        start = torch.randint(len(tokens) - CONTEXT - 1, (batch_size,))
        window = tokens[start[:, None] + torch.arange(CONTEXT + 1)]  # [B, S + 1]
        logits = model(window[:, :-1], use_cache=False).logits  # [B, S, V]
        loss = cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")


def main() -> None:
    """Train the default model of this package, and write its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    training, calibration, evaluation = split_text(arguments.text.read_text(encoding="utf-8"))
    tokenizer = train_tokenizer(training)
    tokens = torch.tensor(tokenizer(training, verbose=False)["input_ids"])
    model = build_model()
    train(model, tokens, arguments.steps, arguments.batch_size, arguments.learning_rate)

    arguments.output.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    (arguments.output / "calibration.txt").write_text(calibration, encoding="utf-8")
    (arguments.output / "evaluation.txt").write_text(evaluation, encoding="utf-8")
    size = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": size, "training_tokens": len(tokens)}))


if __name__ == "__main__":
    main()
