#pragma once

#include <filesystem>
#include <string>

#include "rev/data/tokenizer.h"

namespace rev::data {

/// Opens a tokenizer's file, or the one in a folder, by what it holds:
///
/// - `tokenizer.json` of Hugging Face: BPE and unigram models with the normalisers, splitters and
///   decoders that GPT-2, Llama, Qwen, SmolLM and T5 have. What it names beyond is refused by name.
/// - `vocab.json` or `encoder.json` with `merges.txt` or `vocab.bpe` beside it (either is named):
///   byte-level BPE.
/// - a SentencePiece model (`tokenizer.model`), unigram or BPE. Texts begin with its `<s>` where it
///   has one (EncodeOptions::add_special), as Llama's do.
/// - a `.tiktoken` file: byte-level BPE by rank.
/// - a GGUF file: what its metadata says under `tokenizer.`, of the models gpt2 (byte-level BPE, of
///   the words of GPT-2, SmolLM, Llama 3 and Qwen2), llama (SentencePiece's BPE) and t5 (unigram).
///
/// Of a folder the first of these that it has but for GGUF files, and `tokenizer_config.json`
/// beside any of them for added tokens, bos, eos and the chat template. The file's name counts for
/// nothing but finding it.
///
/// words: how text is split into words where the file does not say: gpt2, smollm, llama3 or qwen2.
/// Unless given, a .tiktoken file of 50256 tokens is gpt2's, of 128000 llama3's, of 151643 qwen2's,
/// and vocab.json is gpt2's, or qwen2's where tokenizer_config.json names that class.
///
/// Throws c10::Error with one sentence that names the file and what it lacks: missing, damaged, of
/// no known kind, or with a part that is not supported.
TokenizerPtr open_tokenizer(const std::filesystem::path& path, const std::string& words = "");

}  // namespace rev::data
