"""GPT-2 by Hugging Face transformers, to compare with.

make FOLDER   writes a random GPT2LMHeadModel to FOLDER/hf, and tokens with its logits and loss on
              them to FOLDER/expected.safetensors
load FOLDER   loads FOLDER/ours, refusing names that are missing or too many, and writes its logits
              and loss on the same tokens to FOLDER/result.safetensors
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel


def evaluate(model, tokens):
    model.eval()
    with torch.no_grad():
        result = model(tokens, labels=tokens)
    return {"tokens": tokens, "logits": result.logits.contiguous(), "loss": result.loss}


def make(folder):
    torch.manual_seed(1)
    config = GPT2Config(n_layer=3, n_head=4, n_embd=32, n_positions=24, vocab_size=61)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that every part shows
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder / "hf", safe_serialization=True)
    tokens = torch.randint(config.vocab_size, (2, 24))
    save_file(evaluate(model, tokens), folder / "expected.safetensors")


def load(folder):
    model, info = GPT2LMHeadModel.from_pretrained(folder / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    tokens = load_file(folder / "expected.safetensors")["tokens"]
    save_file(evaluate(model, tokens), folder / "result.safetensors")


if __name__ == "__main__":
    {"make": make, "load": load}[sys.argv[1]](Path(sys.argv[2]))
