#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace rev::data {

/// A sequence of N tokens that lies in memory-mapped files or in memory, read as one. Copies share
/// them.
class TokenSource {
 public:
  /// A run of tokens in memory, 8, 16 or 32 bits wide.
  struct Segment {
    std::shared_ptr<const void> owner;  ///< keeps `data` alive
    const void* data = nullptr;         ///< aligned to `width`
    std::int64_t width = 1;             ///< bytes a token: 1, 2 or 4
    std::int64_t count = 0;             ///< tokens
  };

  /// The segments' tokens one after the other. Every token must be < vocab: who makes the segments
  /// checks it. skipped_files: see `open_tokens`.
  TokenSource(std::vector<Segment> segments, std::int64_t vocab, std::int64_t skipped_files = 0);

  std::int64_t size() const { return size_; }    ///< N
  std::int64_t vocab() const { return vocab_; }  ///< V: every token is in [0, V)

  /// Whether the tokens are bytes of texts: all of them are 8 bits wide.
  bool is_text() const { return is_text_; }

  /// Files that were found in folders and left out since they are not text.
  std::int64_t skipped_files() const { return skipped_files_; }

  /// Writes tokens [begin, begin + count) to out. Throws c10::Error outside of [0, N].
  void read(std::int64_t begin, std::int64_t count, std::int64_t* out) const;

  /// Tokens [begin, end) as a source of its own. Throws c10::Error outside of [0, N].
  TokenSource slice(std::int64_t begin, std::int64_t end) const;

 private:
  struct Placed : Segment {
    std::int64_t begin;  // of its first token
  };

  std::shared_ptr<const std::vector<Placed>> segments_;
  std::int64_t offset_ = 0;
  std::int64_t size_ = 0;
  std::int64_t vocab_ = 0;
  bool is_text_ = true;
  std::int64_t skipped_files_ = 0;
};

/// Splits off the last floor(fraction N) tokens, contiguous, for validation: {training,
/// validation}. 0 < fraction < 1. Throws c10::Error where either part would be empty.
std::pair<TokenSource, TokenSource> split_tokens(const TokenSource& tokens, double fraction);

}  // namespace rev::data
