// rev-bench: the tables behind README's numbers.
//
//   rev-bench exact     are states rebuilt bit for bit, on the grid and as float32?
//   rev-bench memory    peak bytes of forward and backward against depth
//   rev-bench step      time of a training step: ratios between policies and states
#include <torch/torch.h>

#include "bench/commands.h"
#include "command_line.h"
#include "rev/io/file.h"

namespace {

using namespace rev;

const std::vector<std::string> kSchemes = {"midpoint", "midpoint-a", "leapfrog", "hamiltonian",
                                           "revffn"};

// What every table takes, and where it goes.
struct Output {
  int64_t threads = at::get_num_threads();
  std::string tsv, svg;

  void add_to(const AddTo& add) {
    add("threads", threads, whole(1), "CPU threads");
    add("tsv", tsv, text("FILE"), "also written to FILE, tab separated");
  }

  void write(const bench::Table& table, const std::vector<bench::Series>& lines = {}) const {
    std::fputs(table.text().c_str(), stdout);
    if (!tsv.empty()) io::write_file_atomically(tsv, table.tsv());
    if (svg.empty()) return;
    io::write_file_atomically(
        svg, bench::log_log_svg("Peak of forward and backward above weights and gradients",
                                "layers", "MiB", lines));
  }
};

int exact(int argc, char** argv) {
  bench::ExactOptions o{kSchemes};
  Output out;
  CLI::App app("Are states rebuilt bit for bit, on the grid and as float32?", "rev-bench exact");
  const AddTo add{app};
  add("schemes", o.schemes, one_of(kSchemes), "schemes; all unless given");
  add("depth", o.depth, whole(1), "layers");
  add("channels", o.channels, whole(2), "C");
  add("tokens", o.tokens, whole(1), "T");
  add("bfloat16", o.bfloat16, text(""), "evaluate fields under bfloat16 autocast");
  out.add_to(add);
  if (!parse(app, argc, argv)) return 0;
  at::set_num_threads(static_cast<int>(out.threads));
  out.write(bench::exact(o));
  return 0;
}

int memory(int argc, char** argv) {
  bench::MemoryOptions o;
  Output out;
  CLI::App app("Peak bytes of forward and backward against depth.", "rev-bench memory");
  const AddTo add{app};
  add("scheme", o.scheme, one_of(kSchemes), "scheme");
  add("depths", o.depths, whole(1), "layers; 4 16 64 256 unless given");
  add("channels", o.channels, whole(64), "C, a multiple of 64");
  add("tokens", o.tokens, whole(1), "T");
  add("batch", o.batch, whole(1), "B");
  add("bfloat16", o.bfloat16, text(""), "bfloat16 autocast");
  add("svg", out.svg, text("FILE"), "write the picture to FILE");
  out.add_to(add);
  if (!parse(app, argc, argv)) return 0;
  at::set_num_threads(static_cast<int>(out.threads));
  std::vector<bench::Series> lines;
  const bench::Table table = bench::memory(o, lines);
  out.write(table, lines);
  return 0;
}

int step(int argc, char** argv) {
  bench::StepOptions o;
  Output out;
  CLI::App app("Time of a training step: ratios between policies and states.", "rev-bench step");
  const AddTo add{app};
  add("scheme", o.scheme, one_of(kSchemes), "scheme");
  add("layers", o.layers, whole(1), "L");
  add("channels", o.channels, whole(64), "C, a multiple of 64");
  add("tokens", o.tokens, whole(1), "T");
  add("batch", o.batch, whole(1), "B");
  add("rounds", o.rounds, whole(1), "rounds that are counted");
  add("bfloat16", o.bfloat16, text(""), "bfloat16 autocast");
  out.add_to(add);
  if (!parse(app, argc, argv)) return 0;
  at::set_num_threads(static_cast<int>(out.threads));
  out.write(bench::step(o));
  return 0;
}

const char kUsage[] =
    "rev-bench exact [OPTIONS]   are states rebuilt bit for bit, on the grid and as float32?\n"
    "rev-bench memory [OPTIONS]  peak bytes of forward and backward against depth\n"
    "rev-bench step [OPTIONS]    time of a training step: ratios between policies and states\n"
    "Each tells its options with --help.\n";

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "exact") return exact(argc - 1, argv + 1);
  if (command == "memory") return memory(argc - 1, argv + 1);
  if (command == "step") return step(argc - 1, argv + 1);
  if (command == "--help" || command == "-h") return std::fputs(kUsage, stdout), 0;
  TORCH_CHECK(!command.empty(), "a command is needed: exact, memory or step (--help tells more)");
  TORCH_CHECK(false, "unknown command ", command, "; did you mean ",
              train::nearest_name(command, {"exact", "memory", "step", "--help"}), "?");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "rev-bench: %s\n", error.what_without_backtrace());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rev-bench: %s\n", error.what());
    return 1;
  }
}
