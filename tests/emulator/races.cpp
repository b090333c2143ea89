#include "emulator/races.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>

#include "emulator/scheduler.h"

// The linker's name: where this program's code was loaded.
extern "C" char __executable_start;

namespace rev::emulator::races {
namespace {

// Time: the number of barriers, blocks and launches up to now. What happened at different times in
// one block is ordered.
uint32_t now = 1;
uint32_t block_began = 1;
uint32_t launch_began = 1;

// Order within a warp: each thread counts the __syncwarps that it passed, and knows, of each lane
// of its warp, the last count that happened before what it does now.
struct Clock {
  unsigned passed = 1;
  std::array<unsigned, kWarpLanes> seen{};
};

constexpr unsigned kMostThreads = 1024;
std::array<Clock, kMostThreads> clocks;

// Who touched a byte last.
struct Access {
  uint32_t time = 0;
  unsigned clock = 0;
  uint16_t thread = 0;
  bool atomic = false;
  const void* code = nullptr;

  unsigned warp() const { return thread / kWarpLanes; }
};

struct Byte {
  Access write;
  std::array<Access, 2> reads;
};

enum class Kind { kRead, kWrite, kAtomic };

// A Byte for each byte of the program that kernels touched, by pages.
class Shadow {
 public:
  Byte& at(uintptr_t address) {
    const uintptr_t page = address / kPageBytes;
    if (page != last_) {
      auto& bytes = pages_[page];
      if (bytes == nullptr) bytes = std::make_unique<Page>();
      last_ = page;
      last_bytes_ = bytes.get();
    }
    return (*last_bytes_)[address % kPageBytes];
  }

  // What launches before did matters no more: memory is given back when it is much.
  void start_launch() {
    if (pages_.size() < kMostPages) return;
    pages_.clear();
    last_ = 0;
  }

 private:
  static constexpr std::size_t kPageBytes = 4096;
  static constexpr std::size_t kMostPages = 256;  // 72 MiB
  using Page = std::array<Byte, kPageBytes>;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  uintptr_t last_ = 0;
  Page* last_bytes_ = nullptr;
};

Shadow& shadow() {
  static Shadow shadow;
  return shadow;
}

Traffic traffic;

void count(const void* address, std::size_t bytes, Kind kind) {
  if (is_shared_memory(address)) return;
  if (kind != Kind::kWrite) traffic.read += bytes;
  if (kind != Kind::kRead) traffic.written += bytes;
}

// While an access is looked at: the linker may choose an instrumented copy of what is used for it.
bool busy = false;

[[noreturn]] void stop(const std::string& message) {
  busy = false;
  abandon(message);
}

// "cuda/warp.h:20, inlined in cuda/grid.cu:150", by binutils' addr2line where it is installed.
std::string line_of(const void* code) {
  const auto offset =
      static_cast<std::size_t>(static_cast<const char*>(code) - &__executable_start) - 1;
  char command[200];
  std::snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%zx 2>/dev/null", getpid(),
                offset);
  std::string lines;
  if (FILE* pipe = popen(command, "r")) {
    char line[500];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
      std::string text = line;
      text.resize(std::min(text.find_first_of(" \n"), text.size()));
      lines += (lines.empty() ? "" : ", inlined in ") + text;
    }
    pclose(pipe);
  }
  if (!lines.empty()) return lines;
  std::snprintf(command, sizeof command, "code 0x%zx", offset);
  return command;
}

// Whether `earlier`, in this block, is ordered before what the thread does now.
bool happened_before(const Access& earlier, const Thread& thread) {
  if (earlier.time < now || earlier.thread == thread.number) return true;
  return earlier.warp() == thread.warp() &&
         clocks[thread.number].seen[earlier.thread % kWarpLanes] >= earlier.clock;
}

[[noreturn]] void report(const char* what, bool shared, const void* address, const Access& mine,
                         const Access& other) {
  char place[60];
  std::snprintf(place, sizeof place, " of %s memory %p", shared ? "shared" : "global", address);
  stop(std::string("race: ") + what + place + ", " + line_of(mine.code) + "; before, by thread " +
       std::to_string(other.thread) + (other.time < block_began ? " of another block" : "") + ", " +
       line_of(other.code));
}

