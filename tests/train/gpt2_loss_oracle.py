"""gpt2_loss_oracle.py DIR TEXT SEQ: loads DIR by Hugging Face transformers, refusing names that are
missing or too many, and prints its mean loss, nats a byte, over TEXT's windows of SEQ + 1 bytes, of
which each begins where the one before ends."""

import sys
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

folder, text, seq = sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
model, info = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
model.eval()

tokens = torch.tensor(list(text))
windows = tokens.unfold(0, seq + 1, seq)
with torch.no_grad():
    logits = model(windows[:, :-1]).logits
print(torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item())
