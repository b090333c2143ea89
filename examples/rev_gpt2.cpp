// Trains GPT-2 under any of the schemes, and samples from what was trained:
//
//   rev-gpt2 train --out DIR             a small model on LibTorch's own headers, in minutes
//   rev-gpt2 train --out DIR --resume    goes on, to the same bits as a run that was not cut
//   rev-gpt2 sample --model DIR          prints what the model writes
//
// Exit codes: 0 done, or stopped by a signal and saved; 1 a run that had begun cannot go on (states
// left the grid, the loss is not a number, a layer cannot be rebuilt, no space or memory is left),
// and what it saved stays; 2 bad input, with nothing changed.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <c10/util/ScopeExit.h>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

#include "command_line.h"
#include "rev/base/autocast_state.h"
#include "rev/base/error.h"
#include "rev/base/memory_stats.h"
#include "rev/data/batches.h"
#include "rev/data/entropy.h"
#include "rev/data/open_tokenizer.h"
#include "rev/data/open_tokens.h"
#include "rev/data/tokenizer.h"
#include "rev/data/torch_headers.h"
#include "rev/io/checkpoint.h"
#include "rev/io/file.h"
#include "rev/io/safetensors.h"
#include "rev/models/generate.h"
#include "rev/models/gpt2.h"
#include "rev/models/gpt2_config.h"
#include "rev/optim/adamw.h"
#include "rev/optim/clip.h"
#include "rev/optim/schedule.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/train/config_file.h"
#include "rev/train/coupling_settings.h"
#include "rev/train/device_step.h"
#include "rev/train/fingerprint.h"
#include "rev/train/metrics.h"
#include "rev/train/peak_memory.h"
#include "rev/train/progress.h"
#include "rev/train/repeat_step.h"
#include "rev/train/run_folder.h"
#include "rev/train/run_state.h"
#include "rev/train/stability.h"
#include "rev/train/stop_signal.h"
#include "rev/train/validate.h"

namespace {

using namespace rev;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Strings = std::vector<std::string>;

// ---- settings

struct TrainOptions {
  std::string out;
  bool resume = false;
  std::set<std::string> given;  // settings on the command line

