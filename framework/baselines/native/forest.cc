// Trees on binned features, for CPUs: cutting columns into bins, growing forests, walking down them. Leading axes of
// the arrays are those of vmap. Nothing depends on the number of threads: a thread has a column, a tree or a block of
// rows to itself.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using U8 = ffi::Buffer<ffi::U8>;
using U32 = ffi::Buffer<ffi::U32>;
using S32 = ffi::Buffer<ffi::S32>;
using Mask = ffi::Buffer<ffi::PRED>;
template <class B>
using To = ffi::Result<B>;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int kMissing = 255;

// The axis i, counted from the last, and the product of all before the last `own`: the lanes of vmap.
template <class B>
int64_t axis(B& b, int i) { return b.dimensions()[b.dimensions().size() - 1 - i]; }
template <class B>
int64_t lanes(B& b, size_t own) {
  int64_t n = 1;
  for (size_t i = 0; i + own < b.dimensions().size(); i++) n *= b.dimensions()[i];
  return n;
}

// ---- binning ---------------------------------------------------------------------------------------------------

uint32_t ordered(float value) {  // an integer of the same order
  value += 0.0f;                 // -0 is 0
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

float number(uint32_t key) {
  key = key & 0x80000000u ? key & 0x7fffffffu : ~key;
  float value;
  std::memcpy(&value, &key, 4);
  return value;
}

void sort(std::vector<uint32_t>& keys, std::vector<uint32_t>& spare) {
  size_t n = keys.size();
  if (n < 256) return std::sort(keys.begin(), keys.end());
  std::vector<uint32_t> count(3 * 2048);
  for (uint32_t key : keys) count[key & 2047]++, count[2048 + (key >> 11 & 2047)]++, count[4096 + (key >> 22)]++;
  spare.resize(n);
  for (int pass = 0; pass < 3; pass++) {
    uint32_t* at = count.data() + 2048 * pass;
    for (uint32_t i = 0, sum = 0; i < 2048; i++) std::swap(at[i], sum), sum += at[i];
    for (uint32_t key : keys) spare[at[key >> 11 * pass & 2047]++] = key;
    keys.swap(spare);
  }
}

// Greedy: each bin takes its even share of the rows left, whole values only; once no more values than bins are left,
// each value has its own.
void cut(const std::vector<uint32_t>& keys, float* out, int64_t bins) {
  int64_t n = keys.size(), at = 0, left = 0;
  for (int64_t i = 0; i < n; i++) left += i == 0 || keys[i] != keys[i - 1];
  std::fill(out, out + bins - 1, kInf);
  for (int64_t b = bins; b > 1 && at < n; b--) {
    int64_t own = std::upper_bound(keys.begin() + at, keys.end(), keys[at]) - keys.begin(), next = own;
    if (left > b) {
      next = at + std::max<int64_t>(1, (n - at + b / 2) / b);
      if (next < n) next = std::lower_bound(keys.begin() + at, keys.begin() + next, keys[next]) - keys.begin();
      next = std::max(next, own);
    }
    for (int64_t i = at; i < next; i++) left -= i == at || keys[i] != keys[i - 1];
    if ((at = next) >= n) break;
    float low = number(keys[at - 1]), high = number(keys[at]), middle = 0.5f * low + 0.5f * high;
    *out++ = middle < high ? middle : low;
  }
}

constexpr int64_t kStripe = 16;  // columns read at a time: a cache line

ffi::Error Edges(F32 x, Mask kept, To<F32> out) {
  int64_t n = axis(x, 1), f = axis(x, 0), bins = axis(*out, 0) + 1, stripes = (f + kStripe - 1) / kStripe;
#pragma omp parallel for schedule(dynamic)
  for (int64_t job = 0; job < lanes(x, 2) * stripes; job++) {
    int64_t lane = job / stripes, from = job % stripes * kStripe, width = std::min(kStripe, f - from);
    std::vector<uint32_t> columns[kStripe], spare;
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < width; j++) {
        int64_t at = (lane * n + i) * f + from + j;
        if (kept.typed_data()[at]) columns[j].push_back(ordered(x.typed_data()[at]));
      }
    for (int64_t j = 0; j < width; j++) {
      sort(columns[j], spare);
      cut(columns[j], out->typed_data() + (lane * f + from + j) * (bins - 1), bins);
    }
  }
  return ffi::Error::Success();
}

constexpr int64_t kTile = 64;  // rows searched at a time

void search(const float* __restrict cuts, const float* __restrict value, int32_t* __restrict code) {
  for (int i = 0; i < kTile; i++) code[i] = 0;
  for (int step = 128; step; step /= 2)
#pragma omp simd
    for (int i = 0; i < kTile; i++) code[i] += cuts[code[i] + step - 1] < value[i] ? step : 0;
}

ffi::Error Codes(F32 x, Mask observed, F32 edges, To<U8> out) {
  int64_t n = axis(x, 1), f = axis(x, 0), e = axis(edges, 0), tiles = (n + kTile - 1) / kTile;
#pragma omp parallel for
  for (int64_t job = 0; job < lanes(x, 2) * tiles; job++) {
    int64_t lane = job / tiles, from = job % tiles * kTile, height = std::min(kTile, n - from);
    float value[kTile] = {}, cuts[256];
    int32_t code[kTile];
    std::fill(cuts, cuts + 256, kInf);
    for (int64_t j = 0; j < f; j++) {
      int64_t at = (lane * n + from) * f + j;
      std::copy_n(edges.typed_data() + (lane * f + j) * e, e, cuts);
      for (int64_t i = 0; i < height; i++) value[i] = x.typed_data()[at + i * f];
      search(cuts, value, code);
      for (int64_t i = 0; i < height; i++)
        out->typed_data()[at + i * f] = observed.typed_data()[at + i * f] ? code[i] : kMissing;
    }
  }
  return ffi::Error::Success();
}

