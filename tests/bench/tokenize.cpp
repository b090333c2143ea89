#include <cstdio>
#include <ctime>
#include <fmt/format.h>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "bench/commands.h"
#include "rev/base/mapped_file.h"
#include "rev/data/open_tokenizer.h"

namespace rev::bench {
namespace {

// What a library that knows the tokenizer's file (of GGUF, SmolLM2's) makes of the text: the number
// of tokens and their sum, then the seconds of each round.
constexpr const char* kReference = R"(
import os, sys, time
os.environ["RAYON_NUM_THREADS"] = "1"
file, text_file, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
if file.endswith(".tiktoken"):
    import tiktoken, tiktoken.load
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    ranks = tiktoken.load.load_tiktoken_bpe(file)
    encode = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary
else:
    from tokenizers import Tokenizer, pre_tokenizers
    if file.endswith(".gguf"):
        from transformers import AutoTokenizer, logging
        logging.set_verbosity_error()
        tokenizer = AutoTokenizer.from_pretrained(os.path.dirname(file), gguf_file=os.path.basename(file)).backend_tokenizer
        # transformers passes over the file's way of splitting: SmolLM2's
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), tokenizer.pre_tokenizer])
    else:
        tokenizer = Tokenizer.from_file(file)
    tokenizer.encode_special_tokens = True  # as ordinary text
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
text = open(text_file, encoding="utf-8", newline="").read()
ids = encode(text)
print(len(ids), sum(ids))
for _ in range(rounds):
    start = time.thread_time()
    encode(text)
    print(time.thread_time() - start)
)";

struct Run {
  int64_t n_tokens = 0, sum = 0;
  std::vector<double> seconds;  // of this thread's, one a round
};

// The processor's time, as others may use it too.
double thread_seconds() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Run run_ours(const data::Tokenizer& tokenizer, std::string_view text, int64_t rounds) {
  Run run;
  const auto encode = [&] { return tokenizer.encode(text, {false, false}); };
  for (const int64_t token : encode()) {
    ++run.n_tokens;
    run.sum += token;
  }
  for (int64_t round = 0; round < rounds; ++round) {
    const double start = thread_seconds();
    encode();
    run.seconds.push_back(thread_seconds() - start);
  }
  return run;
}

Run run_reference(const TokenizeOptions& o, const std::string& tokenizer, const std::string& text) {
  const std::string command = fmt::format(
      "'{}' -c '{}' '{}' '{}' {}", o.python,
      [](std::string script) {  // for the shell
        for (size_t at = 0; (at = script.find('\'', at)) != std::string::npos; at += 4) {
          script.replace(at, 1, "'\\''");
        }
        return script;
      }(kReference),
      tokenizer, text, o.rounds);
  std::string output;
  {
    const auto close = [](std::FILE* pipe) { ::pclose(pipe); };
    const std::unique_ptr<std::FILE, decltype(close)> pipe(::popen(command.c_str(), "r"), close);
    char part[4096];
    while (pipe && std::fgets(part, sizeof part, pipe.get()) != nullptr) output += part;
  }
  std::istringstream words(output);
  Run run;
  words >> run.n_tokens >> run.sum;
  for (double seconds = 0; words >> seconds;) run.seconds.push_back(seconds);
  if (run.seconds.size() != static_cast<size_t>(o.rounds)) {
    throw std::runtime_error(tokenizer + ": Python has no answer");
  }
  return run;
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

Table tokenize(const TokenizeOptions& o) {
  Table table{{"tokenizer", "text", "MB/s", "least", "largest"}, {}};
  if (!o.python.empty()) table.columns.insert(table.columns.end(), {"Python's", "ratio"});
  for (const std::string& name : o.tokenizers) {
    const data::TokenizerPtr tokenizer = data::open_tokenizer(name);
    for (const std::string& path : o.texts) {
      const base::MappedFile text(path);
      const auto speeds = [&](const Run& run) {
        std::vector<double> sample;
        for (const double s : run.seconds)
          sample.push_back(static_cast<double>(text.size()) / s / 1e6);
        return spread(sample);
      };
      const Run ours = run_ours(*tokenizer, text.text(), o.rounds);
      const Spread speed = speeds(ours);
      std::vector<std::string> row = {last_name(name), last_name(path)};
      for (const double s : {speed.median, speed.least, speed.largest}) {
        row.push_back(fmt::format("{:.1f}", s));
      }
      if (!o.python.empty()) {
        const Run theirs = run_reference(o, name, path);
        if (theirs.n_tokens != ours.n_tokens || theirs.sum != ours.sum) {
          throw std::runtime_error(name + ", " + path + ": other tokens than Python's");
        }
        const double reference = speeds(theirs).median;
        row.push_back(fmt::format("{:.1f}", reference));
        row.push_back(fmt::format("{:.1f}", speed.median / reference));
      }
      table.rows.push_back(row);
    }
  }
  return table;
}

}  // namespace rev::bench