  // Everything from here on is a setting: kept in DIR/config.json. A default that may not be given
  // ("", 0 layers, -1) stands for "not given".
  Strings data, valid;
  std::string tokenizer;
  double valid_fraction = 0.1;
  std::string preset = "tiny";
  int64_t layers = 0, heads = 0, channels = 0, seq = 0, vocab = 0;
  bool bias = true;
  std::string scheme = "midpoint", memory, state;
  int64_t grid_bits = 16;
  double h = 0.5;
  int64_t a_seed = 0;
  bool a_pairs = false;
  Strings a;  // numbers
  int64_t inner = 0;
  int64_t low_bits = 0;
  std::string dtype = "float32", device = "auto";
  bool tf32 = false, cuda_graph = false;
  int64_t threads = 0;
  int64_t batch = 16, accumulate = 1, steps = 1200;
  double lr = -1, min_lr = -1;
  int64_t warmup = -1;
  double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, clip = 1, dropout = 0;
  int64_t seed = 0;
  int64_t eval_every = 200, eval_batches = 20, save_every = 200, keep = 2;
  std::string metrics;
};

struct SampleOptions {
  std::string model, tokenizer, prompt;
  int64_t tokens = 400;
  double temperature = 0.8;
  int64_t top_k = 0;
  int64_t seed = 0;
};

// Every setting once: its name, where it lies, what it may be, what it means.
template <class Visit>
void visit_settings(TrainOptions& o, const Visit& visit) {
  visit("data", o.data, text("PATH..."),
        "UTF-8 texts, folders of texts, or .bin shards of 16-bit tokens; unless given, the C++ "
        "headers that LibTorch ships");
  visit("valid", o.valid, text("PATH..."), "data to validate on");
  visit("tokenizer", o.tokenizer, text("FILE"),
        "what makes tokens of texts: tokenizer.json, vocab.json or merges.txt, a SentencePiece "
        "model, a .tiktoken or GGUF file, or a folder with one of them; unless given, texts are "
        "read as bytes");
  visit("valid-fraction", o.valid_fraction, fraction(),
        "without --valid: the last part of the data, kept for validation");
  visit("preset", o.preset, one_of({"tiny", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}),
        "sizes, which those below override; tiny: 4 layers, 4 heads, 128 channels, 64 tokens; gpt2 "
        "to gpt2-xl: 12, 24, 36, 48 layers, 12, 16, 20, 25 heads, 768, 1024, 1280, 1600 channels, "
        "1024 tokens");
  visit("layers", o.layers, whole(1), "layers");
  visit("heads", o.heads, whole(1), "attention heads, a divisor of the channels");
  visit("channels", o.channels, whole(1), "channels");
  visit("seq", o.seq, whole(1), "tokens in a sequence");
  visit("vocab", o.vocab, whole(1),
        "vocabulary; unless given the tokenizer's, without one 256 for text, 50257 for shards");
  visit("bias", o.bias, text(""), "biases in linear maps and norms");
  visit("scheme", o.scheme, one_of(models::scheme_names()), "how layers are coupled");
  visit("memory", o.memory, one_of({"store", "checkpoint", "invert"}),
        "what is kept for backward: every activation, layer inputs, or only what proves that "
        "they are rebuilt (of revffn also low bits of one stream); invert unless given, store for "
        "residual");
  visit("state", o.state, one_of({"grid", "float32", "float64"}),
        "how states are held; grid (exact) unless given, float32 for residual; float64 makes the "
        "weights float64 too");
  visit("grid-bits", o.grid_bits, whole(1, 30), "grid: unit 2^-N, range +-2^(31-N)");
  visit("h", o.h, number(-1e6, 1e6), "step of midpoint, midpoint-a and leapfrog, in layers");
  visit("a-seed", o.a_seed, whole(0), "midpoint-a: seed of the weights a");
  visit("a-pairs", o.a_pairs, text(""),
        "midpoint-a: the weights are drawn in pairs of reciprocals, for any number of layers");
  visit("a", o.a, number(-65536, 65536),
        "midpoint-a: the weights, one for each layer; hamiltonian: one, 1 unless given; retrofit: "
        "one, or one for each layer, -1/8 unless given");
  visit("inner", o.inner, whole(0, 64),
        "retrofit: iterations towards the point before, 2 + N evaluations of a layer; 0: one");
  visit("low-bits", o.low_bits, one_of({"2", "4", "8", "16"}),
        "revffn: bits kept of each element to invert the attention; unless given 2, and 16 in "
        "bfloat16");
  visit("dtype", o.dtype, one_of({"float32", "bfloat16"}),
        "of products; bfloat16 by autocast, weights stay as they are");
  visit("device", o.device, one_of({"auto", "cpu", "cuda"}), "auto: cuda where there is one");
  visit("tf32", o.tf32, text(""),
        "cuda: products of float32 by TF32, which keeps 10 of 23 bits and is faster");
  visit("cuda-graph", o.cuda_graph, text(""),
        "cuda: a step is one CUDA graph, captured at the third; a resumed run draws other dropout "
        "masks");
  visit("threads", o.threads, kThreads, "CPU threads; LibTorch's choice unless given");
  visit("batch", o.batch, whole(1), "sequences in a micro-batch");
  visit("accumulate", o.accumulate, whole(1), "micro-batches in a step");
  visit("steps", o.steps, whole(1), "optimizer steps of the whole run");
  visit("lr", o.lr, number(0),
        "highest learning rate; unless given, by the preset from 3e-3 (tiny), 6e-4 (gpt2) to 2e-4");
  visit("min-lr", o.min_lr, number(0),
        "learning rate at the end of the cosine; a tenth of --lr unless given");
  visit("warmup", o.warmup, whole(0),
        "steps in which the learning rate rises; a tenth of --steps unless given");
  visit("weight-decay", o.weight_decay, number(0), "of matrices, per unit of learning rate");
  visit("beta1", o.beta1, number(0, 1), "AdamW: decay of the mean gradient");
  visit("beta2", o.beta2, number(0, 1), "AdamW: decay of the mean square");
  visit("clip", o.clip, number(0), "largest norm of a step's gradient; 0: any");
  visit("dropout", o.dropout, number(0, 1), "probability that a value is dropped");
  visit("seed", o.seed, whole(0), "of weights, batches and dropout");
  visit("eval-every", o.eval_every, whole(0), "steps between validations; 0: at the end alone");
  visit("eval-batches", o.eval_batches, whole(1), "batches in a validation, spread over its data");
  visit("save-every", o.save_every, whole(0), "steps between checkpoints; 0: at the end alone");
  visit("keep", o.keep, whole(1, 1000000), "newest checkpoints to keep");
  visit("metrics", o.metrics, text("FILE"),
        "where each step's metrics go, a JSON object a line; DIR/metrics.jsonl unless given");
}

// The setting "tokens", which follows from the data.
const char* const kBytes = "bytes";  // of texts
const char* const kIds = "ids";

// The setting in which the fingerprint of the tokenizer is kept; "none" without one.
const char* const kTokenizerData = "tokenizer-data";

// Settings that do not change the weights: a resumed run may have others. (Of paths, what is behind
// them is compared.)
std::set<std::string> free_settings(const TrainOptions& o) {
  std::set<std::string> free = {"data",         "valid",      "tokenizer", "tokens", "eval-every",
                                "eval-batches", "save-every", "keep",      "metrics"};
  if (o.state == "grid") free.insert({"memory", "low-bits"});  // elsewhere rebuilding rounds
  return free;
}

train::Settings settings_of(TrainOptions o) {
  train::Settings settings;
  visit_settings(o, [&](const char* name, const auto& value, const Kind&, const char*) {
    settings[name] = value;
  });
  return settings;
}

// Throws where a saved setting is not what its option may be.
void check_kind(const std::string& where, const Kind& kind, const std::string& value) {
  std::string text = value;
  const std::string problem = kind(text);
  TORCH_CHECK(problem.empty(), where, ": ", problem);
}
void check_kind(const std::string&, const Kind&, bool) {}
template <class T>
void check_kind(const std::string& where, const Kind& kind, T value) {
  check_kind(where, kind, fmt::format("{}", value));
}
void check_kind(const std::string& where, const Kind& kind, const Strings& values) {
  for (const std::string& value : values) check_kind(where, kind, value);
}

TrainOptions options_from(const train::Settings& settings, const fs::path& file) {
  TrainOptions o;
  visit_settings(o, [&](const char* name, auto& value, const Kind& kind, const char*) {
    const auto found = settings.find(name);
    TORCH_CHECK(found != settings.end(), file.string(), ": has no setting ", name);
    const auto* saved = std::get_if<std::decay_t<decltype(value)>>(&found->second);
    TORCH_CHECK(saved, file.string(), ": setting ", name, " is of another type");
    // A default may be what cannot be given: it stands for "not given".
    if (*saved != value) check_kind(file.string() + ": setting " + name, kind, *saved);
    value = *saved;
  });
  return o;
}

bool parse_train(int argc, char** argv, TrainOptions& o) {
  CLI::App app("Trains GPT-2 and writes it, its checkpoints and its metrics to DIR.",
               "rev-gpt2 train");
  app.add_option("--out", o.out, "folder of the run (needed)")->type_name("DIR");
  app.add_flag("--resume", o.resume,
               "goes on from DIR's last checkpoint with DIR's settings, to the same bits as a run "
               "that was not cut");
  visit_settings(o, AddTo{app});
  if (!parse(app, argc, argv)) return false;
  visit_settings(o, [&](const char* name, const auto&, const Kind&, const char*) {
    if (app.count(std::string("--") + name) != 0) o.given.insert(name);
  });
  TORCH_CHECK(!o.out.empty(), "--out DIR is needed: the folder that the run is written to");
  return true;
}

// ---- a run

std::string absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

// tiny: found by trial. The others: GPT-3's rates (arXiv 2005.14165, table 2.1) at their sizes.
double default_lr(const std::string& preset) {
  if (preset == "tiny") return 3e-3;
  if (preset == "gpt2") return 6e-4;
  if (preset == "gpt2-medium") return 3e-4;
  return preset == "gpt2-large" ? 2.5e-4 : 2e-4;
}

// Settings that others make void, and why.
std::map<std::string, std::string> void_settings(const TrainOptions& o) {
  std::map<std::string, std::string> reasons;
  const auto check = [&](const char* name, bool counts, const std::string& why) {
    if (!counts) reasons.emplace(name, why);
  };
  const std::string scheme = "the scheme " + o.scheme;
  const bool has_h = o.scheme == "midpoint" || o.scheme == "midpoint-a" || o.scheme == "leapfrog";
  check("h", has_h, scheme + " has no step h");
  for (const char* name : {"a-seed", "a-pairs"}) {
    check(name, o.scheme == "midpoint-a", scheme + " draws no weights a");
    check(name, o.a.empty(), "--a gives the weights");
  }
  check("a", o.scheme == "midpoint-a" || o.scheme == "hamiltonian" || o.scheme == "retrofit",
        scheme + " has no weights a");
  check("inner", o.scheme == "retrofit", scheme + " does not iterate");
  check("low-bits", o.scheme == "revffn", scheme + " keeps no low bits");
  check("low-bits", o.state == "grid", "states are " + o.state);
  check("low-bits", o.memory == "invert", "nothing is inverted");
  check("grid-bits", o.state == "grid", "states are " + o.state);
  check("valid-fraction", o.valid.empty(), "--valid names the data to validate on");
  return reasons;
}

// Throws where one of them was given.
void check_given(const TrainOptions& o) {
  for (const auto& [name, why] : void_settings(o)) {
    TORCH_CHECK(o.given.count(name) == 0, "--", name, " has no meaning here: ", why);
  }
}

// Fills in what was not given and depends on other settings.
void resolve(TrainOptions& o) {
  const models::Gpt2Config sizes = models::Gpt2Config::preset(o.preset);
  if (o.layers == 0) o.layers = sizes.layers;
  if (o.heads == 0) o.heads = sizes.heads;
  if (o.channels == 0) o.channels = sizes.channels;
  if (o.seq == 0) o.seq = sizes.seq;
  const bool residual = o.scheme == "residual";
  if (o.memory.empty()) o.memory = residual ? "store" : "invert";
  if (o.state.empty()) o.state = residual ? "float32" : "grid";
  if (o.lr < 0) o.lr = default_lr(o.preset);
  if (o.min_lr < 0) o.min_lr = o.lr / 10;
  if (o.warmup < 0) o.warmup = o.steps / 10;
  check_given(o);
  TORCH_CHECK(
      !residual || o.memory != "invert",
      "--memory invert: the residual scheme cannot be inverted; choose store or checkpoint");
  TORCH_CHECK(o.state != "float64" || o.dtype == "float32",
              "--state float64: autocast leaves float64 alone, so --dtype bfloat16 has no meaning");
  for (const auto& [name, value] :
       {std::pair{"--beta1", o.beta1}, {"--beta2", o.beta2}, {"--dropout", o.dropout}}) {
    TORCH_CHECK(value < 1, name, ": expected a number below 1, got ", value);
  }
  TORCH_CHECK(o.warmup <= o.steps, "--warmup: ", o.warmup, " is more than the ", o.steps,
              " steps of the run");
  TORCH_CHECK(o.min_lr <= o.lr, "--min-lr: ", o.min_lr, " is above --lr ", o.lr);
  for (auto& [name, paths] : {std::pair{"--data", &o.data}, {"--valid", &o.valid}}) {
    for (std::string& path : *paths) {
      TORCH_CHECK(!path.empty(), name, ": expected a path, got nothing");
      path = absolute(path);
    }
  }
  TORCH_CHECK(o.given.count("tokenizer") == 0 || !o.tokenizer.empty(),
              "--tokenizer: expected a path, got nothing");
  for (std::string* path : {&o.tokenizer, &o.metrics}) {
    if (!path->empty()) *path = absolute(*path);
  }
  o.device = choose_device(o.device).is_cuda() ? "cuda" : "cpu";
  for (const auto& [name, given] : {std::pair{"--tf32", o.tf32}, {"--cuda-graph", o.cuda_graph}}) {
    TORCH_CHECK(!given || o.device == "cuda", name, " has no meaning here: the device is the CPU");
  }
  TORCH_CHECK(!o.cuda_graph || (o.scheme != "revffn" && o.state != "float64"),
              "--cuda-graph: a step of ", o.scheme == "revffn" ? "revffn" : "--state float64",
              " waits for the device and cannot be captured");
  if (o.threads == 0) o.threads = at::get_num_threads();
}

models::Gpt2Config gpt2_config(const TrainOptions& o) {
  models::Gpt2Config config;
  static_cast<models::Coupling&>(config) = train::coupling_from(settings_of(o), "settings");
  config.layers = o.layers;
  config.heads = o.heads;
  config.channels = o.channels;
  config.seq = o.seq;
  config.vocab = o.vocab;
  config.dropout = o.dropout;
  config.bias = o.bias;
  return config;
}

struct Tokens {
  data::TokenSource train, valid;
};

// tokenizer: null where texts are read as bytes.
Tokens open_data(const TrainOptions& o, const data::Tokenizer* tokenizer) {
  const auto open = [&](const Strings& paths) {
    return data::open_tokens({paths.begin(), paths.end()},
                             o.vocab == 0 ? std::nullopt : std::optional(o.vocab), tokenizer);
  };
  const auto check_length = [&](const char* name, const data::TokenSource& tokens) {
    TORCH_CHECK(tokens.size() > o.seq, "the ", name, " data have ", tokens.size(),
                " tokens; a sequence of --seq ", o.seq, " needs at least ", o.seq + 1);
  };
  data::TokenSource train =
      open(o.data.empty() ? Strings{data::torch_headers_dir().string()} : o.data);
  std::optional<data::TokenSource> valid;
  if (o.valid.empty()) {
    std::tie(train, valid) = data::split_tokens(train, o.valid_fraction);
  } else {
    valid = open(o.valid);
  }
  TORCH_CHECK(valid->vocab() == train.vocab(), "--valid has a vocabulary of ", valid->vocab(),
              ", --data one of ", train.vocab());
  TORCH_CHECK(valid->is_text() == train.is_text(), "--valid holds ",
              valid->is_text() ? "text" : "numbers of tokens", ", --data ",
              train.is_text() ? "text" : "numbers of tokens");
  check_length("training", train);
  check_length("validation", *valid);
  return {train, *valid};
}

struct Run {
  TrainOptions options;
  train::Settings settings;  // as kept in DIR/config.json
  Tokens tokens;
  c10::Device device;
  models::Gpt2 model;
  optim::AdamW optimizer;
  int64_t done = 0;                                          // steps
  bool saved = false;                                        // there is a checkpoint
  std::optional<double> valid_loss = std::nullopt;           // the last that was measured
  std::unique_ptr<train::DeviceStep> device_step = nullptr;  // with --cuda-graph
};

double bytes_of_element(const models::Gpt2Config& config) {
  return config.state && config.state->dtype == at::kDouble ? 8 : 4;
}

// Throws where what is made of `bytes` is more than the machine's memory. (In double: sizes may be
// absurd.)
void check_fits(const std::string& what, double bytes) {
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<double>(::sysconf(_SC_PAGE_SIZE));
  TORCH_CHECK(bytes <= memory, fmt::format("{} {:.3g} GB, this machine has {:.3g} GB", what,
                                           bytes / 1e9, memory / 1e9));
}

// `copies` of a model's weights: of training four, the gradients and AdamW's moments among them.
void check_weights_fit(const models::Gpt2Config& config, int copies) {
  const auto channels = static_cast<double>(config.channels);
  const double n = static_cast<double>(config.vocab + config.seq) * channels +
                   static_cast<double>(config.layers) * 12 * channels * channels;
  const std::string what = fmt::format(
      "{} layers of {} channels, sequences of {} and a vocabulary of {} make {:.3g} parameters; {} "
      "take",
      config.layers, config.channels, config.seq, config.vocab, n,
      copies == 1 ? "they" : "with gradients and AdamW's moments they");
  check_fits(what, n * copies * bytes_of_element(config));
}

// One state of a micro-batch.
void check_state_fits(const models::Gpt2Config& config, int64_t batch) {
  const std::string what =
      fmt::format("--batch {} sequences of {} tokens of {} channels make states of", batch,
                  config.seq, config.channels);
  check_fits(what, static_cast<double>(batch) * static_cast<double>(config.seq) *
                       static_cast<double>(config.channels) * bytes_of_element(config));
}

// All parts of a run at its start, made in an order that decides its random numbers.
Run make_run(TrainOptions o) {
  at::set_num_threads(static_cast<int>(o.threads));
  const c10::Device device = choose_device(o.device);
  if (device.is_cuda()) {  // the same bits from the same run; what cannot promise them throws
    ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);  // all of it is written
    at::globalContext().setAllowTF32CuBLAS(o.tf32);
    at::globalContext().setAllowTF32CuDNN(o.tf32);
  }
  const data::TokenizerPtr tokenizer =
      o.tokenizer.empty() ? nullptr : data::open_tokenizer(o.tokenizer);
  const Tokens tokens = open_data(o, tokenizer.get());
  o.vocab = tokens.train.vocab();
  check_weights_fit(gpt2_config(o), 4);
  check_state_fits(gpt2_config(o), o.batch);
  train::Settings settings = settings_of(o);
  settings["tokens"] = std::string(tokens.train.is_text() ? kBytes : kIds);
  settings[kTokenizerData] = tokenizer ? train::fingerprint(*tokenizer) : "none";
  settings["train-data"] = train::fingerprint(tokens.train);
  settings["valid-data"] = train::fingerprint(tokens.valid);
  at::manual_seed(static_cast<uint64_t>(o.seed));
  models::Gpt2 model(gpt2_config(o));
  model->to(device, o.state == "float64" ? at::kDouble : at::kFloat);
  optim::AdamW optimizer(optim::decay_matrices(model->state_dict(), o.weight_decay),
                         {o.beta1, o.beta2});
  return {o, settings, tokens, device, model, std::move(optimizer)};
}

