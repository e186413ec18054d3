// Rows walked down trees, for CPUs, 64 at a time, columns side by side. A thread has a block of rows to itself and adds
// the trees' values in their order, so that nothing depends on the number of threads.
//
// The top of a tree is not walked (QuickScorer, Lucchese et al. 2015): the places where it ends are bits, from left to
// right; every node of it that sends a row to the right strikes those below its left child, in whatever order, and the
// first bit left is where the row comes out. There is nothing to look up but a column, and nothing to guess. Trees of
// few leaves are all top.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "axes.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using U32 = ffi::Buffer<ffi::U32>;
using S32 = ffi::Buffer<ffi::S32>;
using Mask = ffi::Buffer<ffi::PRED>;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int kTile = 64, kLanes = 16, kVectors = kTile / kLanes;
constexpr int kTop = 127;             // nodes that are no leaves
constexpr int64_t kBlock = 4096;      // rows of a part of the work
constexpr int64_t kCache = 1 << 18;   // bytes of trees that all tiles of a block meet before the next trees come

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));

struct Tree {  // one tree's arrays; its columns of values follow each other node by node
  const int32_t *feature, *left;
  const float *threshold, *value;
  const bool* missing_left;
  const uint32_t* categories;  // null where there are none
  int64_t p;

  bool goes_right(int32_t node, float x) const {
    if (x != x) return !missing_left[node];
    if (threshold[node] == threshold[node]) return !(x <= threshold[node]);
    uint32_t code = static_cast<uint32_t>(x) & 255;
    return !(categories[8 * node + code / 32] >> code % 32 & 1);
  }

  int32_t walk(const float* x, int64_t stride) const {
    int32_t node = 0;
    while (feature[node] >= 0) node = left[node] + goes_right(node, x[feature[node] * stride]);
    return node;
  }
};

struct Strike {  // what a node does where it sends a row to the right
  int32_t column;
  float threshold;
  int32_t spared;  // the bits left
};

struct Word {  // 32 ends; missing values go right at the strikes before `middle`, left at those after it
  int32_t begin, middle, end, bits;
};

struct Node {  // of a tree that is walked; a leaf leads to itself
  float threshold;
  int32_t column, left, to_left;  // to_left: whether missing values go there
};

// A tree made ready for tiles of rows.
struct Ready {
  Tree tree;
  std::vector<Strike> strikes;
  std::vector<Word> words;       // the last first
  std::vector<int32_t> ends;     // where the top ends, from left to right
  std::vector<Node> nodes;
  std::vector<int32_t> outputs;  // the columns of values that are not all zero
  bool sets, deep;               // has categories, so that rows go one by one; goes on below its top

  // How many bytes it takes.
  size_t prepare(const Tree& its) {
    tree = its;
    strikes.clear(), words.clear(), ends.clear(), nodes.clear(), outputs.clear();
    sets = deep = false;
    for (int32_t i = 0, all = 1; i < all; i++) {  // breadth first: those in use come first
      bool leaf = tree.feature[i] < 0;
      sets |= tree.threshold[i] != tree.threshold[i];
      nodes.push_back({leaf ? kInf : tree.threshold[i], leaf ? 0 : tree.feature[i] * kTile, leaf ? i : tree.left[i],
                       leaf || tree.missing_left[i]});
      all = std::max(all, leaf ? 0 : tree.left[i] + 2);
    }
    for (int32_t j = 0; j < tree.p; j++)
      for (size_t i = 0; i < nodes.size(); i++)
        if (tree.feature[i] < 0 && tree.value[i * tree.p + j] != 0) {
          outputs.push_back(j);
          break;
        }
    if (!sets) strike();
    return sizeof(Strike) * strikes.size() + sizeof(Node) * deep * nodes.size();
  }

