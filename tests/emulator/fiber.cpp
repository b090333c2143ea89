#include "emulator/fiber.h"

#include <stdexcept>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Keeps the registers that a call preserves on the stack, and goes on with another stack: 30 times
// as fast as swapcontext, which asks the kernel for the signal mask.
extern "C" void rev_emulator_switch(void** from, void* to);
asm(R"(
  .text
  .type rev_emulator_switch, @function
rev_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size rev_emulator_switch, . - rev_emulator_switch
)");

namespace rev::emulator {
namespace {

constexpr int kSavedRegisters = 6;
constexpr std::size_t kPage = 4096;

void* outside;  // the stack pointer of whoever entered the fiber that runs

#ifdef __SANITIZE_ADDRESS__

const void* outside_bottom;
std::size_t outside_bytes;

void before_entering(void** kept, const char* stack) {
  __sanitizer_start_switch_fiber(kept, stack, Fiber::kStackBytes);
}
void before_leaving(void** kept) {
  __sanitizer_start_switch_fiber(kept, outside_bottom, outside_bytes);
}
void after_entering(void* kept) {
  __sanitizer_finish_switch_fiber(kept, &outside_bottom, &outside_bytes);
}
void after_leaving(void* kept) { __sanitizer_finish_switch_fiber(kept, nullptr, nullptr); }
void forget_frames(char* stack) { __asan_unpoison_memory_region(stack, Fiber::kStackBytes); }

#else

void before_entering(void**, const char*) {}
void before_leaving(void**) {}
void after_entering(void*) {}
void after_leaving(void*) {}
void forget_frames(char*) {}

#endif

void (*starting)();  // the body of the fiber that is entered for the first time

void start() {
  after_entering(nullptr);
  starting();
  __builtin_unreachable();
}

}  // namespace

Fiber::Fiber(char* stack, void (*body)()) : stack_(stack), body_(body) { restart(); }

void Fiber::restart() {
  forget_frames(stack_);
  auto** top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;  // the end of a backtrace; and calls expect the stack aligned like this
  *--top = reinterpret_cast<void*>(&start);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  top_ = top;
}

void Fiber::enter() {
  starting = body_;
  void* kept = nullptr;
  before_entering(&kept, stack_);
  rev_emulator_switch(&outside, top_);
  after_leaving(kept);
}

void Fiber::leave() {
  void* kept = nullptr;
  before_leaving(&kept);
  rev_emulator_switch(&top_, outside);
  after_entering(kept);
}

Stacks::Stacks(std::size_t count) : bytes_(count * (kPage + Fiber::kStackBytes)) {
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("emulator: no memory for stacks");
  memory_ = static_cast<char*>(memory);
  for (std::size_t i = 0; i < count; ++i) mprotect(stack(i) - kPage, kPage, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, bytes_); }

char* Stacks::stack(std::size_t i) const {
  return memory_ + i * (kPage + Fiber::kStackBytes) + kPage;
}

bool Stacks::contains(const void* address) const {
  return address >= memory_ && address < memory_ + bytes_;
}

}  // namespace rev::emulator
