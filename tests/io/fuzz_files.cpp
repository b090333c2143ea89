// Damages whole files at random and loads what is left of them with every reader of tensors. Each
// must load, or be refused with one sentence that names the file, without more memory than a
// multiple of its size.
//
// fuzz-files --count 1000000 --seed 7; a failure says which file it was, and --first N --count 1
// repeats it. Most telling when built with -fsanitize=address,undefined.
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <c10/util/Exception.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "io/gguf_bytes.h"
#include "rev/base/memory_stats.h"
#include "rev/io/gguf.h"
#include "rev/io/safetensors.h"
#include "rev/io/sharded_safetensors.h"
#include "support/temp_folder.h"

// ---- the largest piece of memory that was asked for

namespace {
std::atomic<std::size_t> largest_piece{0};
}  // namespace

// Not inlined: GCC would take their malloc and free for mistakes of whoever calls new and delete.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  std::size_t largest = largest_piece;
  while (bytes > largest && !largest_piece.compare_exchange_weak(largest, bytes)) {
  }
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace rev::io {
namespace {

using Random = std::mt19937_64;
namespace fs = std::filesystem;

std::size_t below(std::size_t n, Random& random) { return static_cast<std::size_t>(random() % n); }

template <class T>
const T& any_of(const std::vector<T>& list, Random& random) {
  return list[below(list.size(), random)];
}

// ---- damage

/// What headers are made of, and numbers at the ends of their ranges.
std::vector<std::string> make_pieces() {
  std::vector<std::string> pieces = {"0",
                                     "-1",
                                     "4",
                                     "9223372036854775807",
                                     "18446744073709551615",
                                     "1e308",
                                     "[",
                                     "]",
                                     "{",
                                     "}",
                                     "\"",
                                     ",",
                                     ":",
                                     "null",
                                     "\"a\"",
                                     "\"dtype\"",
                                     "\"BOOL\"",
                                     "\"F64\"",
                                     "\\u0000",
                                     "../",
                                     "\xff",
                                     "[0,8]",
                                     "\"weight_map\"",
                                     "\"one\"",
                                     "GGUF",
                                     text("general.alignment"),
                                     text("")};
  for (const std::uint64_t number :
       {0ull, 1ull, 2ull, 5ull, 31ull, 32ull, 255ull, 256ull, 65536ull, 1ull << 31, 1ull << 32,
        1ull << 40, 1ull << 61, 1ull << 62, 1ull << 63}) {
    for (const std::uint64_t near : {number - 1, number, number + 1}) {
      pieces.push_back(u64(near));
      pieces.push_back(u32(static_cast<std::uint32_t>(near)));
    }
  }
  for (std::uint32_t type = 0; type < 45; ++type) pieces.push_back(u32(type));
  return pieces;
}

/// Changes one to three places, most of them in the first `header_bytes`.
std::string damage(std::string file, std::size_t header_bytes, const std::string& other,
                   Random& random) {
  static const std::vector<std::string> pieces = make_pieces();
  for (std::size_t n = 1 + below(3, random); n > 0 && !file.empty(); --n) {
    const bool in_header = below(8, random) != 0;
    const std::size_t at =
        below(in_header ? std::min(header_bytes, file.size()) : file.size(), random);
    const std::string& piece = any_of(pieces, random);
    switch (below(8, random)) {
      case 0:
        file[at] = static_cast<char>(file[at] ^ 1 << below(8, random));
        break;
      case 1:
        file[at] = static_cast<char>(random());
        break;
      case 2:
        if (below(4, random) == 0) file.resize(at);
        break;
      case 3:
        file.erase(at, 1 + below(16, random));
        break;
      case 4:
        file.insert(at, piece);
        break;
      case 5:  // over as many bytes: what follows stays where it is
        file.replace(at, piece.size(), piece);
        break;
      case 6:
        file.replace(at, 1 + below(8, random), piece);
        break;
      case 7: {  // a part of this file or of another
        const std::string& from = below(2, random) == 0 ? file : other;
        const std::string part = from.substr(below(from.size(), random), 1 + below(64, random));
        file.replace(at, below(2, random) == 0 ? part.size() : 0, part);
        break;
      }
    }
  }
  return file;
}

/// A header's length that fits again, so that what comes after it is reached.
void mend_length(std::string& file) {
  const std::size_t end = file.rfind('}');
  if (end == std::string::npos || end <= 8) return;
  const std::uint64_t length = end + 1 - 8;
  std::memcpy(file.data(), &length, 8);
}

// ---- loading

std::uint64_t sum_bytes(const at::Tensor& tensor) {
  const auto* bytes = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < tensor.nbytes(); ++i) sum += bytes[i];
  return sum;
}

std::uint64_t read_gguf(const fs::path& path) {
  const GgufFile file(path);
  std::uint64_t sum = 0;
  for (const auto& [name, value] : file.metadata()) {
    if (value.value.index() == 8) sum += file.get<std::string>(name).size();
  }
  for (const auto& [name, tensor] : file.tensors()) sum += sum_bytes(file.load(name));
  return sum;
}

std::uint64_t read_safetensors(const fs::path& path) {
  std::uint64_t sum = load_safetensors_metadata(path).size();
  for (const auto& [name, tensor] : load_safetensors(path)) sum += sum_bytes(tensor);
  return sum;
}

std::uint64_t read_shards(const fs::path& path) {
  std::uint64_t sum = 0;
  for (const auto& [name, tensor] : load_sharded_safetensors(path)) sum += sum_bytes(tensor);
  return sum;
}

struct Format {
  const char* name;
  std::string whole;
  std::size_t header_bytes;
  bool length_first;  // of the header, before it
  std::uint64_t (*read)(const fs::path&);
  std::int64_t n_loaded = 0, n_refused = 0;
};

std::vector<Format> make_formats(const support::TempFolder& folder) {
  const std::string small =
      padded(header(2, 1) + key("a", kArrayOf, array(kString, 2, text("x") + text("yz"))) +
             tensor("p", {3, 2}, 0, 0) + tensor("q", {32, 2}, 2, 32)) +
      std::string(68, '\1');
  const std::string large = whole_gguf(1);
  support::write_bytes(folder / "t", large);
  const std::size_t large_header = GgufFile(folder / "t").tensors().at("F32").offset;
  base::NamedTensors tensors;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kUInt64, at::kByte, at::kBool}) {
    tensors.emplace_back(c10::toString(dtype), at::ones({2, 3}, dtype));
  }
  save_safetensors(folder / "t", tensors, {{"format", "pt"}});
  const std::string safetensors = support::read_bytes(folder / "t");
  save_safetensors(folder / "one", {{"a", at::ones({2})}, {"b", at::zeros({3})}});
  save_safetensors(folder / "two", {{"c", at::ones({4})}});
  const std::string index =
      R"({"metadata": {"total_size": 36}, "weight_map": {"a": "one", "b": "one", "c": "two"}})";
  return {{"large.gguf", large, large_header, false, read_gguf},
          {"small.gguf", small, small.size() - 68, false, read_gguf},
          {"t.safetensors", safetensors, safetensors.rfind('}'), true, read_safetensors},
          {"index.json", index, index.size(), false, read_shards}};
}