// ---- training

// The run cannot go on; what was saved stays.
struct RunFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// fn(), whose states must stay on the grid.
template <class Fn>
double at_step(int64_t step, const Fn& fn) {
  try {
    return fn();
  } catch (const base::Saturated& error) {
    throw RunFailed(fmt::format("step {}: {}; lower --lr or --grid-bits", step, error.what()));
  }
}

// Mean loss, nats a token.
at::Tensor loss(Run& run, const data::Batch& batch) {
  const base::AutocastGuard cast({run.device.type(), run.options.dtype == "bfloat16"});
  return run.model->loss(batch.inputs.to(run.device), batch.targets.to(run.device));
}

// A micro-batch of a step.
data::Batch batch_of(const Run& run, int64_t step, int64_t micro) {
  const TrainOptions& o = run.options;
  return data::random_batch(run.tokens.train, o.batch, o.seq,
                            {static_cast<uint64_t>(o.seed), step, micro});
}

// The mean loss of a step's micro-batches, whose gradients replace the parameters'.
double forward_backward(Run& run, int64_t step) {
  const int64_t n = run.options.accumulate;
  run.optimizer.zero_grad();
  double sum = 0;
  for (int64_t micro = 0; micro < n; ++micro) {
    const at::Tensor part = loss(run, batch_of(run, step, micro)) / n;
    part.backward();
    sum += part.item<double>();
  }
  return sum;
}

