// A tree of gradient boosting, for CPUs, grown best leaf first on histograms of gradients. Gradients are integers, so
// every sum is exact: nothing depends on the number of threads or on the order of the rows, a sibling's histogram is its
// parent's less the other's, and `framework/baselines/leafwise.py` grows the same tree. First and second derivative
// share a word, the second below, which is never negative: one addition for both.

#pragma GCC optimize("no-trapping-math")  // else the search for splits is not vectorised

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "team.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using U8 = ffi::Buffer<ffi::U8>;
using S32 = ffi::Buffer<ffi::S32>;
using Mask = ffi::Buffer<ffi::PRED>;
template <ffi::DataType T>
using To = ffi::Result<ffi::Buffer<T>>;

namespace {

constexpr int kWide = 16;        // columns side by side in memory
constexpr int64_t kPart = 8192;  // rows of a part of a job

std::mutex turn;  // one tree at a time has all threads; XLA may run independent ones side by side

int64_t packed(int32_t g, int32_t h) { return ((int64_t)g << 32) + h; }
int32_t first(int64_t sum) { return sum >> 32; }
int32_t second(int64_t sum) { return (int32_t)sum; }

struct Split {
  float gain = 0;  // of the two sides, above the node's own; 0 where there is nothing to gain
  int32_t feature = -1, bin = 0;
  bool missing_left = false;
  int64_t left = 0;
};

struct Node {
  int64_t begin = 0, count = 0, sum = 0;
  int32_t depth = 0, histogram = -1;
  Split split;
};

struct Grower {
  Team& team = Team::of_all();
  int64_t n, f, bins, blocks;
  const uint8_t* codes;  // blocks, rows, 16 columns
  const bool* tried;
  const int64_t* categories;
  float l2, least;  // in units of the second derivatives
  float share;      // how many rows of the node's average second derivative a side needs
  std::vector<int32_t> rows, spare_rows;
  std::vector<int64_t> sums, spare_sums, pool;
  std::vector<Split> found;

  int64_t slots() const { return bins + 1; }  // the last is that of missing values
  int64_t* histogram(int32_t i, int64_t block) {
    return pool.data() + (i * blocks + block) * kWide * slots();
  }

  bool is_category(int64_t feature) const { return categories[feature] > 0; }

  // ---- histograms ------------------------------------------------------------------------------------------------

  template <int W>
  void add(const Node& node, int64_t block, int64_t* __restrict out) {
    const uint8_t* own = codes + block * n * kWide;
    int64_t width = slots();
    for (int64_t i = node.begin; i < node.begin + node.count; i++) {
      const uint8_t* code = own + (int64_t)rows[i] * kWide;
      int64_t sum = sums[i];
#pragma GCC unroll 16
      for (int j = 0; j < W; j++) out[j * width + code[j]] += sum;
    }
  }

  void build(const Node& node, int64_t block) {
    int64_t* out = histogram(node.histogram, block);
    std::memset(out, 0, kWide * slots() * sizeof(int64_t));
    int64_t columns = std::min<int64_t>(kWide, f - block * kWide);
    if (columns > 12) return add<16>(node, block, out);
    if (columns > 8) return add<12>(node, block, out);
    if (columns > 4) return add<8>(node, block, out);
    if (columns > 1) return add<4>(node, block, out);
    add<1>(node, block, out);
  }

  // ---- splits ----------------------------------------------------------------------------------------------------

  // The scores of all cuts, -1 where a side is too light; the largest.
  float scores(const int32_t* __restrict g, const int32_t* __restrict h, const Node& node, float* __restrict out) const {
    const int32_t all_g = first(node.sum), all_h = second(node.sum);
    const float wanted = share * ((float)all_h / (float)node.count);
    const float more = l2, enough = std::max({least, wanted, 0.5f});  // sums are whole: one of none is below a half
    const int64_t cuts = bins;
    for (int64_t b = 0; b < cuts; b++) {
      float gl = g[b], gr = all_g - g[b], hl = h[b], hr = all_h - h[b];
      float score = gl * gl / (hl + more) + gr * gr / (hr + more);
      out[b] = std::min(hl, hr) >= enough ? score : -1.0f;
    }
    int32_t best = -1, bits;  // as integers scores have the same order, and these are quicker to compare
    for (int64_t b = 0; b < cuts; b++) {
      std::memcpy(&bits, out + b, 4);
      best = std::max(best, bits);
    }
    float value;
    std::memcpy(&value, &best, 4);
    return best < 0 ? -1.0f : value;
  }

  // Categories in the order of their Newton steps; those without rows last.
  void order(const int64_t* sum, uint8_t* at) {
    float key[256];
    for (int64_t b = 0; b < bins; b++) {
      float h = second(sum[b]);
      key[b] = h > 0 ? first(sum[b]) / (h + l2) : 3e38f;
      at[b] = b;
    }
    std::stable_sort(at, at + bins, [&](uint8_t a, uint8_t b) { return key[a] < key[b]; });
  }

