// rev-bench: the tables behind README's numbers.
//
//   rev-bench exact     are states rebuilt bit for bit, on the grid and as float32?
//   rev-bench memory    peak bytes of forward and backward against depth
//   rev-bench step      time of a training step: ratios between policies and states
//   rev-bench kernels   bytes a second of states' operators, against a plain copy
//   rev-bench operators time of the other operators, against LibTorch's
//   rev-bench tokenize  bytes of text a second that become tokens, against Python's libraries
#include <torch/torch.h>

#include "bench/commands.h"
#include "command_line.h"
#include "rev/io/file.h"
#include "rev/models/coupling.h"

namespace {

using namespace rev;

std::vector<std::string> reversible_schemes() {
  std::vector<std::string> names = models::scheme_names();
  names.erase(std::find(names.begin(), names.end(), "residual"));
  return names;
}

const std::vector<std::string> kSchemes = reversible_schemes();

// --device of a table.
struct DeviceOption {
  std::string name = "cpu";

  explicit DeviceOption(const AddTo& add) {
    add("device", name, one_of({"cpu", "cuda"}), "where it is measured");
  }
  c10::Device device() const { return choose_device(name); }
};

// Reads what every table takes beside its own options, makes the table, and writes it.
template <class Make>
int run_table(CLI::App& app, int argc, char** argv, const Make& make) {
  int64_t threads = at::get_num_threads();
  std::string tsv;
  const AddTo add{app};
  add("threads", threads, kThreads, "CPU threads");
  add("tsv", tsv, text("FILE"), "also written to FILE, tab separated");
  if (!parse(app, argc, argv)) return 0;
  at::set_num_threads(static_cast<int>(threads));
  const bench::Table table = make();
  std::fputs(table.text().c_str(), stdout);
  if (!tsv.empty()) io::write_file_atomically(tsv, table.tsv());
  return 0;
}

int exact(int argc, char** argv) {
  bench::ExactOptions o{kSchemes};
  CLI::App app("Are states rebuilt bit for bit, on the grid and as float32?", "rev-bench exact");
  const AddTo add{app};
  add("schemes", o.schemes, one_of(kSchemes), "schemes; all unless given");
  add("depth", o.depth, whole(1), "layers");
  add("channels", o.channels, whole(2), "C");
  add("tokens", o.tokens, whole(1), "T");
  add("bfloat16", o.bfloat16, text(""), "evaluate fields under bfloat16 autocast");
  return run_table(app, argc, argv, [&] { return bench::exact(o); });
}

int memory(int argc, char** argv) {
  bench::MemoryOptions o;
  std::string svg;
  CLI::App app("Peak bytes of forward and backward against depth.", "rev-bench memory");
  const AddTo add{app};
  add("scheme", o.scheme, one_of(kSchemes), "scheme");
  add("depths", o.depths, whole(1), "layers; 4 16 64 256 unless given");
  add("channels", o.channels, multiple_of(64), "C, a multiple of 64");
  add("tokens", o.tokens, whole(1), "T");
  add("batch", o.batch, whole(1), "B");
  add("bfloat16", o.bfloat16, text(""), "bfloat16 autocast");
  add("svg", svg, text("FILE"), "write the picture to FILE");
  const DeviceOption device(add);
  std::vector<bench::Series> lines;
  const int code = run_table(app, argc, argv, [&] {
    o.device = device.device();
    return bench::memory(o, lines);
  });
  if (!svg.empty() && !lines.empty()) {
    io::write_file_atomically(
        svg, bench::log_log_svg("Peak of forward and backward above weights and gradients",
                                "layers", "MiB", lines));
  }
  return code;
}

int step(int argc, char** argv) {
  bench::StepOptions o;
  CLI::App app("Time of a training step: ratios between policies and states.", "rev-bench step");
  const AddTo add{app};
  add("scheme", o.scheme, one_of(kSchemes), "scheme");
  add("layers", o.layers, whole(1), "L");
  add("channels", o.channels, multiple_of(64), "C, a multiple of 64");
  add("tokens", o.tokens, whole(1), "T");
  add("batch", o.batch, whole(1), "B");
  add("rounds", o.rounds, whole(1), "rounds that are counted");
  add("bfloat16", o.bfloat16, text(""), "bfloat16 autocast");
  const DeviceOption device(add);
  return run_table(app, argc, argv, [&] {
    o.device = device.device();
    return bench::step(o);
  });
}

int measure_kernels(int argc, char** argv) {
  bench::KernelsOptions o;
  CLI::App app("Bytes a second of states' operators, against a plain copy.", "rev-bench kernels");
  const AddTo add{app};
  add("rows", o.rows, whole(1), "rows, B T");
  add("channels", o.channels, whole(1), "C");
  add("rounds", o.rounds, whole(1), "rounds that are counted");
  const DeviceOption device(add);
  return run_table(app, argc, argv, [&] {
    o.device = device.device();
    return bench::kernels(o);
  });
}

int measure_operators(int argc, char** argv) {
  bench::OperatorsOptions o;
  CLI::App app("Time of the operators of layers, losses and optimizers, against LibTorch's.",
               "rev-bench operators");
  const AddTo add{app};
  add("rows", o.rows, whole(1), "rows, B T");
  add("channels", o.channels, whole(1), "C");
  add("vocab", o.vocab, whole(1), "V");
  add("rounds", o.rounds, whole(1), "rounds that are counted");
  add("bfloat16", o.bfloat16, text(""), "activations and logits in bfloat16");
  const DeviceOption device(add);
  return run_table(app, argc, argv, [&] {
    o.device = device.device();
    return bench::operators(o);
  });
}

int measure_tokenizers(int argc, char** argv) {
  bench::TokenizeOptions o;
  CLI::App app("Bytes of text a second that become tokens, on one thread.", "rev-bench tokenize");
  const AddTo add{app};
  add("tokenizers", o.tokenizers, text("FILE..."), "tokenizers' files (needed)");
  add("texts", o.texts, text("FILE..."), "texts (needed)");
  add("rounds", o.rounds, whole(1), "rounds that are counted");
  add("python", o.python, text("FILE"),
      "a Python with tiktoken, tokenizers and transformers, to compare with");
  return run_table(app, argc, argv, [&] {
    TORCH_CHECK(!o.tokenizers.empty() && !o.texts.empty(), "--tokenizers and --texts are needed");
    return bench::tokenize(o);
  });
}

const char kUsage[] =
    "rev-bench exact [OPTIONS]   are states rebuilt bit for bit, on the grid and as float32?\n"
    "rev-bench memory [OPTIONS]  peak bytes of forward and backward against depth\n"
    "rev-bench step [OPTIONS]    time of a training step: ratios between policies and states\n"
    "rev-bench kernels [OPTIONS] bytes a second of states' operators, against a plain copy\n"
    "rev-bench operators [OPTIONS]  time of the other operators, against LibTorch's\n"
    "rev-bench tokenize [OPTIONS]  bytes of text a second that become tokens\n"
    "Each tells its options with --help.\n";

}  // namespace

int main(int argc, char** argv) {
  return run_program("rev-bench",
                     {{"exact", exact},
                      {"memory", memory},
                      {"step", step},
                      {"kernels", measure_kernels},
                      {"operators", measure_operators},
                      {"tokenize", measure_tokenizers}},
                     kUsage, argc, argv);
}