void check_step(const train::StepMetrics& m) {
  if (!std::isfinite(m.loss) || !std::isfinite(m.grad_norm)) {
    throw RunFailed(fmt::format("step {}: the loss is {} and its gradient's norm {}; lower --lr",
                                m.step, m.loss, m.grad_norm));
  }
}

// Puts the model into evaluation for a scope.
auto in_evaluation(Run& run) {
  run.model->eval();
  return c10::make_scope_exit([&run] { run.model->train(); });
}

double validate(Run& run) {
  const TrainOptions& o = run.options;
  const auto evaluation = in_evaluation(run);
  return train::validate(run.tokens.valid, {o.batch, o.seq, o.eval_batches},
                         [&](const data::Batch& batch) { return loss(run, batch); });
}

// Warns of each layer once, when its Jacobian leaves the band in which its scheme can be stable.
void warn_of_instability(Run& run, int64_t step, std::set<int64_t>& warned,
                         train::Progress& progress) {
  const auto evaluation = in_evaluation(run);
  const data::Batch window = data::sequential_batch(run.tokens.valid, 0, 1, run.options.seq);
  std::string layers;
  for (const train::LayerJacobian& j :
       train::unstable_layers(run.model, window.inputs.to(run.device))) {
    if (!warned.insert(j.layer).second) continue;
    layers += fmt::format("{} layer {} has {:.3g}, the limit is {:.3g}", layers.empty() ? "" : ";",
                          j.layer, j.norm, j.limit);
  }
  if (layers.empty()) return;
  progress.say(
      fmt::format("warning: step {}: Jacobian norms with which {} may amplify from layer to "
                  "layer:{}",
                  step, run.options.scheme, layers));
}