/// What is wrong with how a file was read; empty where nothing is.
std::string read(Format& format, const support::TempFolder& folder, std::size_t file_bytes) {
  // A tensor of Q2_K is 12 times its blocks; strings, nodes of JSON and messages have some bytes
  // each.
  const std::size_t bound = 64 * file_bytes + 65536;
  largest_piece = 0;
  base::reset_peak_memory();
  const std::int64_t before = base::memory_stats().live_bytes;
  try {
    format.read(folder / format.name);
    ++format.n_loaded;
  } catch (const c10::Error& error) {
    ++format.n_refused;
    const std::string message = error.what_without_backtrace();
    if (message.rfind(folder.path().string(), 0) != 0) return "names no file: " + message;
    if (message.find('\n') != std::string::npos) return "is more than a line: " + message;
    if (message.size() > 1000) return "is long: " + message;
  } catch (const std::exception& error) {
    return std::string("throws something else: ") + error.what();
  }
  const std::size_t tensor_bytes =
      static_cast<std::size_t>(base::memory_stats().peak_bytes - before);
  if (largest_piece > bound || tensor_bytes > bound) {
    return c10::str("asks for ", std::max(largest_piece.load(), tensor_bytes),
                    " bytes, the file has ", file_bytes);
  }
  return "";
}

int run(std::uint64_t seed, std::uint64_t first, std::uint64_t count) {
  const support::TempFolder folder;
  base::count_memory();
  std::vector<Format> formats = make_formats(folder);
  for (Format& format : formats) {
    support::write_bytes(folder / format.name, format.whole);
    const std::string wrong = read(format, folder, format.whole.size());
    if (!wrong.empty() || format.n_loaded != 1) {
      std::printf("%s, undamaged, %s\n", format.name, wrong.c_str());
      return 1;
    }
  }
  for (std::uint64_t i = first; i < first + count; ++i) {
    Random random(seed * 1'000'003 + i);
    Format& format = formats[i % formats.size()];
    std::string file =
        damage(format.whole, format.header_bytes, any_of(formats, random).whole, random);
    if (format.length_first && below(2, random) == 0) mend_length(file);
    support::write_bytes(folder / format.name, file);
    const std::string wrong = read(format, folder, file.size());
    if (!wrong.empty()) {
      std::printf("--seed %llu --first %llu: %s %s\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(i), format.name, wrong.c_str());
      return 1;
    }
  }
  bool telling = true;
  for (const Format& format : formats) {
    std::printf("%-14s %lld loaded, %lld refused\n", format.name,
                static_cast<long long>(format.n_loaded), static_cast<long long>(format.n_refused));
    // Neither all refused (then only the first bytes were tried) nor all loaded.
    telling &= count < 1000 || (format.n_loaded > 10 && format.n_refused > 10);
  }
  return telling ? 0 : 1;
}

}  // namespace
}  // namespace rev::io

int main(int argc, char** argv) {
  CLI::App app("Loads damaged files; ends with 1 where one is neither loaded nor refused cleanly.");
  std::uint64_t seed = 1, first = 0, count = 4000;
  app.add_option("--seed", seed, "what the damage is drawn from")->capture_default_str();
  app.add_option("--first", first, "number of the first file")->capture_default_str();
  app.add_option("--count", count, "files to damage and load")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return rev::io::run(seed, first, count);
}
