// Loads and stores that say how the caches should treat them: nothing more than plain accesses
// here.
#pragma once

#define REV_LOAD(name) \
  template <class T>   \
  T name(const T* p) { \
    return *p;         \
  }
REV_LOAD(__ldg)
REV_LOAD(__ldca)
REV_LOAD(__ldcg)
REV_LOAD(__ldcs)
REV_LOAD(__ldcv)
REV_LOAD(__ldlu)
#undef REV_LOAD

#define REV_STORE(name)      \
  template <class T>         \
  void name(T* p, T value) { \
    *p = value;              \
  }
REV_STORE(__stcg)
REV_STORE(__stcs)
REV_STORE(__stwb)
REV_STORE(__stwt)
#undef REV_STORE

// Threads see each other's stores at once here, so that a fence too few would not be found.
#define REV_FENCE(name) \
  [[gnu::error("not in the emulator: let a barrier or a kernel end")]] void name();
REV_FENCE(__threadfence)
REV_FENCE(__threadfence_block)
REV_FENCE(__threadfence_system)
#undef REV_FENCE
