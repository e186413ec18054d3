// The axes of XLA's buffers; those before a function's own are the lanes of vmap.

#pragma once

#include <cstddef>
#include <cstdint>

// The axis i, counted from the last.
template <class B>
int64_t axis(B& b, int i) { return b.dimensions()[b.dimensions().size() - 1 - i]; }

// The product of all axes before the last `own`.
template <class B>
int64_t lanes(B& b, size_t own) {
  int64_t n = 1;
  for (size_t i = 0; i + own < b.dimensions().size(); i++) n *= b.dimensions()[i];
  return n;
}
