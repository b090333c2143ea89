// Atomic operations: plain code, as one thread runs at a time. The types are those that CUDA has.
#pragma once

#include <cstdint>
#include <type_traits>

#include "emulator/races.h"

namespace rev::emulator {

/// *p <- change(*p), as a step that no other thread divides; the value before.
template <class T, class Change>
[[gnu::no_sanitize_thread, gnu::noinline]] T atomically(T* p, Change change) {
  races::atomic_access(p, sizeof(T), __builtin_return_address(0));
  const T before = *p;
  *p = change(before);
  return before;
}

template <class T, class... Types>
constexpr bool is_one_of = (std::is_same_v<T, Types> || ...);

template <class T>
constexpr bool is_counted = is_one_of<T, int, unsigned, unsigned long long>;

}  // namespace rev::emulator

// A parameter of this type does not take part in deduction: atomicAdd(&count, 1) is one of *count.
#define REV_VALUE std::common_type_t<T>

#define REV_ATOMIC(name, allowed, expression)                             \
  template <class T>                                                      \
  T name(T* p, REV_VALUE value) {                                         \
    static_assert(allowed, "CUDA has no " #name " of this type");         \
    return rev::emulator::atomically(                                     \
        p, [=]([[maybe_unused]] T before) -> T { return (expression); }); \
  }
REV_ATOMIC(atomicAdd, (rev::emulator::is_counted<T> || std::is_floating_point_v<T>), before + value)
REV_ATOMIC(atomicSub, (rev::emulator::is_one_of<T, int, unsigned>), before - value)
REV_ATOMIC(atomicExch, (rev::emulator::is_counted<T> || std::is_same_v<T, float>), value)
REV_ATOMIC(atomicMin, (rev::emulator::is_counted<T> || std::is_same_v<T, long long>),
           value < before ? value : before)
REV_ATOMIC(atomicMax, (rev::emulator::is_counted<T> || std::is_same_v<T, long long>),
           before < value ? value : before)
REV_ATOMIC(atomicAnd, rev::emulator::is_counted<T>, before& value)
REV_ATOMIC(atomicOr, rev::emulator::is_counted<T>, before | value)
REV_ATOMIC(atomicXor, rev::emulator::is_counted<T>, before ^ value)
#undef REV_ATOMIC

template <class T>
T atomicCAS(T* p, REV_VALUE compare, REV_VALUE value) {
  static_assert(rev::emulator::is_counted<T> || std::is_same_v<T, unsigned short>,
                "CUDA has no atomicCAS of this type");
  return rev::emulator::atomically(
      p, [=](T before) -> T { return before == compare ? value : before; });
}
#undef REV_VALUE