  void search(const int64_t* sum, const Node& node, int32_t feature, float own, Split& best) {
    alignas(64) int32_t g[256], h[256];
    alignas(64) float score[256];
    uint8_t at[256];
    if (is_category(feature)) order(sum, at);
    int64_t absent = sum[bins];
    for (int missing_left = 0; missing_left <= (absent != 0); missing_left++) {
      int64_t running = missing_left ? absent : 0;
      for (int64_t b = 0; b < bins; b++) {
        running += sum[is_category(feature) ? at[b] : b];
        g[b] = first(running), h[b] = second(running);
      }
      float top = scores(g, h, node, score);
      if (top < 0 || !(top - own > std::max(best.gain, own * 1e-6f))) continue;
      int32_t b = std::find(score, score + bins, top) - score;
      bool heavier = h[b] >= second(node.sum) - h[b];
      best = {top - own, feature, b, second(absent) ? missing_left == 1 : heavier, packed(g[b], h[b])};
    }
  }

  // Whether both sides can have as many rows as they need.
  bool divisible(const Node& node) const { return node.count > 2 * share - 0.5f; }

  Split best(const Node& node, int64_t block) {
    float g = first(node.sum), own = g * g / (second(node.sum) + l2);
    Split best;
    for (int64_t j = 0; j < std::min<int64_t>(kWide, f - block * kWide); j++)
      if (tried[block * kWide + j])
        search(histogram(node.histogram, block) + j * slots(), node, block * kWide + j, own, best);
    return best;
  }

  bool any_tried(int64_t block) const {
    for (int64_t j = block * kWide; j < std::min(f, (block + 1) * kWide); j++)
      if (tried[j]) return true;
    return false;
  }

  // The best split of a node whose sibling, if it has one, is larger and holds their parent's histogram.
  void evaluate(Node& node, Node* sibling) {
    if (!divisible(sibling ? *sibling : node)) return;
    found.assign(blocks * 2, {});
    team.run(blocks, [&](uint32_t block) {
      if (!any_tried(block)) return;
      build(node, block);
      if (divisible(node)) found[block] = best(node, block);
      if (!sibling) return;
      int64_t *large = histogram(sibling->histogram, block), *small = histogram(node.histogram, block);
      for (int64_t i = 0; i < kWide * slots(); i++) large[i] -= small[i];
      found[blocks + block] = best(*sibling, block);
    });
    auto better = [](const Split& a, const Split& b) { return a.gain < b.gain; };
    node.split = *std::max_element(found.begin(), found.begin() + blocks, better);
    if (sibling) sibling->split = *std::max_element(found.begin() + blocks, found.end(), better);
  }

  // ---- rows ------------------------------------------------------------------------------------------------------

  // Which codes go left.
  void sides(const Node& node, bool* goes) {
    const Split& split = node.split;
    uint8_t at[256];
    bool sorted = is_category(split.feature);
    int64_t block = split.feature / kWide;
    if (sorted) order(histogram(node.histogram, block) + split.feature % kWide * slots(), at);
    for (int64_t b = 0; b < bins; b++) goes[sorted ? at[b] : b] = b <= split.bin;
    goes[bins] = split.missing_left;
  }

  const uint8_t* column(int32_t feature) const { return codes + feature / kWide * n * kWide + feature % kWide; }

  // The rows that go left are moved to the front; how many they are.
  int64_t divide(const Node& node, const bool* goes) {
    const uint8_t* code = column(node.split.feature);
    int64_t parts = std::min<int64_t>(node.count / kPart + 1, 64), lefts[65] = {};
    auto from = [&](int64_t part) { return node.begin + node.count * part / parts; };
    team.run(parts, [&](uint32_t part) {
      int64_t l = from(part), r = l;
      for (int64_t i = from(part); i < from(part + 1); i++) {
        int32_t row = rows[i];
        int64_t sum = sums[i];
        bool left = goes[code[(int64_t)row * kWide]];
        rows[l] = row, sums[l] = sum;
        spare_rows[r] = row, spare_sums[r] = sum;
        l += left, r += !left;
      }
      lefts[part] = l - from(part);
    });
    int64_t left = node.begin;
    for (int64_t part = 0; part < parts; part++) {
      if (part) move(from(part), lefts[part], left, rows, sums);
      left += lefts[part];
    }
    for (int64_t part = 0, to = left; part < parts; part++) {
      int64_t count = from(part + 1) - from(part) - lefts[part];
      std::copy_n(spare_rows.data() + from(part), count, rows.data() + to);
      std::copy_n(spare_sums.data() + from(part), count, sums.data() + to);
      to += count;
    }
    return left - node.begin;
  }