  void strike() {
    int32_t top = 0, many = 0;
    for (; top < static_cast<int32_t>(nodes.size()) && many < kTop; top++) many += tree.feature[top] >= 0;
    auto inner = [&](int32_t node) { return node < top && tree.feature[node] >= 0; };
    int32_t below[2 * kTop + 1], first[2 * kTop + 1] = {};  // how many ends lie below a node, and the leftmost
    std::fill_n(below, 2 * kTop + 1, 1);
    for (int32_t node = top - 1; node >= 0; node--)
      if (inner(node)) below[node] = below[tree.left[node]] + below[tree.left[node] + 1];
    ends.resize(below[0]);
    for (int32_t node = 0; node < top; node++)
      if (inner(node))
        for (int32_t child = tree.left[node], at = first[node]; child < tree.left[node] + 2; at += below[child++]) {
          first[child] = at;
          if (!inner(child)) ends[at] = child;
        }
    deep = std::any_of(ends.begin(), ends.end(), [&](int32_t end) { return tree.feature[end] >= 0; });
    for (int32_t from = (below[0] - 1) / 32 * 32; from >= 0; from -= 32) {
      Word word{static_cast<int32_t>(strikes.size()), 0, 0, bits(0, below[0] - from)};
      for (bool to_left : {false, true}) {
        for (int32_t node = 0; node < top; node++) {
          if (!inner(node) || tree.missing_left[node] != to_left) continue;
          int32_t left = tree.left[node], struck = bits(first[left] - from, first[left + 1] - from);
          if (struck) strikes.push_back({tree.feature[node] * kTile, tree.threshold[node], ~struck});
        }
        (to_left ? word.end : word.middle) = strikes.size();
      }
      words.push_back(word);
    }
  }

  static int32_t bits(int32_t from, int32_t to) {  // those of a word, which has 32
    uint64_t below = (uint64_t{1} << std::clamp(to, 0, 32)) - (uint64_t{1} << std::clamp(from, 0, 32));
    return static_cast<int32_t>(to > from ? below : 0);
  }

  void find(const float* __restrict x, int32_t* __restrict node) const {
    if (sets) {
      for (int i = 0; i < kTile; i++) node[i] = tree.walk(x + i, kTile);
      return;
    }
    pass(x, node);
    if (deep) walk(x, node);
  }

  void pass(const float* __restrict x, int32_t* __restrict node) const {
    Integers found[kVectors] = {};
    for (size_t w = 0; w < words.size(); w++) {
      Integers left[kVectors];
      for (int q = 0; q < kVectors; q++) left[q] = Integers{} + words[w].bits;
      const Strike *at = strikes.data() + words[w].begin, *middle = strikes.data() + words[w].middle;
      for (; at < middle; at++)
        for (int q = 0; q < kVectors; q++)
          left[q] = load(x, at->column, q) <= at->threshold ? left[q] : left[q] & at->spared;
      for (const Strike* end = strikes.data() + words[w].end; at < end; at++)
        for (int q = 0; q < kVectors; q++)
          left[q] = load(x, at->column, q) > at->threshold ? left[q] & at->spared : left[q];
      int32_t from = 32 * (words.size() - 1 - w);
      for (int q = 0; q < kVectors; q++) found[q] = left[q] != 0 ? lowest(left[q]) + from : found[q];
    }
    int32_t end[kTile];
    std::memcpy(end, found, sizeof found);
    for (int i = 0; i < kTile; i++) node[i] = ends[end[i]];
  }

  static Floats load(const float* x, int32_t column, int q) {
    Floats value;
    std::memcpy(&value, x + column + q * kLanes, sizeof value);
    return value;
  }

  static Integers lowest(Integers bits) {  // the number of the lowest bit set, by the exponent of its value
    Floats power = __builtin_convertvector(bits & -bits, Floats);
    Integers raw;
    std::memcpy(&raw, &power, sizeof raw);
    return (raw >> 23 & 255) - 127;
  }

  // The rows that are not at a leaf yet go on side by side.
  void walk(const float* __restrict x, int32_t* __restrict node) const {
    const Node* __restrict own = nodes.data();
    int32_t row[kTile], at[kTile] = {}, many = kTile;
    for (int i = 0; i < kTile; i++) row[i] = i, at[i] = node[i];
    while (true) {
      int32_t left = 0;
      for (int i = 0; i < many; i++) {
        int32_t r = row[i], here = at[i];
        node[r] = here, row[left] = r, at[left] = here;
        left += own[here].left != here;
      }
      if (!(many = left)) return;
#pragma omp simd
      for (int i = 0; i < (many + kLanes - 1) / kLanes * kLanes; i++) {  // those behind stand at nodes, too
        const Node& here = own[at[i]];
        float value = x[here.column + row[i]];
        at[i] = here.left + (value != value ? !here.to_left : value > here.threshold);
      }
    }
  }

