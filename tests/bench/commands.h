// The tables that rev-bench makes. Each checks what it times or measures before it does.
#pragma once

#include <c10/core/Device.h>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/table.h"

namespace rev::bench {

struct ExactOptions {
  std::vector<std::string> schemes;
  int64_t depth = 1000;
  int64_t channels = 64;  ///< C
  int64_t tokens = 32;    ///< T
  bool bfloat16 = true;   ///< fields under autocast
};

/// For each scheme, on the grid and with float32 states: rows that are not rebuilt bit for bit, and
/// how far the rebuilt input lies from the input. Throws std::runtime_error where a row on the grid
/// is not exact.
Table exact(const ExactOptions& options);

struct MemoryOptions {
  std::string scheme = "midpoint";
  std::vector<int64_t> depths = {4, 16, 64, 256};
  int64_t channels = 512;
  int64_t tokens = 128;
  int64_t batch = 1;
  bool bfloat16 = false;  ///< fields under autocast
  c10::Device device = c10::kCPU;
};

/// Peak bytes of forward and backward above weights and gradients, for each policy and depth, and
/// what exactness keeps in a column of its own (arXiv 2512.02056, figure 3). `lines` gets the
/// picture's. Throws std::runtime_error where, on the CPU, from 4 layers on, the peak of inverting
/// changes by more than 2 % or that of storing is not linear to 2 %.
Table memory(const MemoryOptions& options, std::vector<Series>& lines);

struct StepOptions {
  std::string scheme = "midpoint";
  int64_t layers = 12;
  int64_t channels = 384;
  int64_t tokens = 256;
  int64_t batch = 4;
  int64_t rounds = 7;
  bool bfloat16 = false;
  c10::Device device = c10::kCPU;
};

/// Time of forward, loss, backward and optimizer: every arm once in each round, in turn; ratios
/// within a round, their median and spread.
Table step(const StepOptions& options);

struct KernelsOptions {
  int64_t rows = 4096;     ///< B T
  int64_t channels = 768;  ///< C
  int64_t rounds = 11;
  int64_t pairs = 3;  ///< of calls that are timed together
  c10::Device device = c10::kCPU;
};

/// Bytes a second of the library's operators, and their share of a plain copy's in the same round:
/// median and spread.
Table kernels(const KernelsOptions& options);

struct OperatorsOptions {
  int64_t rows = 2048;     ///< B T
  int64_t channels = 768;  ///< C
  int64_t vocab = 8192;    ///< V
  int64_t rounds = 11;
  int64_t calls = 3;  ///< that are timed together
  bool bfloat16 = false;
  c10::Device device = c10::kCPU;
};

/// Time of the operators of layers, losses and optimizers, and of the operators of LibTorch that
/// give the same results, in turn; ratios within a round, their median and spread.
Table operators(const OperatorsOptions& options);

struct TokenizeOptions {
  std::vector<std::string> tokenizers;  ///< files
  std::vector<std::string> texts;       ///< files
  int64_t rounds = 11;
  std::string python;  ///< one that has tiktoken, tokenizers and transformers; empty: no comparison
};

/// MB (10^6 bytes) of a text that a second of one thread's time makes tokens of: median and spread;
/// and of the Python library that reads the same tokenizer's file (tiktoken, of GPT-2's words, or
/// tokenizers, through transformers for SmolLM2's GGUF). Throws std::runtime_error where that has
/// other tokens.
Table tokenize(const TokenizeOptions& options);

}  // namespace rev::bench
