#include "rev/train/coupling_settings.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <charconv>
#include <cstdint>
#include <fmt/format.h>
#include <utility>
#include <vector>

#include "models/hf_reader.h"

namespace rev::train {

namespace {

using Memory = engine::Memory;

constexpr std::pair<const char*, at::ScalarType> kStates[] = {
    {"grid", at::kInt}, {"float32", at::kFloat}, {"float64", at::kDouble}};
constexpr std::pair<const char*, Memory> kMemories[] = {
    {"store", Memory::Store}, {"checkpoint", Memory::Checkpoint}, {"invert", Memory::Invert}};

template <class Value, size_t n>
std::string name_of(const std::pair<const char*, Value> (&names)[n], Value value) {
  const auto found =
      std::find_if(names, names + n, [&](const auto& named) { return named.second == value; });
  return found->first;
}

template <class Value, size_t n>
Value choose(const models::HfReader& read, const std::string& setting,
             const std::pair<const char*, Value> (&names)[n]) {
  const auto text = read.get<std::string>(setting);
  const auto found =
      std::find_if(names, names + n, [&](const auto& named) { return text == named.first; });
  TORCH_CHECK(found != names + n, read.where(), ": ", setting, " is \"", text,
              "\", which has no meaning");
  return found->second;
}

std::vector<double> numbers(const models::HfReader& read, const std::string& setting) {
  std::vector<double> all;
  for (const std::string& text : read.get<std::vector<std::string>>(setting)) {
    double x = 0;
    const char* end = text.data() + text.size();
    TORCH_CHECK(!text.empty() && std::from_chars(text.data(), end, x).ptr == end, read.where(),
                ": ", setting, " has \"", text, "\", expected a number");
    all.push_back(x);
  }
  return all;
}

}  // namespace

Settings coupling_settings(const models::Coupling& coupling) {
  const schemes::StateOptions state = coupling.state.value_or(schemes::StateOptions());
  std::vector<std::string> a;
  for (const double x : coupling.a) a.push_back(fmt::format("{}", x));
  return {{"scheme", coupling.scheme},
          {"h", coupling.h},
          {"a-seed", static_cast<int64_t>(coupling.a_seed)},
          {"a-pairs", coupling.a_pairs},
          {"a", a},
          {"inner", coupling.inner},
          {"low-bits", coupling.low_bits},
          {"state", name_of(kStates, state.dtype)},
          {"grid-bits", state.bits},
          {"memory", name_of(kMemories, coupling.memory.value_or(Memory::Invert))}};
}

models::Coupling coupling_from(const Settings& settings, const std::string& where) {
  const models::HfReader read(where, settings);
  models::Coupling coupling;
  coupling.scheme = read.get<std::string>("scheme");
  coupling.h = read.number("h");
  coupling.a_seed = static_cast<uint64_t>(read.get<int64_t>("a-seed"));
  coupling.a_pairs = read.get<bool>("a-pairs");
  coupling.a = numbers(read, "a");
  coupling.inner = read.get<int64_t>("inner");
  coupling.low_bits = read.get<int64_t>("low-bits");
  schemes::StateOptions state;
  state.dtype = choose(read, "state", kStates);
  state.bits = read.get<int64_t>("grid-bits");
  coupling.state = state;
  coupling.memory = choose(read, "memory", kMemories);
  return coupling;
}

}  // namespace rev::train