// ---- walking ---------------------------------------------------------------------------------------------------

struct Tree {  // one tree's arrays
  const int32_t *feature, *left;
  const float *threshold, *value;
  const bool* missing_left;
  const uint32_t* categories;  // null where there are none
};

struct Packed {  // the same, for many rows at a time: a leaf leads to itself
  std::vector<float> threshold;
  std::vector<int32_t> feature, left;
  std::vector<int32_t> missing_left;

  void pack(const Tree& tree) {
    threshold.clear(), feature.clear(), left.clear(), missing_left.clear();
    for (int32_t node = 0, end = 1; node < end; node++) {  // breadth first: those in use come first
      bool leaf = tree.feature[node] < 0;
      if (!leaf) end = std::max(end, tree.left[node] + 2);
      threshold.push_back(leaf ? kInf : tree.threshold[node]);
      feature.push_back(leaf ? 0 : tree.feature[node]);
      left.push_back(leaf ? node : tree.left[node]);
      missing_left.push_back(leaf || tree.missing_left[node]);
    }
  }
};

constexpr int kAbreast = 32;  // rows that walk in step, so that one's misses hide behind the others'

void walk_abreast(const Packed& tree, const float* __restrict x, int32_t f, int32_t* __restrict node) {
  const float* threshold = tree.threshold.data();
  const int32_t *feature = tree.feature.data(), *left = tree.left.data(), *missing_left = tree.missing_left.data();
  for (int i = 0; i < kAbreast; i++) node[i] = 0;
  for (int32_t moved = 1; moved;) {
    moved = 0;
#pragma omp simd reduction(| : moved)
    for (int i = 0; i < kAbreast; i++) {
      int32_t at = node[i];
      float value = x[i * f + feature[at]];
      int32_t right = value != value ? !missing_left[at] : value > threshold[at];
      int32_t next = left[at] + right;
      moved |= next ^ at;
      node[i] = next;
    }
  }
}

int32_t walk_alone(const Tree& tree, const float* x) {
  int32_t node = 0;
  while (tree.feature[node] >= 0) {
    float value = x[tree.feature[node]], threshold = tree.threshold[node];
    bool left;
    if (value != value) {
      left = tree.missing_left[node];
    } else if (tree.categories && threshold != threshold) {
      uint32_t code = static_cast<uint32_t>(value) & 255;
      left = tree.categories[8 * node + code / 32] >> code % 32 & 1;
    } else {
      left = value <= threshold;
    }
    node = tree.left[node] + !left;
  }
  return node;
}

ffi::Error Walk(S32 feature, F32 threshold, Mask missing_left, S32 left, F32 value, U32 categories, F32 x, Mask observed,
                Mask counts, To<F32> out) {
  int64_t m = axis(feature, 1), k = axis(feature, 0), p = axis(value, 0), n = axis(x, 1), f = axis(x, 0);
  bool some = axis(counts, 0) > 0, sets = axis(categories, 0) > 0;
  int64_t share = (n + omp_get_max_threads() - 1) / omp_get_max_threads();
  int64_t block = std::clamp<int64_t>((1 << 18) / std::max<int64_t>(f, 1), kAbreast, 2048);
  block = (std::min(block, std::max<int64_t>(share, 1)) + kAbreast - 1) / kAbreast * kAbreast;
  int64_t blocks = (n + block - 1) / block;
#pragma omp parallel
  {
    Packed packed;
    std::vector<float> rows(block * f);
    std::vector<int32_t> node(block);
#pragma omp for schedule(dynamic)
    for (int64_t job = 0; job < lanes(x, 2) * blocks; job++) {
      int64_t lane = job / blocks, from = job % blocks * block, height = std::min(block, n - from);
      for (int64_t at = (lane * n + from) * f, i = 0; i < height * f; i++)
        rows[i] = observed.typed_data()[at + i] ? x.typed_data()[at + i] : NAN;
      float* sum = out->typed_data() + (lane * n + from) * p;
      std::fill_n(sum, height * p, 0.0f);
      for (int64_t t = lane * m; t < (lane + 1) * m; t++) {
        Tree tree{feature.typed_data() + t * k,   left.typed_data() + t * k,
                  threshold.typed_data() + t * k, value.typed_data() + t * k * p,
                  missing_left.typed_data() + t * k, sets ? categories.typed_data() + t * k * 8 : nullptr};
        if (sets || height < 4 * kAbreast) {
          for (int64_t i = 0; i < height; i++) node[i] = walk_alone(tree, rows.data() + i * f);
        } else {
          packed.pack(tree);
          for (int64_t i = 0; i < height; i += kAbreast) walk_abreast(packed, rows.data() + i * f, f, node.data() + i);
        }
        const bool* count = counts.typed_data() + t * n + from;
        for (int64_t i = 0; i < height; i++)
          if (!some || count[i])
            for (int64_t j = 0; j < p; j++) sum[i * p + j] += tree.value[node[i] * p + j];
      }
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_edges, Edges, ffi::Ffi::Bind().Arg<F32>().Arg<Mask>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_codes, Codes,
                              ffi::Ffi::Bind().Arg<F32>().Arg<Mask>().Arg<F32>().Ret<U8>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_walk, Walk,
                              ffi::Ffi::Bind()
                                  .Arg<S32>()
                                  .Arg<F32>()
                                  .Arg<Mask>()
                                  .Arg<S32>()
                                  .Arg<F32>()
                                  .Arg<U32>()
                                  .Arg<F32>()
                                  .Arg<Mask>()
                                  .Arg<Mask>()
                                  .Ret<F32>());
