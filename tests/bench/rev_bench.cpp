// rev-bench: the tables behind README's numbers.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <torch/torch.h>

#include "bench/commands.h"

namespace {

void write(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << text;
  file.close();
  TORCH_CHECK(file.good(), "cannot write ", path);
}

}  // namespace

int main(int argc, char** argv) {
  namespace bench = rev::bench;
  CLI::App app{"Measures what rev claims, and prints tables."};
  app.require_subcommand(1);
  int threads = at::get_num_threads();
  std::string tsv, svg;
  app.add_option("--threads", threads, "CPU threads")->capture_default_str();

  bench::ExactOptions exact{{"midpoint", "midpoint-a", "leapfrog", "hamiltonian", "revffn"}};
  bool float32 = false;
  auto* exact_command =
      app.add_subcommand("exact", "are states rebuilt bit for bit, on the grid and as float32?");
  exact_command->add_option("--schemes", exact.schemes, "schemes")->capture_default_str();
  exact_command->add_option("--depth", exact.depth, "layers")->capture_default_str();
  exact_command->add_option("--channels", exact.channels, "C")->capture_default_str();
  exact_command->add_option("--tokens", exact.tokens, "T")->capture_default_str();
  exact_command->add_flag("--float32", float32,
                          "evaluate fields in float32 instead of bfloat16 autocast");

  bench::MemoryOptions memory;
  auto* memory_command =
      app.add_subcommand("memory", "peak bytes of forward and backward against depth");
  memory_command->add_option("--scheme", memory.scheme, "scheme")->capture_default_str();
  memory_command->add_option("--depths", memory.depths, "layers")->capture_default_str();
  memory_command->add_option("--channels", memory.channels, "C")->capture_default_str();
  memory_command->add_option("--tokens", memory.tokens, "T")->capture_default_str();
  memory_command->add_option("--batch", memory.batch, "B")->capture_default_str();
  memory_command->add_option("--svg", svg, "write the picture to this file");

  bench::StepOptions step;
  auto* step_command =
      app.add_subcommand("step", "time of a training step: ratios between policies and states");
  step_command->add_option("--scheme", step.scheme, "scheme")->capture_default_str();
  step_command->add_option("--layers", step.layers, "L")->capture_default_str();
  step_command->add_option("--channels", step.channels, "C")->capture_default_str();
  step_command->add_option("--tokens", step.tokens, "T")->capture_default_str();
  step_command->add_option("--batch", step.batch, "B")->capture_default_str();
  step_command->add_option("--rounds", step.rounds, "rounds that are counted")
      ->capture_default_str();
  step_command->add_flag("--bfloat16", step.bfloat16, "bfloat16 autocast");

  for (CLI::App* command : {exact_command, memory_command, step_command}) {
    command->add_option("--tsv", tsv, "write the table to this file, tab separated");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    at::set_num_threads(threads);
    std::vector<bench::Series> lines;
    exact.bfloat16 = !float32;
    const bench::Table table = *exact_command    ? bench::exact(exact)
                               : *memory_command ? bench::memory(memory, lines)
                                                 : bench::step(step);
    std::cout << table.text();
    write(tsv, table.tsv());
    write(svg, bench::log_log_svg("Peak of forward and backward above weights and gradients",
                                  "layers", "MiB", lines));
    return 0;
  } catch (const c10::Error& error) {
    std::cerr << "rev-bench: " << error.what_without_backtrace() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "rev-bench: " << error.what() << '\n';
    return 1;
  }
}