void check(const char* what, bool shared, const void* address, const Thread& thread,
           const Access& mine, const Access& other) {
  if (mine.atomic && other.atomic) return;
  if (other.time < block_began) {  // shared memory is the block's, global memory the launch's
    if (shared || other.time < launch_began) return;
  } else if (happened_before(other, thread)) {
    return;
  }
  report(what, shared, address, mine, other);
}

// Keeps two reads such that every write that is in a race with a read is so with one of the two,
// unless lanes of one warp are ordered by masks that are not whole. A read that happened before
// `mine` is not needed beside it; and of reads by two warps one is unordered with any thread.
void keep_read(std::array<Access, 2>& reads, const Access& mine, const Thread& thread) {
  for (Access& read : reads) {
    if (read.time < block_began || happened_before(read, thread)) {
      read = mine;
      return;
    }
  }
  if (reads[0].warp() == reads[1].warp()) reads[1] = mine;
}

void touch(Byte& byte, Kind kind, const void* address, const Thread& thread, const Access& mine) {
  const bool shared = is_shared_memory(address);
  if (kind == Kind::kRead) {
    if (shared && byte.write.time < block_began) {
      stop("read of shared memory that this block never wrote, " + line_of(mine.code));
    }
    check("read after write", shared, address, thread, mine, byte.write);
    keep_read(byte.reads, mine, thread);
  } else {
    check("write after write", shared, address, thread, mine, byte.write);
    for (const Access& read : byte.reads) {
      check("write after read", shared, address, thread, mine, read);
    }
    byte.write = mine;
  }
}

void access(const void* address, std::size_t bytes, Kind kind, const void* code) {
  if (here.thread == nullptr || busy || is_own_memory(address)) return;
  busy = true;
  const Thread& thread = *here.thread;
  const Access mine{now, clocks[thread.number].passed, static_cast<uint16_t>(thread.number),
                    kind == Kind::kAtomic, code};
  count(address, bytes, kind);
  const auto* first = static_cast<const char*>(address);
  for (std::size_t i = 0; i < bytes; ++i) {
    touch(shadow().at(reinterpret_cast<uintptr_t>(first + i)), kind, first + i, thread, mine);
  }
  busy = false;
}

}  // namespace

void start_launch() {
  shadow().start_launch();
  launch_began = ++now;
}

void start_block() {
  block_began = ++now;
  std::fill_n(clocks.begin(), threads_in_block(), Clock{});
}

void block_barrier() { ++now; }

void warp_barrier(unsigned mask) {
  Clock* const warp = &clocks[here.thread->warp() * kWarpLanes];
  std::array<unsigned, kWarpLanes> seen{};
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    warp[lane].seen[lane] = warp[lane].passed++;
    for (unsigned i = 0; i < kWarpLanes; ++i) seen[i] = std::max(seen[i], warp[lane].seen[i]);
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) != 0) warp[lane].seen = seen;
  }
}

void atomic_access(const void* address, std::size_t bytes, const void* code) {
  access(address, bytes, Kind::kAtomic, code);
}

Traffic take_traffic() { return std::exchange(traffic, {}); }

}  // namespace rev::emulator::races

// What code compiled with -fsanitize=thread calls.
extern "C" {

#define REV_ACCESS(name, kind, bytes)                                \
  void name(void* address) {                                         \
    using namespace rev::emulator::races;                            \
    access(address, bytes, Kind::kind, __builtin_return_address(0)); \
  }
#define REV_ACCESSES(bytes)                              \
  REV_ACCESS(__tsan_read##bytes, kRead, bytes)           \
  REV_ACCESS(__tsan_write##bytes, kWrite, bytes)         \
  REV_ACCESS(__tsan_unaligned_read##bytes, kRead, bytes) \
  REV_ACCESS(__tsan_unaligned_write##bytes, kWrite, bytes)
REV_ACCESSES(1)
REV_ACCESSES(2)
REV_ACCESSES(4)
REV_ACCESSES(8)
REV_ACCESSES(16)

void __tsan_read_range(void* address, std::size_t bytes) {
  using namespace rev::emulator::races;
  access(address, bytes, Kind::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, std::size_t bytes) {
  using namespace rev::emulator::races;
  access(address, bytes, Kind::kWrite, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

}  // extern "C"
