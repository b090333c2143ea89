"""Llama by Hugging Face transformers, to compare with.

random FOLDER         writes small random models of several kinds to FOLDER/NAME
stories FILE FOLDER   writes llama2.c's model FILE to FOLDER/stories260K
gguf FILE FOLDER      evaluates the GGUF file FILE
load FOLDER           loads FOLDER/ours, refusing names that are missing or too many

Each writes what the model makes of some tokens to a file of tensors: `tokens`, their `logits`, their
mean `loss`, `grad.NAME` of parameters, and for trained models `prompt` and `greedy`, the 200 tokens
that are likeliest after it. The file is FOLDER/NAME.safetensors, FOLDER/gguf.safetensors or
FOLDER/result.safetensors.
"""

import struct
import sys
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

SIZES = dict(num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, hidden_size=48,
             intermediate_size=72, vocab_size=61, max_position_embeddings=64, rms_norm_eps=1e-5)
KINDS = {
    "tied": dict(tie_word_embeddings=True),
    "biases": dict(attention_bias=True, mlp_bias=True, rope_theta=500.0),
    "llama3": dict(rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                                     high_freq_factor=4.0, original_max_position_embeddings=24)),
    "linear": dict(rope_scaling=dict(rope_type="linear", factor=2.5)),
    "wide_heads": dict(head_dim=14, num_key_value_heads=6, eos_token_id=[3, 4]),
}


def evaluate(model, tokens, names=lambda name: True):
    model = model.float().eval()
    result = model(tokens, labels=tokens)
    result.loss.backward()
    tensors = {"tokens": tokens, "logits": result.logits.detach().contiguous(), "loss": result.loss.detach()}
    for name, parameter in model.named_parameters():
        if names(name):
            tensors["grad." + name] = parameter.grad
    return tensors


def greedy(model, prompt, n=200):
    prompt = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                               min_new_tokens=n, max_new_tokens=n, pad_token_id=0)
    return {"prompt": prompt, "greedy": whole[0, prompt.shape[1]:].contiguous()}


def random(folder):
    for name, options in KINDS.items():
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**(SIZES | options)))
        with torch.no_grad():
            for parameter in model.parameters():  # large enough that every part shows
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        shards = dict(max_shard_size="100KB") if name == "biases" else {}
        model.save_pretrained(folder / name, **shards)
        tokens = torch.randint(SIZES["vocab_size"], (2, 64))
        save_file(evaluate(model, tokens), folder / f"{name}.safetensors")


def read_llama2c(path):
    data = path.read_bytes()
    c, f, layers, heads, kv_heads, vocab, seq = struct.unpack("7i", data[:28])
    numbers = torch.from_numpy(numpy.frombuffer(data, dtype=numpy.float32, offset=28).copy())
    at = 0

    def take(*sizes):
        nonlocal at
        n = int(numpy.prod(sizes))
        at += n
        return numbers[at - n : at].view(*sizes)

    d = c // heads
    halves = lambda w, n: w.view(n, d // 2, 2, c).transpose(1, 2).reshape(n * d, c)  # turned pairs
    state = {"model.embed_tokens.weight": take(vocab, c)}
    parts = [("input_layernorm", (c,)), ("self_attn.q_proj", (heads * d, c)),
             ("self_attn.k_proj", (kv_heads * d, c)), ("self_attn.v_proj", (kv_heads * d, c)),
             ("self_attn.o_proj", (c, heads * d)), ("post_attention_layernorm", (c,)),
             ("mlp.gate_proj", (f, c)), ("mlp.down_proj", (c, f)), ("mlp.up_proj", (f, c))]
    for name, sizes in parts:
        for layer, w in enumerate(take(layers, *sizes)):
            if name.endswith(("q_proj", "k_proj")):
                w = halves(w, sizes[0] // d)
            state[f"model.layers.{layer}.{name}.weight"] = w.contiguous()
    state["model.norm.weight"] = take(c)
    config = LlamaConfig(num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
                         hidden_size=c, intermediate_size=f, vocab_size=vocab, max_position_embeddings=seq,
                         rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def stories(path, folder):
    model = read_llama2c(path)
    model.save_pretrained(folder / "stories260K")
    written = greedy(model, [1])
    tokens = torch.cat([torch.tensor([1]), written["greedy"]])[None, :128]
    save_file(evaluate(model, tokens) | written, folder / "stories260K.safetensors")


def gguf(path, folder):
    # What from_pretrained(gguf_file=...) does, which asks for one more package.
    model = LlamaForCausalLM(AutoConfig.from_pretrained(path.parent, gguf_file=path.name))
    state = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    model.tie_weights()
    written = greedy(model, [6403, 1980, 253, 655, 28])  # "Once upon a time,"
    tokens = torch.cat([written["prompt"][0], written["greedy"]])[None, :64]
    some = lambda name: "norm" in name or ".layers.0." in name or ".layers.29." in name
    save_file(evaluate(model, tokens, some) | written, folder / "gguf.safetensors")


def load(folder):
    model, info = LlamaForCausalLM.from_pretrained(folder / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    torch.manual_seed(2)
    tokens = torch.randint(model.config.vocab_size, (2, 24))
    save_file(evaluate(model, tokens), folder / "result.safetensors")


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    {"random": random, "stories": stories, "gguf": gguf, "load": load}[verb](*map(Path, paths))