// Frequencies of 2^26 tokens are as good as those of all.
data::NgramEntropy entropies(const Tokens& tokens) {
  const auto first = [](const data::TokenSource& source) {
    return source.slice(0, std::min(source.size(), int64_t{1} << 26));
  };
  return data::ngram_entropy(first(tokens.train), first(tokens.valid));
}

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

train::RunState state_of(Run& run) { return {run.model, &run.optimizer, run.device}; }

void save(Run& run) {
  const fs::path out = run.options.out;
  io::save_checkpoint(out, train::take_checkpoint(state_of(run), run.done, run.settings));
  run.saved = true;
  io::prune_checkpoints(out, run.options.keep);
}

double max_norm(const TrainOptions& o) {
  return o.clip > 0 ? o.clip : std::numeric_limits<double>::infinity();
}

// Fills m's loss and norm.
void step_with_waits(Run& run, train::StepMetrics& m, train::Progress& progress) {
  m.loss = at_step(m.step, [&] {
    return train::repeat_step(
        run.model->stack(), run.device, [&] { return forward_backward(run, run.done); },
        [&](const base::NotInvertible& error) {
          progress.say(
              fmt::format("step {}: {}; it is checkpointed from now on, the step is repeated",
                          m.step, error.what()));
        });
  });
  m.grad_norm = optim::clip_grad_norm(run.optimizer.parameters(), max_norm(run.options));
  check_step(m);
  run.optimizer.step(m.lr);
}