  void add(const int32_t* __restrict node, const bool* count, float* __restrict sum) const {
    for (int32_t j : outputs) {
      const float* __restrict own = tree.value + j;
      float* __restrict to = sum + j * kTile;
      int32_t p = tree.p;
      if (!count)
        for (int i = 0; i < kTile; i++) to[i] += own[node[i] * p];
      else
        for (int i = 0; i < kTile; i++) to[i] += count[i] ? own[node[i] * p] : 0.0f;
    }
  }
};

struct Table {
  const float* x;
  const bool* observed;
  int64_t n, f;
};

// Columns side by side, for so many rows of a tile; missing ones NaN, rows beyond them 0.
void turn(const Table& table, int64_t from, int64_t rows, float* __restrict out) {
  for (int64_t j = 0; j < table.f; j += kLanes)
    for (int64_t i = 0; i < kTile; i++)
      for (int64_t at = (from + i) * table.f, k = j; k < std::min(j + kLanes, table.f); k++)
        out[k * kTile + i] = i >= rows ? 0 : table.observed[at + k] ? table.x[at + k] : NAN;
}

// The sums of all trees for some rows; `counts` tells of each tree the rows it counts for, null where all do.
void answer(const std::vector<Tree>& trees, const Table& table, const bool* counts, int64_t from, int64_t rows,
            float* out) {
  int64_t tiles = (rows + kTile - 1) / kTile, p = trees.empty() ? 0 : trees[0].p;
  std::vector<float> x(tiles * kTile * table.f), sum(tiles * kTile * p);
  for (int64_t tile = 0; tile < tiles; tile++)
    turn(table, from + tile * kTile, std::min<int64_t>(kTile, rows - tile * kTile), &x[tile * kTile * table.f]);
  std::vector<Ready> ready;
  for (size_t first = 0, end; first < trees.size(); first = end) {
    size_t bytes = 0;
    for (end = first; end < trees.size() && bytes < kCache; end++) {
      if (ready.size() == end - first) ready.emplace_back();
      bytes += ready[end - first].prepare(trees[end]);
    }
    for (int64_t tile = 0; tile < tiles; tile++) {
      int32_t node[kTile];
      bool count[kTile] = {};
      for (size_t t = first; t < end; t++) {
        ready[t - first].find(&x[tile * kTile * table.f], node);
        int64_t first_row = tile * kTile, height = std::min<int64_t>(kTile, rows - first_row);
        if (counts) std::copy_n(counts + t * table.n + from + first_row, height, count);
        ready[t - first].add(node, counts ? count : nullptr, &sum[tile * kTile * p]);
      }
    }
  }
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < p; j++) out[(from + i) * p + j] = sum[i / kTile * kTile * p + j * kTile + i % kTile];
}

ffi::Error Walk(S32 feature, F32 threshold, Mask missing_left, S32 left, F32 value, U32 categories, F32 x, Mask observed,
                Mask counts, ffi::Result<F32> out) {
  int64_t m = axis(feature, 1), k = axis(feature, 0), p = axis(value, 0), n = axis(x, 1), f = axis(x, 0);
  bool sets = axis(categories, 0) > 0, some = axis(counts, 0) > 0;
  int64_t threads = omp_get_max_threads(), share = (n + threads - 1) / threads, parts = (share + kBlock - 1) / kBlock;
  int64_t block = std::max<int64_t>((share + parts - 1) / std::max<int64_t>(parts, 1) + kTile - 1, kTile) / kTile * kTile;
  int64_t blocks = (n + block - 1) / block;
#pragma omp parallel for schedule(dynamic)
  for (int64_t job = 0; job < lanes(x, 2) * blocks; job++) {
    int64_t lane = job / blocks, from = job % blocks * block;
    std::vector<Tree> trees;
    for (int64_t t = lane * m; t < (lane + 1) * m; t++)
      trees.push_back({feature.typed_data() + t * k, left.typed_data() + t * k, threshold.typed_data() + t * k,
                       value.typed_data() + t * k * p, missing_left.typed_data() + t * k,
                       sets ? categories.typed_data() + t * k * 8 : nullptr, p});
    Table table{x.typed_data() + lane * n * f, observed.typed_data() + lane * n * f, n, f};
    answer(trees, table, some ? counts.typed_data() + lane * m * n : nullptr, from, std::min(block, n - from),
           out->typed_data() + lane * n * p);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_walking_walk, Walk,
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
