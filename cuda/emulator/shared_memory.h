// Shared memory of the running block: carved from one arena, poisoned when a block begins, with gaps between the arrays
// that nobody may touch. The functions that kernels call are in builtins.h.
#pragma once

#include <cstddef>

namespace xent::emulator {

inline constexpr size_t most_static_shared_bytes = 48 << 10, most_shared_bytes = 227 << 10;

// A block begins, with that much dynamic shared memory.
void begin_shared_memory(size_t dynamic_bytes);

// A block has ended without an error. Throws KernelError if it wrote into a gap.
void check_shared_memory(const char* kernel);

// An address that only the running block has: block_tokens of them, for what its barriers order (sanitizer.h). Two
// blocks that shared one would seem to wait for each other.
inline constexpr size_t block_tokens = 2 + 32 * 64 * 2;
void* block_token(size_t index);

// The kernel has ended. Under ThreadSanitizer every block has an arena of its own, which lives until then: otherwise
// one block's accesses would seem to meet those of another.
void end_shared_memory();

}  // namespace xent::emulator
