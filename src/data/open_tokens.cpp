#include "rev/data/open_tokens.h"

#include <algorithm>
#include <bit>
#include <c10/util/Exception.h>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "rev/base/mapped_file.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "shards are used as they lie in the file, tokens are narrowed to their first bytes");

namespace fs = std::filesystem;
using Segment = TokenSource::Segment;

constexpr std::int64_t kBytes = 256;         // V of texts
constexpr std::int64_t kGpt2Vocab = 50257;   // V of shards unless given
constexpr std::int64_t kMaxVocab16 = 65536;  // V whose tokens have 16 bits
constexpr std::int32_t kMagic = 20240520;    // llm.c's shards of GPT-2 tokens
constexpr std::int32_t kMagic32 = 20240801;  // llm.c's shards of Llama 3 tokens, 32 bits each
constexpr std::int32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 256 * sizeof(std::int32_t);

// Texts below the first size are gathered up to the second: a mapping for each of a large folder's
// files would soon reach the system's limit of 65530 a process.
constexpr std::size_t kMapFrom = 1 << 20;
constexpr std::size_t kGatherUpTo = 64 << 20;

bool ends_in_bin(const fs::path& path) { return path.extension() == ".bin"; }

std::int32_t header_word(const base::MappedFile& file, std::size_t index) {
  std::int32_t word = 0;
  const std::size_t at = index * sizeof(word);
  if (at + sizeof(word) <= file.size()) std::memcpy(&word, file.data() + at, sizeof(word));
  return word;
}

bool has_header(const base::MappedFile& file) {
  const std::int32_t magic = header_word(file, 0);
  return magic == kMagic || magic == kMagic32;
}

// ---- texts

/// Texts one after the other. Of bytes large ones as they are mapped; small ones, and all tokens of
/// a tokenizer, gathered in buffers.
class Texts {
 public:
  explicit Texts(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {
    if (tokenizer != nullptr) width_ = tokenizer->vocab() <= kMaxVocab16 ? 2 : 4;
  }

  void add(std::shared_ptr<const base::MappedFile> file) {
    const std::string_view text = file->text();
    if (tokenizer_ != nullptr) return add_tokens(text);
    if (unfinished_line_) gathered_ += '\n';
    unfinished_line_ = text.back() != '\n';
    if (text.size() < kMapFrom) {
      gathered_ += text;
      if (gathered_.size() >= kGatherUpTo) flush();
    } else {
      flush();
      const auto count = static_cast<std::int64_t>(text.size());
      segments_.push_back({std::move(file), text.data(), 1, count});
    }
  }

  std::vector<Segment> finish() {
    flush();
    return std::move(segments_);
  }

 private:
  void add_tokens(std::string_view text) {
    if (!segments_.empty() || !gathered_.empty()) gather(tokenizer_->between_texts());
    gather(tokenizer_->encode(text, {/*add_special=*/false, /*parse_special=*/false}));
  }
  void gather(const TokenIds& tokens) {
    for (const std::int64_t& token : tokens) {
      gathered_.append(reinterpret_cast<const char*>(&token), static_cast<std::size_t>(width_));
    }
    if (gathered_.size() >= kGatherUpTo) flush();
  }
  void flush() {
    if (gathered_.empty()) return;
    auto text = std::make_shared<const std::string>(std::move(gathered_));
    gathered_.clear();
    const auto bytes = static_cast<std::int64_t>(text->size());
    segments_.push_back({text, text->data(), width_, bytes / width_});
  }

  const Tokenizer* tokenizer_;
  std::int64_t width_ = 1;  // bytes a token
  std::vector<Segment> segments_;
  std::string gathered_;
  bool unfinished_line_ = false;
};

/// The regular files below a folder, without those whose names or folders begin with a dot.
std::vector<fs::path> list_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code broken_link;
    if (entry->path().filename().native().front() == '.') {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(broken_link)) {
      files.push_back(entry->path());
    }
  }
  TORCH_CHECK(!error, folder.string(), ": cannot be searched: ", error.message());
  std::sort(files.begin(), files.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return files;
}

/// Adds the texts below a folder; returns how many files were skipped.
std::int64_t add_folder(const fs::path& folder, Texts& texts) {
  std::int64_t n_texts = 0;
  std::int64_t n_skipped = 0;
  for (const fs::path& path : list_files(folder)) {
    auto file = std::make_shared<const base::MappedFile>(path);
    if (file->size() == 0) continue;
    if (ends_in_bin(path) || find_non_text(file->text()) < file->size()) {
      ++n_skipped;
    } else {
      texts.add(std::move(file));
      ++n_texts;
    }
  }
  TORCH_CHECK(n_texts > 0, folder.string(), ": holds no UTF-8 text (", n_skipped,
              " other files; token shards are named one by one)");
  return n_skipped;
}

void add_text(std::shared_ptr<const base::MappedFile> file, Texts& texts) {
  const std::string_view text = file->text();
  const std::size_t at = find_non_text(text);
  TORCH_CHECK(at == text.size(), file->path().string(), ": not UTF-8 text: byte ",
              static_cast<int>(static_cast<unsigned char>(text[at])), " at offset ", at);
  texts.add(std::move(file));
}

