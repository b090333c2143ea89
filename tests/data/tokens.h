#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rev/data/token_source.h"

namespace rev::data {

/// Tokens that lie in memory, cut into segments of `piece` tokens each.
inline TokenSource make_tokens(std::vector<std::uint16_t> tokens, std::int64_t vocab,
                               std::int64_t piece = INT64_MAX) {
  const auto owner = std::make_shared<const std::vector<std::uint16_t>>(std::move(tokens));
  const auto n = static_cast<std::int64_t>(owner->size());
  std::vector<TokenSource::Segment> segments;
  for (std::int64_t begin = 0; begin < n; begin += std::min(piece, n)) {
    segments.push_back({owner, owner->data() + begin, 2, std::min(piece, n - begin)});
  }
  return {std::move(segments), vocab};
}

inline std::vector<std::int64_t> read_all(const TokenSource& tokens) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(tokens.size()));
  tokens.read(0, tokens.size(), all.data());
  return all;
}

/// The tokens as bytes of a text.
inline std::string read_text(const TokenSource& tokens) {
  const std::vector<std::int64_t> all = read_all(tokens);
  return {all.begin(), all.end()};
}

/// Numbers as they lie in a file, little endian.
template <typename Number>
std::string as_bytes(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

}  // namespace rev::data