void step_on_device(Run& run, train::StepMetrics& m) {
  std::vector<data::Batch> batches;
  for (int64_t i = 0; i < run.options.accumulate; ++i) {
    batches.push_back(batch_of(run, run.done, i));
  }
  m.loss = at_step(m.step, [&] {
    const train::DeviceStep::Result result = run.device_step->run(batches, m.lr);
    m.grad_norm = result.grad_norm;
    return result.loss;
  });
  check_step(m);
}

// One step of the optimizer, and what is recorded of it.
train::StepMetrics train_step(Run& run, train::Progress& progress) {
  const TrainOptions& o = run.options;
  const optim::Schedule schedule{o.lr, o.min_lr, o.warmup, o.steps};
  const double tokens =
      static_cast<double>(o.batch) * static_cast<double>(o.accumulate) * static_cast<double>(o.seq);
  const auto began = Clock::now();
  train::reset_peak(run.device);
  train::StepMetrics m;
  m.step = run.done + 1;
  m.lr = schedule(run.done);
  if (run.device_step) {
    step_on_device(run, m);
  } else {
    step_with_waits(run, m, progress);
  }
  m.drift = run.model->stack().take_report().rows_differing;
  run.done = m.step;
  m.peak_mib = train::peak_mib(run.device);
  m.tokens_per_s = tokens / seconds_since(began);
  return m;
}

// The steps that are left, or those until a signal; saved now and then, and at the end.
void train_steps(Run& run, train::MetricsFile& metrics, train::Progress& progress,
                 const train::StopSignal& stop) {
  const TrainOptions& o = run.options;
  const auto began = Clock::now();
  const int64_t start = run.done;
  std::set<int64_t> warned;
  bool saved = false;
  while (run.done < o.steps && !stop.requested()) {
    train::StepMetrics m = train_step(run, progress);
    if (run.done == o.steps || (o.eval_every > 0 && run.done % o.eval_every == 0)) {
      m.valid_loss = run.valid_loss = at_step(run.done, [&] { return validate(run); });
      warn_of_instability(run, run.done, warned, progress);
    }
    metrics.write(m);
    const double left = seconds_since(began) / static_cast<double>(run.done - start) *
                        static_cast<double>(o.steps - run.done);
    progress.update(fmt::format(
        "step {}/{}  loss {:.3f}{}  lr {:.1e}  {:.0f} tokens/s  {:.0f} MiB  drift {}  {} left",
        run.done, o.steps, m.loss,
        run.valid_loss ? fmt::format("  valid {:.3f}", *run.valid_loss) : "", m.lr, m.tokens_per_s,
        m.peak_mib, m.drift, train::duration(left)));
    saved = o.save_every > 0 && run.done % o.save_every == 0;
    if (saved) save(run);
  }
  // Where nothing was left to do, the checkpoint that the run goes on from is that of this step.
  if (!saved && (run.done > start || start == 0)) save(run);
}

int64_t count_parameters(const models::Gpt2& model) {
  int64_t n = 0;
  for (const at::Tensor& p : model->parameters()) n += p.numel();
  return n;
}

// Whether a setting says something. (A default that its option may not be stands for "not given".)
bool is_given(const Kind&, bool) { return true; }
bool is_given(const Kind&, const std::string& value) { return !value.empty(); }
bool is_given(const Kind&, const Strings& values) { return !values.empty(); }
template <class T>
bool is_given(const Kind& kind, T value) {
  std::string text = fmt::format("{}", value);
  return kind(text).empty();
}

// A run's settings for a person: those that say something, and the weights that a seed made.
train::Settings settings_to_show(Run& run) {
  train::Settings settings = run.settings;
  TrainOptions o = run.options;
  visit_settings(o, [&](const char* name, const auto& value, const Kind& kind, const char*) {
    if (!is_given(kind, value)) settings.erase(name);
  });
  for (const auto& [name, why] : void_settings(o)) settings.erase(name);
  const auto* scheme = dynamic_cast<const schemes::MidpointA*>(&run.model->stack().scheme());
  if (scheme != nullptr) {
    Strings a;
    for (int64_t l = 0; l < o.layers; ++l) a.push_back(fmt::format("{}", scheme->a(l)));
    settings["a"] = a;
  }
  return settings;
}

// What stands at the head of a run's output.
void say_what_is_trained(Run& run, const data::NgramEntropy& entropy, train::Progress& progress) {
  progress.say(train::list_settings(settings_to_show(run)));
  progress.say(fmt::format("{} parameters", count_parameters(run.model)));
  if (run.tokens.train.skipped_files() > 0) {
    progress.say(
        fmt::format("{} files are not text and were left out", run.tokens.train.skipped_files()));
  }
  progress.say(
      fmt::format("entropy of the validation data, nats a token: unigram {:.3f}, bigram {:.3f}",
                  entropy.unigram, entropy.bigram));
}

void say_result(Run& run, int64_t start, double seconds, const data::NgramEntropy& entropy,
                train::Progress& progress) {
  if (run.done < run.options.steps) {
    progress.say(fmt::format("stopped after step {} and saved; --resume goes on", run.done));
    return;
  }
  if (!run.valid_loss) {  // nothing was left to do
    run.valid_loss = at_step(run.done, [&] { return validate(run); });
  }
  progress.say(
      fmt::format("{} steps in {}; validation loss {:.3f} nats a token (unigram entropy "
                  "{:.3f}, bigram {:.3f})",
                  run.done - start, train::duration(seconds), *run.valid_loss, entropy.unigram,
                  entropy.bigram));
}