// ---- shards

/// Where the tokens of a shard begin, after a check of its header and size.
std::size_t check_shard_size(const base::MappedFile& file) {
  const std::string name = file.path().string();
  if (!has_header(file)) {
    TORCH_CHECK(file.size() % 2 == 0, name,
                ": expected 16-bit tokens, got an odd number of bytes (", file.size(), ")");
    return 0;
  }
  TORCH_CHECK(header_word(file, 0) == kMagic, name, ": holds 32-bit tokens (magic number ",
              kMagic32, "), expected 16-bit ones");
  TORCH_CHECK(file.size() >= kHeaderBytes, name, ": truncated: ", file.size(),
              " bytes, its header alone has ", kHeaderBytes);
  TORCH_CHECK(header_word(file, 1) == kVersion, name, ": expected version ", kVersion, ", got ",
              header_word(file, 1));
  const std::int64_t count = header_word(file, 2);
  TORCH_CHECK(count > 0, name, ": its header promises ", count, " tokens");
  const std::size_t expected = kHeaderBytes + 2 * static_cast<std::size_t>(count);
  TORCH_CHECK(file.size() == expected, name, ": its header promises ", count, " tokens, that is ",
              expected, " bytes, the file has ", file.size());
  return kHeaderBytes;
}

/// Whether each second token is 0 and not all are: what 32-bit tokens look like.
bool looks_like_32_bits(const std::uint16_t* tokens, std::int64_t count) {
  if (count < 4 || count % 2 != 0) return false;
  std::uint16_t even = 0;
  for (std::int64_t i = 0; i < count; i += 2) {
    if (tokens[i + 1] != 0) return false;
    even |= tokens[i];
  }
  return even != 0;
}

Segment open_shard(std::shared_ptr<const base::MappedFile> file, std::int64_t vocab) {
  const std::string name = file->path().string();
  const std::size_t begin = check_shard_size(*file);
  const auto* tokens = reinterpret_cast<const std::uint16_t*>(file->data() + begin);
  const auto count = static_cast<std::int64_t>((file->size() - begin) / 2);
  TORCH_CHECK(!looks_like_32_bits(tokens, count), name,
              ": looks like 32-bit tokens (each second 16-bit word is 0), expected 16-bit ones");
  // A maximum first: it runs at the speed of memory, a search for the first does not.
  std::uint16_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, tokens[i]);
  if (largest >= vocab) {
    const auto* wrong = std::find_if(tokens, tokens + count, [&](auto t) { return t >= vocab; });
    TORCH_CHECK(false, name, ": token ", *wrong, " at byte offset ",
                begin + 2 * static_cast<std::size_t>(wrong - tokens),
                " is outside of the vocabulary of ", vocab);
  }
  return {std::move(file), tokens, 2, count};
}

}  // namespace

TokenSource open_tokens(const std::vector<fs::path>& paths, std::optional<std::int64_t> vocab,
                        const Tokenizer* tokenizer) {
  TORCH_CHECK(!paths.empty(), "expected at least one path");
  TORCH_CHECK(tokenizer == nullptr || vocab.value_or(tokenizer->vocab()) >= tokenizer->vocab(),
              "expected a vocabulary of at least ", tokenizer->vocab(),
              ", that of the tokenizer, got ", *vocab);
  const auto vocab_or = [&](std::int64_t otherwise) {
    return vocab.value_or(tokenizer == nullptr ? otherwise : tokenizer->vocab());
  };
  Texts texts(tokenizer);
  std::vector<Segment> shards;
  const fs::path* text_path = nullptr;
  const fs::path* shard_path = nullptr;
  std::int64_t skipped = 0;
  for (const fs::path& path : paths) {
    std::error_code ignored;
    TORCH_CHECK(fs::exists(path, ignored), path.string(), ": no such file or folder");
    if (fs::is_directory(path, ignored)) {
      text_path = &path;
      skipped += add_folder(path, texts);
      continue;
    }
    auto file = std::make_shared<const base::MappedFile>(path);
    TORCH_CHECK(file->size() > 0, path.string(), ": empty file");
    if (ends_in_bin(path) || has_header(*file)) {
      shard_path = &path;
      shards.push_back(open_shard(std::move(file), vocab_or(kGpt2Vocab)));
    } else {
      text_path = &path;
      add_text(std::move(file), texts);
    }
  }
  TORCH_CHECK(text_path == nullptr || shard_path == nullptr, shard_path->string(),
              " holds tokens but ", text_path->string(), " is text");
  if (shard_path != nullptr) return {std::move(shards), vocab_or(kGpt2Vocab)};
  TORCH_CHECK(tokenizer != nullptr || vocab_or(kBytes) >= kBytes,
              "expected a vocabulary of at least ", kBytes,
              " for text, which is read as bytes, got ", *vocab);
  return {texts.finish(), vocab_or(kBytes), skipped};
}

}  // namespace rev::data