  void move(int64_t from, int64_t count, int64_t to, std::vector<int32_t>& a, std::vector<int64_t>& b) {
    std::memmove(a.data() + to, a.data() + from, count * sizeof(int32_t));
    std::memmove(b.data() + to, b.data() + from, count * sizeof(int64_t));
  }
};

ffi::Error Grow(U8 codes, S32 g, S32 h, Mask tried, F32 rules, To<ffi::S32> feature, To<ffi::S32> bin,
                To<ffi::PRED> missing_left, To<ffi::S32> child, To<ffi::U32> sets, To<ffi::S32> sum_g,
                To<ffi::S32> sum_h, To<ffi::S32> leaf, int64_t bins, int64_t depth, ffi::Span<const int64_t> categories) {
  std::lock_guard<std::mutex> mine(turn);
  static Grower it;
  int64_t most = feature->element_count(), words = sets->dimensions()[1];
  it.n = g.element_count(), it.f = tried.element_count(), it.bins = bins, it.blocks = codes.dimensions()[0];
  it.codes = codes.typed_data(), it.tried = tried.typed_data(), it.categories = categories.begin();
  it.l2 = rules.typed_data()[0], it.least = rules.typed_data()[1];
  it.share = rules.typed_data()[2];
  it.rows.resize(it.n), it.spare_rows.resize(it.n), it.sums.resize(it.n), it.spare_sums.resize(it.n);
  it.pool.resize((most / 2 + 1) * it.blocks * kWide * it.slots());

  std::vector<Node> nodes(most);
  std::fill_n(feature->typed_data(), most, -1);
  std::fill_n(bin->typed_data(), most, 0);
  std::fill_n(missing_left->typed_data(), most, false);
  std::fill_n(child->typed_data(), most, 0);
  std::fill_n(sets->typed_data(), most * words, 0);

  Node& root = nodes[0];
  for (int64_t i = 0; i < it.n; i++) {
    int64_t sum = packed(g.typed_data()[i], h.typed_data()[i]);
    it.rows[root.count] = i, it.sums[root.count] = sum;
    root.count += sum != 0, root.sum += sum;
  }
  root.histogram = 0;
  int64_t used = 1;
  if (most > 1 && depth > 0) it.evaluate(root, nullptr);
  while (used + 1 < most) {
    Node& node = *std::max_element(nodes.begin(), nodes.begin() + used,
                                   [](const Node& a, const Node& b) { return a.split.gain < b.split.gain; });
    if (!(node.split.gain > 0)) break;
    int64_t i = &node - nodes.data();
    bool goes[256];
    it.sides(node, goes);
    feature->typed_data()[i] = node.split.feature, bin->typed_data()[i] = node.split.bin;
    missing_left->typed_data()[i] = node.split.missing_left, child->typed_data()[i] = used;
    if (words && it.is_category(node.split.feature))
      for (int64_t c = 0; c < bins; c++) sets->typed_data()[i * words + c / 32] |= (uint32_t)goes[c] << c % 32;
    Node &left = nodes[used], &right = nodes[used + 1];
    int64_t lefts = it.divide(node, goes);
    left.begin = node.begin, left.count = lefts, left.sum = node.split.left;
    right.begin = node.begin + lefts, right.count = node.count - lefts, right.sum = node.sum - node.split.left;
    left.depth = right.depth = node.depth + 1;
    node.split.gain = 0;
    used += 2;
    if (used + 1 >= most || left.depth >= depth) continue;
    Node &small = left.count <= right.count ? left : right, &large = left.count <= right.count ? right : left;
    large.histogram = node.histogram, small.histogram = used / 2;
    it.evaluate(small, &large);
  }

  for (int64_t i = 0; i < most; i++)
    sum_g->typed_data()[i] = first(nodes[i].sum), sum_h->typed_data()[i] = second(nodes[i].sum);
  it.team.run(used, [&](uint32_t i) {
    if (feature->typed_data()[i] >= 0) return;
    for (int64_t r = nodes[i].begin; r < nodes[i].begin + nodes[i].count; r++) leaf->typed_data()[it.rows[r]] = i;
  });
  if (root.count == it.n) return ffi::Error::Success();
  auto walk = [&](int64_t r) {
    int32_t i = 0;
    while (feature->typed_data()[i] >= 0) {
      int32_t own = feature->typed_data()[i], code = it.column(own)[r * kWide];
      bool left = code <= bin->typed_data()[i];
      if (words && it.is_category(own)) left = sets->typed_data()[i * words + code / 32] >> code % 32 & 1;
      if (code == bins) left = missing_left->typed_data()[i];
      i = child->typed_data()[i] + !left;
    }
    return i;
  };
  int64_t parts = std::min<int64_t>(it.n / kPart + 1, 64);
  it.team.run(parts, [&](uint32_t part) {
    for (int64_t r = it.n * part / parts; r < it.n * (part + 1) / parts; r++)
      if (!g.typed_data()[r] && !h.typed_data()[r]) leaf->typed_data()[r] = walk(r);  // rows that count for nothing
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_boosting_grow, Grow,
                              ffi::Ffi::Bind()
                                  .Arg<U8>()
                                  .Arg<S32>()
                                  .Arg<S32>()
                                  .Arg<Mask>()
                                  .Arg<F32>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::PRED>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::U32>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Attr<int64_t>("bins")
                                  .Attr<int64_t>("depth")
                                  .Attr<ffi::Span<const int64_t>>("categories"));