// Throws where the run's folder has no space for the model, and for weights and two moments in each
// checkpoint that is kept and in the one that is being written.
void check_space(const Run& run) {
  const TrainOptions& o = run.options;
  const auto element = static_cast<int64_t>(run.model->parameters().front().element_size());
  const int64_t n_saves = o.save_every == 0 ? 1 : (o.steps - 1) / o.save_every + 1;
  const int64_t n = o.resume ? 1 : std::min(o.keep + 1, n_saves);
  train::check_space(o.out, count_parameters(run.model) * element * (1 + 3 * n));
}

// Goes on from the newest checkpoint, if there is one.
void restore(Run& run, train::Progress& progress) {
  const auto checkpoint =
      train::find_start(run.options.out, run.settings, free_settings(run.options),
                        [&](const auto& line) { progress.say(line); });
  if (!checkpoint) return;
  train::restore_checkpoint(*checkpoint, state_of(run));
  run.done = checkpoint->step;
}

// Where a run writes.
struct Files {
  explicit Files(const TrainOptions& o)
      : folder(o.out),
        config(folder / "config.json"),
        model(folder / "model.safetensors"),
        checkpoints(folder / "checkpoints"),
        metrics(o.metrics.empty() ? folder / "metrics.jsonl" : fs::path(o.metrics)) {
    for (const fs::path& own : {config, model, checkpoints}) {
      TORCH_CHECK(absolute(metrics.string()) != absolute(own.string()),
                  "--metrics: ", metrics.string(), " is a file of the run itself");
    }
  }
  // Throws where a new run would write over something.
  void check_new() const { train::check_new({config, model, checkpoints, metrics}); }

  fs::path folder, config, model, checkpoints, metrics;
};

// Everything that opens files. Where a new run ends before anything was saved, what it put into the
// folder goes, and the folder if it is the run's.
void train_in_folder(Run& run, const Files& files) {
  const fs::path out = files.folder;
  const bool is_new = !run.options.resume;
  std::error_code ignored;
  const bool makes_folder = is_new && !fs::exists(out, ignored);
  const train::StopSignal stop;  // until here a signal ends the program at once
  io::create_folders(out);
  const train::FolderLock lock(out);
  if (is_new) files.check_new();  // again: another process may have been before
  const auto clear_folder = c10::make_scope_exit([&] {
    if (!is_new || run.saved) return;
    fs::remove(files.config, ignored);
    ::rmdir(files.checkpoints.c_str());  // removes what is empty and nothing else
    if (makes_folder) ::rmdir(out.c_str());
  });
  check_space(run);
  train::MetricsFile metrics(files.metrics);
  const auto clear_metrics = c10::make_scope_exit([&] {
    if (is_new && !run.saved) metrics.forget_all();
  });
  train::Progress progress(stdout);
  if (!is_new) restore(run, progress);
  metrics.forget_after(run.done);
  train::write_config(files.config, {models::hf_config(run.model->config()), run.settings});

  const data::NgramEntropy entropy = entropies(run.tokens);
  say_what_is_trained(run, entropy, progress);
  const auto began = Clock::now();
  const int64_t start = run.done;
  try {
    train_steps(run, metrics, progress, stop);
    io::save_safetensors(files.model, run.model->state_dict(), {{"format", "pt"}});
    say_result(run, start, seconds_since(began), entropy, progress);
  } catch (const c10::Error& error) {  // no fault of the input: space or memory ran out
    throw RunFailed(error.what_without_backtrace());
  }
}

int train_gpt2(int argc, char** argv) {
  TrainOptions o;
  if (!parse_train(argc, argv, o)) return 0;
  train::ConfigFile saved;
  if (o.resume) {  // the run's own settings, then the command line's
    const fs::path config = Files(o).config;
    saved = train::read_config(config);
    o = options_from(saved.run, config);
    parse_train(argc, argv, o);
  }
  resolve(o);
  const Files files(o);
  if (!o.resume) files.check_new();
  Run run = make_run(o);
  if (o.cuda_graph) {
    run.device_step = std::make_unique<train::DeviceStep>(
        [&run](const at::Tensor& x, const at::Tensor& y) {
          return loss(run, {x, y});
        },
        run.model->stack(), run.optimizer, max_norm(o));
  }
  if (o.resume) {
    train::check_same_settings(saved.run, run.settings, free_settings(o), files.config.string());
  }
  train_in_folder(run, files);
  return 0;
}

// ---- sampling

struct Trained {
  models::Gpt2 model;
  data::TokenizerPtr tokenizer;  // null where the model's tokens are of no text that we know
};

std::vector<int64_t> read_prompt(const std::string& prompt, const Trained& trained) {
  if (trained.tokenizer) {
    return prompt.empty() ? trained.tokenizer->between_texts() : trained.tokenizer->encode(prompt);
  }
  std::vector<int64_t> tokens;
  std::istringstream words(prompt);
  for (std::string word; words >> word;) {
    int64_t id = 0;
    const char* end = word.data() + word.size();
    const auto read = std::from_chars(word.data(), end, id);
    TORCH_CHECK(read.ec == std::errc() && read.ptr == end,
                "--prompt: the model's tokens are not bytes; expected their numbers, separated by "
                "spaces, got \"",
                word, "\"");
    tokens.push_back(id);
  }
  if (tokens.empty()) tokens.push_back(trained.model->config().vocab - 1);  // GPT-2's end of text
  return tokens;
}

