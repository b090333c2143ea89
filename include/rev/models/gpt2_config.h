#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rev/engine/stack.h"
#include "rev/schemes/scheme.h"

namespace rev::models {

/// Everything that makes a GPT-2: its sizes, and how its layers are coupled and kept.
struct Gpt2Config {
  int64_t layers = 12;     ///< L
  int64_t heads = 12;      ///< H, a divisor of channels
  int64_t channels = 768;  ///< C
  int64_t seq = 1024;      ///< the most tokens in a sequence
  int64_t vocab = 50257;   ///< V
  double dropout = 0;      ///< of embeddings, attention weights and each branch's result
  bool bias = true;        ///< in linear maps and norms

  /// residual, midpoint, midpoint-a, leapfrog, hamiltonian or revffn (`scheme_names`).
  std::string scheme = "midpoint";
  double h = 0.5;       ///< step of midpoint, midpoint-a and leapfrog
  uint64_t a_seed = 0;  ///< midpoint-a: seed of the weights
  /// midpoint-a: weights are drawn in pairs of reciprocals, see `schemes::MidpointA::draw_pairs`.
  bool a_pairs = false;
  /// midpoint-a: L weights, drawn where empty; hamiltonian: one, 1 where empty.
  std::vector<double> a;
  int64_t low_bits = 0;  ///< revffn: see `schemes::RevFFNOptions`

  /// How states are held: the grid of 2^-16 (float32 for residual) unless given.
  std::optional<schemes::StateOptions> state;
  /// Of every layer, see `engine::Stack::set_memory`: inverted (stored for residual) unless given.
  std::optional<engine::Memory> memory;

  /// The sizes named tiny (4 layers of 128 channels, 4 heads, 64 bytes), gpt2 (124M parameters),
  /// gpt2-medium (355M), gpt2-large (774M) or gpt2-xl (1558M). Throws c10::Error for another name.
  static Gpt2Config preset(const std::string& name);
};

/// Throws c10::Error with one sentence where a size is not positive, sizes do not divide, or a
/// probability is outside of [0,1).
void check(const Gpt2Config& config);

/// What `Gpt2Config::scheme` may be.
const std::vector<std::string>& scheme_names();

/// The scheme that the config names. Throws c10::Error for an unknown name, or options that do not
/// fit.
std::shared_ptr<schemes::Scheme> make_scheme(const Gpt2Config& config);

/// A value of `config.json` (null, or one of these).
using HfValue =
    std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<std::string>>;

/// The model as keys of Hugging Face's `config.json`. Scheme residual: `GPT2LMHeadModel` builds the
/// same model from them. It knows no other scheme: for those model_type is "rev-gpt2" and
/// architectures is left out, so that none is taken for a residual model.
std::map<std::string, HfValue> hf_config(const Gpt2Config& config);

/// The sizes, dropout and names of a Hugging Face GPT-2, scheme residual; keys that do not matter
/// here are passed over. Throws c10::Error naming a key that is missing, of another type, or of a
/// value that this model has no part for.
Gpt2Config from_hf_config(const std::map<std::string, HfValue>& keys);

}  // namespace rev::models
