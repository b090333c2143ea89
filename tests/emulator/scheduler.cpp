#include "emulator/scheduler.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "emulator/fiber.h"
#include "emulator/launch.h"
#include "emulator/races.h"
#include "emulator/runtime.h"

// The linker's names: where this program's variables lie, a kernel's shared arrays among them.
extern "C" char __data_start, _end;

namespace rev::emulator {

Here here;

bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

std::string to_string(const Site& site) {
  return std::string(site.file) + ":" + std::to_string(site.line);
}

namespace {

constexpr unsigned kMostThreads = 1024;

unsigned chosen_schedule = 0;
unsigned most_blocks = 0;

std::string to_string(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string to_string(const dim3& v) {
  return std::to_string(v.x) + " x " + std::to_string(v.y) + " x " + std::to_string(v.z);
}

// "thread (3,0,0), waiting at a barrier, grid.cu:20"
std::string to_string(const Thread& thread) {
  const std::string name = "thread " + to_string(thread.index);
  switch (thread.state) {
    case State::kReady:
      return name;
    case State::kInWarp:
      return name + " waiting for its warp, " + to_string(thread.site);
    case State::kAtBarrier:
      return name + " waiting at a barrier, " + to_string(thread.site);
    case State::kDone:
      return name + " which has returned";
  }
  return name;
}

std::string with_thread(const std::string& message) {
  return message + " [thread " + to_string(here.thread_index) + " of block " +
         to_string(here.block) + "]";
}

// The order in which things run, by the chosen schedule.
class Order {
 public:
  explicit Order(std::size_t count) : numbers_(count) {
    std::iota(numbers_.begin(), numbers_.end(), 0u);
    if (chosen_schedule == 1) std::reverse(numbers_.begin(), numbers_.end());
  }

  // The numbers below the count, in the order for this time.
  const std::vector<unsigned>& next(std::mt19937& random) {
    if (chosen_schedule > 1) std::shuffle(numbers_.begin(), numbers_.end(), random);
    return numbers_;
  }

 private:
  std::vector<unsigned> numbers_;
};

// Runs one launch at a time, block by block.
class Machine {
 public:
  Machine() : stacks_(kMostThreads), threads_(kMostThreads) {
    for (unsigned i = 0; i < kMostThreads; ++i) fibers_.emplace_back(stacks_.stack(i), body);
  }

  void run(const cudaLaunchConfig_t& config, void (*kernel)(const void*), const void* argument,
           std::size_t bytes);
  void wait(State state, const Site& site);

  [[noreturn]] void abandon(const std::string& error);

  Thread& thread(unsigned number) { return threads_[number]; }
  unsigned count() const { return count_; }
  void* dynamic() { return dynamic_.get(); }
  bool owns(const void* address) const;
  bool is_dynamic(const void* address) const;

 private:
  static void body();
  void start_block();
  void run_block(Order& warps, Order& lanes, std::mt19937& random);
  void run_warp(unsigned warp, Order& lanes, std::mt19937& random);
  void enter(Thread& thread);
  bool finish_barrier();
  std::string deadlock() const;

  Stacks stacks_;
  std::vector<Fiber> fibers_;
  std::vector<Thread> threads_;
  unsigned count_ = 0;  // threads of a block
  void (*kernel_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  std::size_t argument_bytes_ = 0;
  std::unique_ptr<char[]> dynamic_;
  std::size_t dynamic_bytes_ = 0;
  std::string error_;
};

Machine& machine() {
  static Machine machine;
  return machine;
}

void check_size(const cudaLaunchConfig_t& config) {
  const dim3 block = config.blockDim, grid = config.gridDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || block.z > 64) {
    throw Error("a block of " + to_string(block) + " threads: a GPU takes 1 to 1024, z up to 64");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535) {
    throw Error("a grid of " + to_string(grid) + " blocks: a GPU takes 1 to 2^31 - 1, y and z up " +
                "to 65535");
  }
}

void Machine::run(const cudaLaunchConfig_t& config, void (*kernel)(const void*),
                  const void* argument, std::size_t bytes) {
  const dim3 block = config.blockDim;
  dim3 grid = config.gridDim;
  if (most_blocks != 0) grid.x = std::min(grid.x, most_blocks);
  count_ = block.x * block.y * block.z;
  here.block_size = block;
  here.grid_size = grid;
  kernel_ = kernel;
  argument_ = argument;
  argument_bytes_ = bytes;
  dynamic_bytes_ = config.dynamicSmemBytes;
  dynamic_ = std::make_unique<char[]>(dynamic_bytes_);  // no more: AddressSanitizer sees the end
  error_.clear();
  races::start_launch();
  std::mt19937 random(chosen_schedule);
  Order blocks(std::size_t{grid.x} * grid.y * grid.z), lanes(kWarpLanes);
  Order warps((count_ + kWarpLanes - 1) / kWarpLanes);
  for (const unsigned b : blocks.next(random)) {
    here.block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    start_block();
    run_block(warps, lanes, random);
    if (!error_.empty()) {
      for (Fiber& fiber : fibers_) fiber.restart();
      throw Error(error_);
    }
  }
}

void Machine::start_block() {
  races::start_block();
  std::memset(dynamic_.get(), 0xff, dynamic_bytes_);
  const dim3 size = here.block_size;
  for (unsigned i = 0; i < count_; ++i) {
    threads_[i] = {};
    threads_[i].number = i;
    threads_[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
  }
}

// Runs until every thread has returned, or error_ says why not.
void Machine::run_block(Order& warps, Order& lanes, std::mt19937& random) {
  do {
    for (const unsigned warp : warps.next(random)) {
      run_warp(warp, lanes, random);
      if (!error_.empty()) return;
    }
  } while (finish_barrier());
}

// Runs a warp until each of its threads has returned or waits for others.
void Machine::run_warp(unsigned warp, Order& lanes, std::mt19937& random) {
  for (bool ran = true; ran;) {
    ran = false;
    for (const unsigned lane : lanes.next(random)) {
      const unsigned number = warp * kWarpLanes + lane;
      if (number >= count_ || threads_[number].state != State::kReady) continue;
      enter(threads_[number]);
      ran = true;
      if (!error_.empty()) return;
    }
  }
}

void Machine::enter(Thread& thread) {
  here.thread = &thread;
  here.thread_index = thread.index;
  fibers_[thread.number].enter();
  here.thread = nullptr;
}

void Machine::body() {
  for (;;) {
    try {
      machine().kernel_(machine().argument_);
    } catch (const Error& error) {
      machine().error_ = error.what();
    }
    machine().wait(State::kDone, {});
  }
}

// Where all threads wait at one barrier: lets them pass and returns true. Else the block is at its
// end, or stuck.
bool Machine::finish_barrier() {
  const auto begin = threads_.begin(), end = begin + count_;
  if (std::all_of(begin, end, [](const Thread& t) { return t.state == State::kDone; })) {
    return false;
  }
  const bool together = std::all_of(begin, end, [&](const Thread& t) {
    return t.state == State::kAtBarrier && t.site == begin->site;
  });
  if (!together) {
    error_ = deadlock();
    return false;
  }
  uint64_t yes = 0;
  for (auto t = begin; t != end; ++t) yes += t->value != 0 ? 1 : 0;
  for (auto t = begin; t != end; ++t) {
    t->value = yes;
    t->state = State::kReady;
  }
  races::block_barrier();
  return true;
}

// Names two threads of which one waits for the other in vain.
std::string Machine::deadlock() const {
  const auto say = [](const Thread& a, const Thread& b) {
    return "threads wait for each other: " + to_string(a) + "; " + to_string(b) + " [block " +
           to_string(here.block) + "]";
  };
  const auto begin = threads_.begin(), end = begin + count_;
  const auto in_warp =
      std::find_if(begin, end, [](const Thread& t) { return t.state == State::kInWarp; });
  if (in_warp != end) {
    const auto warp = begin + in_warp->warp() * kWarpLanes;
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
      if ((in_warp->mask >> lane & 1) == 0) continue;
      const Thread& other = warp[lane];
      if (other.state != State::kInWarp || other.mask != in_warp->mask) return say(*in_warp, other);
    }
  }
  const auto at_barrier =
      std::find_if(begin, end, [](const Thread& t) { return t.state == State::kAtBarrier; });
  const auto other = std::find_if(begin, end, [&](const Thread& t) {
    return t.state != State::kAtBarrier || !(t.site == at_barrier->site);
  });
  return say(*at_barrier, *other);
}

void Machine::wait(State state, const Site& site) {
  Thread& thread = *here.thread;
  thread.state = state;
  thread.site = site;
  fibers_[thread.number].leave();
}

void Machine::abandon(const std::string& error) {
  error_ = error;
  wait(State::kDone, {});
  __builtin_unreachable();
}

bool Machine::owns(const void* address) const {
  const auto* p = static_cast<const char*>(address);
  const auto within = [p](const void* begin, const void* end) { return p >= begin && p < end; };
  return stacks_.contains(p) || within(&here, &here + 1) ||
         within(threads_.data(), threads_.data() + threads_.size()) ||
         within(argument_, static_cast<const char*>(argument_) + argument_bytes_);
}

bool Machine::is_dynamic(const void* address) const {
  return address >= dynamic_.get() && address < dynamic_.get() + dynamic_bytes_;
}

}  // namespace

void choose_schedule(unsigned schedule) { chosen_schedule = schedule; }

void limit_blocks(unsigned most) { most_blocks = most; }

void run(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(const void*),
         const void* argument, std::size_t bytes) {
  static std::recursive_mutex one_at_a_time;  // recursive: a launch from within a kernel gets here
  const std::lock_guard lock(one_at_a_time);
  if (here.thread != nullptr) fail("a launch from within a kernel");
  check_size(config);
  check_dynamic_shared(kernel, config.dynamicSmemBytes);
  machine().run(config, thread, argument, bytes);
}

void* dynamic_shared() { return machine().dynamic(); }

Thread& thread_of_block(unsigned number) { return machine().thread(number); }

unsigned threads_in_block() { return machine().count(); }

void wait(State state, const Site& site) { machine().wait(state, site); }

void fail(const std::string& message) { throw Error(with_thread(message)); }

void abandon(const std::string& message) { machine().abandon(with_thread(message)); }

bool is_own_memory(const void* address) { return machine().owns(address); }

bool is_shared_memory(const void* address) {
  return (address >= &__data_start && address < &_end) || machine().is_dynamic(address);
}

}  // namespace rev::emulator