models::Gpt2 load_model(const fs::path& folder, const train::ConfigFile& file) {
  const models::Gpt2Config config =
      file.run.empty() ? models::Gpt2Config::from_hf(file.model)
                       : gpt2_config(options_from(file.run, folder / "config.json"));
  check_weights_fit(config, 1);
  const fs::path weights = folder / "model.safetensors";
  std::error_code ignored;
  TORCH_CHECK(fs::exists(weights, ignored) || !fs::exists(folder / "checkpoints", ignored),
              weights.string(), " is not there yet: the run has not ended, rev-gpt2 train --out ",
              folder.string(), " --resume goes on with it");
  models::Gpt2 model(config);
  const auto tensors = io::load_safetensors(weights);
  TORCH_CHECK(!tensors.empty(), weights.string(),
              ": expected the weights of a GPT-2, got a file without tensors");
  if (config.state && config.state->dtype == at::kDouble) model->to(at::kDouble);
  model->load_state_dict({tensors.begin(), tensors.end()});
  return model;
}

// A setting that a run has beside its options; "" where there is none.
std::string find_setting(const train::Settings& run, const char* name) {
  const auto found = run.find(name);
  return found == run.end() ? "" : train::to_text(found->second);
}

// The tokenizer of a model of `vocab` tokens: the one that it was trained with, of which `given`
// may be another place. Null where its tokens are numbers.
data::TokenizerPtr find_tokenizer(const train::ConfigFile& config, std::string given,
                                  int64_t vocab) {
  const std::string expected = find_setting(config.run, kTokenizerData);
  if (given.empty()) given = find_setting(config.run, "tokenizer");
  if (given.empty()) {
    // Another program's config does not tell: a vocabulary of 256 is that of bytes.
    const bool bytes =
        config.run.empty() ? vocab == 256 : find_setting(config.run, "tokens") == kBytes;
    return bytes ? data::byte_tokenizer() : nullptr;
  }
  data::TokenizerPtr tokenizer = data::open_tokenizer(given);
  const std::string got = train::fingerprint(*tokenizer);
  TORCH_CHECK(config.run.empty() || got == expected, given,
              ": not the tokenizer that the model was trained with: expected ", expected, ", got ",
              got);
  TORCH_CHECK(tokenizer->vocab() <= vocab, given, ": has ", tokenizer->vocab(),
              " tokens, the model ", vocab);
  return tokenizer;
}

// The text of tokens, with U+FFFD for those of a model whose vocabulary is larger than its
// tokenizer's.
std::string text_of(const std::vector<int64_t>& tokens, const data::Tokenizer& tokenizer) {
  std::string text;
  for (auto from = tokens.begin(); from != tokens.end();) {
    const auto to =
        std::find_if(from, tokens.end(), [&](int64_t t) { return t >= tokenizer.vocab(); });
    text += tokenizer.decode_bytes({from, to});
    if (to != tokens.end()) text += "\xEF\xBF\xBD";
    from = to == tokens.end() ? to : to + 1;
  }
  return text;
}

int sample_gpt2(int argc, char** argv) {
  SampleOptions o;
  CLI::App app("Prints what a trained GPT-2 writes.", "rev-gpt2 sample");
  const AddTo add{app};
  add("model", o.model, text("DIR"), "folder of a run, or of a GPT-2 of Hugging Face's (needed)");
  add("tokenizer", o.tokenizer, text("FILE"),
      "where the tokenizer is that the model was trained with; unless given, where it was then");
  add("prompt", o.prompt, text("TEXT"),
      "what to go on from; numbers of tokens where they are not those of text");
  add("tokens", o.tokens, whole(0), "tokens to draw");
  add("temperature", o.temperature, number(0), "logits are divided by it; 0: the likeliest token");
  add("top-k", o.top_k, whole(0), "draws from the N likeliest tokens; 0: from all");
  add("seed", o.seed, whole(0), "of the draws");
  if (!parse(app, argc, argv)) return 0;
  TORCH_CHECK(!o.model.empty(), "--model DIR is needed: the folder of a trained model");

  const fs::path folder = o.model;
  const train::ConfigFile config = train::read_config(folder / "config.json");
  Trained trained{load_model(folder, config), nullptr};
  trained.tokenizer = find_tokenizer(config, o.tokenizer, trained.model->config().vocab);
  const std::vector<int64_t> prompt = read_prompt(o.prompt, trained);
  std::vector<int64_t> drawn = models::generate(
      *trained.model, prompt, {o.tokens, o.temperature, o.top_k, static_cast<uint64_t>(o.seed)});
  if (trained.tokenizer) {
    if (!o.prompt.empty()) drawn.insert(drawn.begin(), prompt.begin(), prompt.end());
    const std::string text = text_of(drawn, *trained.tokenizer) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
  } else {
    std::printf("%s\n", fmt::format("{}", fmt::join(drawn, " ")).c_str());
  }
  return 0;
}

const char kUsage[] =
    "rev-gpt2 train --out DIR [OPTIONS]     trains GPT-2\n"
    "rev-gpt2 sample --model DIR [OPTIONS]  prints what it writes\n"
    "Each tells its options with --help.\n";

}  // namespace

int main(int argc, char** argv) {
  base::count_memory();
  return run_program("rev-gpt2", {{"train", train_gpt2}, {"sample", sample_gpt2}}, kUsage, argc,
                     argv);
}
