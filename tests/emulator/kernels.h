// Launchers of small kernels (kernels.cu): right ones, and ones with a single mistake each, that
// the emulator's tests expect to be reported. `x` points to kThreads numbers unless it says more.
#pragma once

#include <cstdint>

namespace rev::emulator {

constexpr int kThreads = 64;

// ---- mistakes that every program reports ----

void barriers_in_two_branches(int* x);
void return_before_a_barrier(int* x);
void return_before_a_shuffle(int* x);
void warp_barrier_beside_block_barrier(int* x);
void mask_without_the_caller(int* x);
void mask_of_missing_lanes(int* x);
void shuffle_from_outside_the_mask(int* x);
void one_mask_at_two_places(int* x);
void launch_within_a_kernel(int* x);
void launch_of_size(int* x, unsigned blocks, unsigned threads, unsigned shared_bytes);

// ---- mistakes that AddressSanitizer reports ----

void read_beyond_global_memory(int* x);
void write_before_global_memory(int* x);
void write_beyond_static_shared_memory(int* x);
void read_beyond_shared_memory_of_a_template(int* x);
void write_beyond_dynamic_shared_memory(int* x);
void misaligned_vector(int* x);

// ---- mistakes that the race finder reports ----

void shared_memory_without_a_barrier(int* x);
void shared_memory_used_again_without_a_barrier(int* x);
void shuffle_taken_for_a_barrier(int* x);
void warp_barrier_of_half_the_warp(int* x);
void warp_barrier_between_warps(int* x);
void all_threads_write_one_number(int* x);
void block_reads_what_another_wrote(int* x);
void block_writes_what_another_read(int* x);
void plain_read_beside_atomics(int* x);
void shared_memory_that_nobody_wrote(int* x);
void shared_memory_of_the_block_before(int* x);

// ---- kernels without a mistake ----

/// x[i] = i + 1 by way of dynamic shared memory of 100 KiB.
void through_dynamic_shared_memory(int* x);

/// x[i] = number of blocks, which all add 1.
void count_by_atomics(int* x, unsigned blocks);

/// x[i] = i ^ 1 in the first half of each warp and i ^ 2 in the other: two masks at two places.
void halves_of_warps(int* x);

/// Lanes 0 and 1 wait for each other while 1 waits for 2 first; x[i] = 1.
void masks_that_overlap(int* x);

/// x[i] = i ^ 1 by way of shared memory, ordered by __syncwarp alone, several times over.
void exchange_within_warps(int* x);

/// Each of these for each thread, 16 after another: see the test.
constexpr int kExchanges = 20;
void exchanges(uint32_t* x);

/// x[i] = 1 where the block is of 4 x 4 x 4 threads and i belongs to (i % 4, i / 4 % 4, i / 16).
void three_dimensions(int* x);

}  // namespace rev::emulator
