#include "emulator/collectives.h"

#include <cstdio>
#include <string>

#include "emulator/races.h"

namespace rev::emulator {
namespace {

std::string hex(unsigned mask) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", mask);
  return text;
}

// The lanes that exist in the thread's warp: the block's last warp may be a part of one.
unsigned lanes_of_warp(const Thread& thread) {
  const unsigned left = threads_in_block() - thread.warp() * kWarpLanes;
  return left >= kWarpLanes ? 0xffffffffu : (1u << left) - 1;
}

void check_mask(unsigned mask, const Thread& thread, const Site& site) {
  if ((mask >> thread.lane() & 1) == 0) {
    fail("the mask " + hex(mask) + " is without the caller's lane " +
         std::to_string(thread.lane()) + ", " + to_string(site));
  }
  if ((mask & ~lanes_of_warp(thread)) != 0) {
    fail("the mask " + hex(mask) + " names lanes that the block does not have, " + to_string(site));
  }
}

// Whether all lanes of the thread's mask wait for that mask. Fails where they wait to do different
// things with it.
bool all_have_come(const Thread& thread, Thread* warp) {
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    const Thread& other = warp[lane];
    if (other.state != State::kInWarp || other.mask != thread.mask) return false;
    if (other.combine != thread.combine || !(other.site == thread.site)) {
      fail("lanes of the mask " + hex(thread.mask) + " meet at different places, " +
           to_string(thread.site) + " and " + to_string(other.site));
    }
  }
  return true;
}

}  // namespace

int block_barrier(int predicate, const Site& site) {
  Thread& thread = *here.thread;
  thread.value = predicate != 0 ? 1 : 0;
  wait(State::kAtBarrier, site);
  return static_cast<int>(thread.value);
}

uint64_t meet(unsigned mask, uint64_t value, int argument, Combine combine, const Site& site) {
  Thread& thread = *here.thread;
  check_mask(mask, thread, site);
  thread.state = State::kInWarp;
  thread.site = site;
  thread.mask = mask;
  thread.combine = combine;
  thread.value = value;
  thread.argument = argument;
  Thread* const warp = &thread_of_block(thread.warp() * kWarpLanes);
  if (!all_have_come(thread, warp)) {
    wait(State::kInWarp, site);
    return thread.value;
  }
  Meeting meeting;
  meeting.mask = mask;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    meeting.brought[lane] = warp[lane].value;
    meeting.argument[lane] = warp[lane].argument;
  }
  combine(meeting);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    warp[lane].value = meeting.taken[lane];
    warp[lane].state = State::kReady;
  }
  return thread.value;
}

void warp_barrier(unsigned mask, const Site& site) {
  meet(
      mask, 0, 0, [](Meeting& meeting) { races::warp_barrier(meeting.mask); }, site);
}

void take_from_lane(Meeting& meeting) {
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    const int source = meeting.argument[lane];
    if (source < 0 || source >= static_cast<int>(kWarpLanes) || (meeting.mask >> source & 1) == 0) {
      fail("lane " + std::to_string(lane) + " shuffles from lane " + std::to_string(source) +
           ", which is not in the mask " + hex(meeting.mask) + ", " + to_string(here.thread->site));
    }
    meeting.taken[lane] = meeting.brought[source];
  }
}

}  // namespace rev::emulator
