// Trees on binned features, for CPUs: cutting columns into bins, growing forests. Leading axes of the arrays are those
// of vmap. Nothing depends on the number of threads: a thread has a column, a tree or a block of rows to itself.

#include <omp.h>
#include <sys/mman.h>

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
using U8 = ffi::Buffer<ffi::U8>;
using U32 = ffi::Buffer<ffi::U32>;
using S32 = ffi::Buffer<ffi::S32>;
using Mask = ffi::Buffer<ffi::PRED>;
template <class B>
using To = ffi::Result<B>;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int kMissing = 255;
constexpr int kExact = 22;  // bits that the rows of a node sum to, beside rounding: whole numbers below 2^24 are exact

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

// ---- growing ---------------------------------------------------------------------------------------------------

uint32_t mix(uint32_t h) {  // Appleby's finaliser of MurmurHash3
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return h ^ h >> 16;
}

uint32_t draw(uint32_t seed, uint32_t a, uint32_t b) {
  return mix(mix(seed + 0x9e3779b9u * (a + 1)) + 0x85ebca6bu * (b + 1));
}

ffi::Error Draw(F32 weight, U32 seeds, To<U8> out) {
  int64_t n = axis(weight, 0), m = axis(seeds, 0);
#pragma omp parallel for schedule(dynamic)
  for (int64_t t = 0; t < lanes(seeds, 1) * m; t++) {
    const float* w = weight.typed_data() + t / m * n;
    std::vector<uint32_t> rows;
    for (int64_t i = 0; i < n; i++)
      if (w[i] > 0) rows.push_back(i);
    uint8_t* count = out->typed_data() + t * n;
    std::fill_n(count, n, 0);
    for (uint32_t i = 0; i < rows.size(); i++) count[rows[draw(seeds.typed_data()[t], 0xffffffffu, i) % rows.size()]]++;
  }
  return ffi::Error::Success();
}

struct Rules {
  int32_t features, depth, to_split, in_leaf;
};

struct Table {  // what all trees of a lane are grown on
  const uint8_t *codes, *rows;  // a column after the other, a row after the other
  const float *edges, *spans, *y, *weight;  // spans: least and greatest values of a feature's bins
  int64_t n, f, e;
  const int64_t* categories;  // how many each feature has; null where none has any
  float centre;               // what a target that is a number is counted from
  Rules rules;
};

struct Grown {  // where one tree is written
  int32_t *feature, *left;
  float *threshold, *value, *gain;
  bool* missing_left;
  uint32_t* categories;
  int64_t k, p;
};

void clear(void* from, size_t bytes);  // zero, without touching pages that were never touched

struct Row {
  uint32_t i;
  float weight;
  union {
    float y;
    uint32_t level;
  };
};

struct Split {
  float score = -kInf;
  int32_t feature = -1, first = 0, second = 0;  // the last bin that goes left, the first that goes right
  bool missing_left = false, missing = false, ends = false, set = false;
  float threshold = 0;
  uint32_t categories[8] = {};
};

// Not fused, so that it rounds as XLA's does.
__attribute__((optimize("fp-contract=off"))) float between(float low, float high, float place) {
  float step = place * (high - low);
  return low + step;
}

constexpr int kLanes = 16;
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
constexpr Integers kPlaces{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr int64_t kCache = 1 << 21;  // bytes of codes that a core's own cache holds
constexpr int kFew = 128;  // fewer rows than these look only at the bins they are in

// Stats of a bin: the weight of each of K levels, or for a number sum and weight. K = 0: known at run time only.
template <bool number, int K>
struct Grower {
  const Table& table;
  bool extra;
  int64_t S;
  std::vector<Row> rows, spare;
  std::vector<float> bins, sums, running, total, missing;
  std::vector<float> r;
  int32_t count[256] = {}, before[256], lost_count = 0;
  uint8_t code[256];
  std::vector<uint8_t> tile;  // codes of a node's rows, a feature after the other
  std::vector<uint32_t> order;
  std::vector<std::pair<uint32_t, uint32_t>> swaps;

  Grower(const Table& table, int64_t levels, bool extra)
      : table(table), extra(extra), S(number ? 2 : levels), bins(256 * S), sums(256 * S), running(S), total(S), missing(S), order(table.f) {
    for (int64_t j = 0; j < table.f; j++) order[j] = j;
  }

  int64_t stats() const { return number ? 2 : K ? K : S; }

  void grow(uint32_t seed, const uint8_t* counts, Grown out) {
    struct Job {
      uint32_t from, to;
      int32_t depth;
    };
    rows.clear();
    for (int64_t i = 0; i < table.n; i++)
      if (counts[i]) {
        Row row{static_cast<uint32_t>(i), table.weight[i] * counts[i], {}};
        if (number) row.y = table.y[i];
        else row.level = static_cast<uint32_t>(table.y[i]);
        rows.push_back(row);
      }
    spare.resize(rows.size());
    r.resize(rows.size());
    std::fill_n(out.gain, table.f, 0.0f);
    std::vector<Job> jobs{{0, static_cast<uint32_t>(rows.size()), 0}};
    for (size_t v = 0; v < jobs.size(); v++) {
      Job job = jobs[v];
      out.feature[v] = -1, out.threshold[v] = 0, out.left[v] = 0, out.missing_left[v] = false;
      if (out.categories) std::fill_n(out.categories + 8 * v, 8, 0u);
      bool pure = weigh(job.from, job.to, out.value + v * out.p);
      int32_t size = job.to - job.from;
      if (pure || size < table.rules.to_split || size < 2 * table.rules.in_leaf || job.depth >= table.rules.depth) continue;
      Split best = search(seed, v, job.from, job.to);
      if (best.feature < 0) continue;
      float own = 0, weight = 0;
      if (!number) {
        for (int64_t s = 0; s < stats(); s++) own += total[s] * total[s], weight += total[s];
        own /= weight;
      }
      out.gain[best.feature] += best.score - own;
      uint32_t middle = part(best, job.from, job.to);
      out.feature[v] = best.feature, out.threshold[v] = best.threshold, out.missing_left[v] = best.missing_left;
      if (out.categories && best.set) std::copy_n(best.categories, 8, out.categories + 8 * v);
      out.left[v] = jobs.size();
      jobs.push_back({job.from, middle, job.depth + 1});
      jobs.push_back({middle, job.to, job.depth + 1});
    }
    size_t used = jobs.size(), free = out.k - used;
    clear(out.feature + used, free * 4), clear(out.threshold + used, free * 4), clear(out.left + used, free * 4);
    clear(out.missing_left + used, free);
    clear(out.value + used * out.p, free * out.p * 4);
    if (out.categories) clear(out.categories + 8 * used, free * 32);
  }

  // The node's totals and value, and whether all its targets are the same. A number is counted from the node's mean,
  // so that sums of squares lose nothing in single precision, and in units of which the node's rows have 2^23 or fewer,
  // so that sums are exact.
  bool weigh(uint32_t from, uint32_t to, float* value) {
    if (number) {
      double sum = 0, weight = 0;
      float low = kInf, high = -kInf;
      for (uint32_t i = from; i < to; i++) {
        sum += static_cast<double>(rows[i].weight) * rows[i].y, weight += rows[i].weight;
        low = std::min(low, rows[i].y), high = std::max(high, rows[i].y);
      }
      float mean = weight > 0 ? static_cast<float>(sum) / static_cast<float>(weight) : 0;
      float sizes = 0;
      for (uint32_t i = from; i < to; i++) r[i] = rows[i].weight * (rows[i].y - mean), sizes += std::fabs(r[i]);
      int exponent = 0;
      std::frexp(sizes, &exponent);
      int shift = std::clamp(kExact - exponent, -100, 100);
      float to_units = std::ldexp(1.0f, shift), back = std::ldexp(1.0f, -shift), all = 0;
      for (uint32_t i = from; i < to; i++) r[i] = std::nearbyint(r[i] * to_units) * back, all += r[i];
      total[0] = all, total[1] = weight, *value = mean + table.centre;
      return !(low < high);
    }
    std::fill(total.begin(), total.end(), 0.0f);
    for (uint32_t i = from; i < to; i++) total[rows[i].level] += rows[i].weight;
    float weight = 0;
    int present = 0;
    for (int64_t s = 0; s < S; s++) weight += total[s], present += total[s] > 0;
    for (int64_t s = 0; s < S; s++) value[s] = weight > 0 ? total[s] / weight : 1.0f / S;
    return present < 2;
  }

  // The best split on the first features of a random order; on the next ones where those cannot split at all.
  Split search(uint32_t seed, uint32_t node, uint32_t from, uint32_t to) {
    Split best;
    uint32_t f = table.f, many = table.rules.features, size = to - from;
    uint32_t lines = f / 64 + 1;  // of the cache, that a row spans; a row at a time where that touches fewer of them
    bool gathers = table.n * f > kCache && many > lines && size * lines < many * table.n / 64;
    swaps.clear();
    for (uint32_t t = 0; t < f && best.feature < 0; t += many) {
      uint32_t end = std::min(t + many, f);
      for (uint32_t u = t; u < end; u++) {
        uint32_t other = u + draw(seed, node, u) % (f - u);
        std::swap(order[u], order[other]), swaps.push_back({u, other});
      }
      if (gathers) gather(&order[t], end - t, from, to);
      for (uint32_t u = t; u < end; u++) {
        float place = extra ? (draw(seed, node, f + u) >> 8) * 0x1p-24f : 0;
        try_feature(order[u], gathers ? tile.data() + (u - t) * size : nullptr, place, from, to, best);
      }
    }
    for (; !swaps.empty(); swaps.pop_back()) std::swap(order[swaps.back().first], order[swaps.back().second]);
    if (best.feature >= 0) finish(best);
    return best;
  }

  void gather(const uint32_t* __restrict features, uint32_t many, uint32_t from, uint32_t to) {
    uint32_t size = to - from;
    if (tile.size() < size * many) tile.resize(size * many);
    uint8_t* __restrict out = tile.data();
    for (uint32_t i = 0; i < size; i++) {
      if (i + 8 < size) {
        const uint8_t* soon = table.rows + rows[from + i + 8].i * table.f;
        for (int64_t line = 0; line < table.f; line += 64) __builtin_prefetch(soon + line);
      }
      const uint8_t* row = table.rows + rows[from + i].i * table.f;
      for (uint32_t u = 0; u < many; u++) out[u * size + i] = row[features[u]];
    }
  }

  template <class Code>
  void add(Code code_of, uint32_t from, uint32_t to, uint64_t* __restrict seen) {
    int64_t S = stats();
    float* __restrict bin = bins.data();
    const Row* __restrict row = rows.data();
    for (uint32_t i = from; i < to; i++) {
      uint32_t c = code_of(i);
      if (number) bin[2 * c] += r[i], bin[2 * c + 1] += row[i].weight;
      else bin[S * c + row[i].level] += row[i].weight;
      if (seen) seen[c >> 6] |= uint64_t{1} << (c & 63);
    }
    if (table.rules.in_leaf > 1)
      for (uint32_t i = from; i < to; i++) count[code_of(i)]++;
  }

  void add(uint32_t feature, const uint8_t* gathered, uint32_t from, uint32_t to, uint64_t* seen) {
    const uint8_t* column = table.codes + feature * table.n;
    const Row* row = rows.data();
    if (gathered) add([=](uint32_t i) { return gathered[i - from]; }, from, to, seen);
    else add([=](uint32_t i) { return column[row[i].i]; }, from, to, seen);
  }

  float weight_of(const float* bin) const {
    float sum = 0;
    if (number) return bin[1];
    for (int64_t s = 0; s < stats(); s++) sum += bin[s];
    return sum;
  }

  // The bins the rows are in, in the order of the scan, and the sums up to each; leaves all bins empty.
  void try_feature(uint32_t feature, const uint8_t* gathered, float place, uint32_t from, uint32_t to, Split& best) {
    int64_t S = stats();
    int width = 0;
    std::fill_n(running.data(), S, 0.0f);
    bool set = table.categories && table.categories[feature];
    if (static_cast<int>(to - from) < kFew || set) {
      uint64_t seen[4] = {};
      add(feature, gathered, from, to, seen);
      seen[3] &= ~uint64_t{0} >> 1;  // missing ones stand apart
      if (set) {
        for_bits(seen, [&](int c) { code[width++] = c; });
        sort_categories(width);
        for (int q = 0; q < width; q++) take(code[q], q);
      } else {
        for_bits(seen, [&](int c) { take(c, width++); });
      }
    } else {
      add(feature, gathered, from, to, nullptr);
      for (int c = 0; c < kMissing; c++) width += take(c, width) > 0;
    }
    float lost = 0;
    for (int64_t s = 0; s < S; s++) {
      missing[s] = bins[kMissing * S + s], bins[kMissing * S + s] = 0;
      if (!number || s == 1) lost += missing[s];
    }
    lost_count = count[kMissing], count[kMissing] = 0;
    if (width + (lost > 0) > 1) score(feature, set, place, width, lost > 0, to - from, best);
  }

  template <class Do>
  static void for_bits(const uint64_t* seen, Do one) {
    for (int word = 0; word < 4; word++)
      for (uint64_t bits = seen[word]; bits; bits &= bits - 1) one(64 * word + __builtin_ctzll(bits));
  }

  float take(int c, int q) {
    int64_t S = stats();
    float* __restrict bin = &bins[c * S];
    float *__restrict sum = sums.data() + q, *__restrict total = running.data();
    float weight = weight_of(bin);
    for (int64_t s = 0; s < S; s++) sum[256 * s] = total[s] += bin[s], bin[s] = 0;
    code[q] = c;
    if (table.rules.in_leaf > 1) before[q] = (q ? before[q - 1] : 0) + count[c], count[c] = 0;
    return weight;
  }

  void sort_categories(int width) {  // by the share of the node's most frequent level, or by mean
    int64_t S = stats(), most = number ? 0 : std::max_element(total.begin(), total.end()) - total.begin();
    float key[256];
    for (int q = 0; q < width; q++) key[code[q]] = bins[code[q] * S + most] / weight_of(&bins[code[q] * S]);
    std::stable_sort(code, code + width, [&](uint8_t a, uint8_t b) { return key[a] < key[b]; });
  }

  void score(uint32_t feature, bool set, float place, int width, bool some_missing, int32_t size, Split& best) {
    int64_t S = stats();
    int32_t in_leaf = table.rules.in_leaf;
    int first = 0, last = width - 1;
    float threshold = 0;
    if (extra && width > 1) {
      threshold = between(least(feature)[code[0]], greatest(feature)[code[width - 1]], place);
      first = set ? std::min(static_cast<int>(place * last), last - 1) : drawn(feature, threshold, width);
      last = first + 1;
    }
    for (int side = 0; side <= some_missing; side++) {  // missing ones right, missing ones left
      int low = first, high = last + (!side && some_missing && (!extra || width == 1));
      if (side && width == 1) continue;
      if (in_leaf > 1) {
        int32_t more = side ? lost_count : 0;
        while (low < high && before[low] + more < in_leaf) low++;
        while (low < high && size - before[high - 1] - more < in_leaf) high--;
      }
      float found = best.score;
      int at = largest(low, high, side, found);
      if (at < 0) continue;
      best = Split{};
      best.score = found, best.feature = feature, best.missing_left = side, best.missing = some_missing, best.set = set;
      best.first = code[at], best.ends = at == width - 1, best.second = best.ends ? 0 : code[at + 1];
      if (set)
        for (int q = 0; q <= at; q++) best.categories[code[q] / 32] |= 1u << code[q] % 32;
      float weight = 0, left = 0;
      for (int64_t s = number ? 1 : 0; s < S; s++) weight += total[s], left += sums[256 * s + at];
      if (!some_missing) best.missing_left = left >= weight - left;
      best.threshold = threshold;
    }
  }

  // The place q in low <= q < high with the best score above `found`, which it becomes; -1 where there is none.
  int largest(int low, int high, bool side, float& found) {
    int best = -1;
    int64_t S = stats();
    for (int from = low / kLanes * kLanes; from < high; from += kLanes) {
      Vector ll{}, rr{}, l{}, r{}, left;
      for (int64_t s = 0; s < S; s++) {
        std::memcpy(&left, &sums[256 * s + from], sizeof left);
        if (side) left += missing[s];
        Vector right = total[s] - left;
        if (!number || s == 0) ll += left * left, rr += right * right;
        if (!number || s == 1) l += left, r += right;
      }
      Vector score = ll / l + rr / r;
      Integers place = kPlaces + from;
      Integers valid = (l > 0) & (r > 0) & (place >= low) & (place < high);
      score = valid ? score : Vector{} - kInf;
      float top = found;
#pragma omp simd reduction(max : top)
      for (int q = 0; q < kLanes; q++) top = score[q] > top ? score[q] : top;
      if (top > found) {
        found = top;
        for (best = from; score[best - from] != top;) best++;
      }
    }
    return best;
  }

  const float* least(uint32_t feature) const { return table.spans + 2 * feature * (table.e + 1); }
  const float* greatest(uint32_t feature) const { return least(feature) + table.e + 1; }

  int drawn(uint32_t feature, float threshold, int width) {  // the last bin below it that is not the last of all
    auto middle = [&](int q) { return 0.5f * least(feature)[code[q]] + 0.5f * greatest(feature)[code[q]]; };
    int at = 0;
    while (at < width - 2 && middle(at + 1) <= threshold) at++;
    return at;
  }

  void finish(Split& best) {
    const float* edges = table.edges + best.feature * table.e;
    if (best.set) {
      best.threshold = NAN;
    } else if (best.ends) {
      best.threshold = kInf;
    } else if (extra) {  // as drawn, but between the values of the bins it parts
      float low = greatest(best.feature)[best.first], high = least(best.feature)[best.second];
      best.threshold = std::clamp(best.threshold, low, std::nextafter(high, -kInf));
    } else {
      best.threshold = 0.5f * edges[best.first] + 0.5f * edges[best.second - 1];
    }
  }

  uint32_t part(const Split& best, uint32_t from, uint32_t to) {
    const uint8_t* column = table.codes + best.feature * table.n;
    bool left[256] = {};
    if (best.set)
      for (int c = 0; c < kMissing; c++) left[c] = best.categories[c / 32] >> c % 32 & 1;
    else
      std::fill(left, left + best.first + 1, true);
    left[kMissing] = best.missing_left;
    uint32_t end = from, others = 0;
    for (uint32_t i = from; i < to; i++) {
      bool goes = left[column[rows[i].i]];
      Row row = rows[i];
      rows[end] = row, spare[others] = row;
      end += goes, others += !goes;
    }
    std::copy_n(spare.begin(), others, rows.begin() + end);
    return end;
  }
};

void clear(void* from, size_t bytes) {
  auto begin = reinterpret_cast<uintptr_t>(from), end = begin + bytes;
  uintptr_t first = (begin + 4095) / 4096 * 4096, last = end / 4096 * 4096;
  if (first + (1 << 16) > last || madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED)) {
    std::memset(from, 0, bytes);
  } else {
    std::memset(from, 0, first - begin), std::memset(reinterpret_cast<void*>(last), 0, end - last);
  }
}

template <bool number, int K>
void grow_all(const std::vector<Table>& tables, int64_t trees, int64_t levels, bool extra, const uint32_t* seeds,
              const uint8_t* counts, Grown out) {
#pragma omp parallel
  {
    int64_t lane = -1;
    std::vector<Grower<number, K>> grower;
#pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < static_cast<int64_t>(tables.size()) * trees; t++) {
      const Table& table = tables[t / trees];
      if (t / trees != lane) lane = t / trees, grower.clear(), grower.emplace_back(table, levels, extra);
      int64_t k = t * out.k;
      grower[0].grow(seeds[t], counts + t * table.n,
                     {out.feature + k, out.left + k, out.threshold + k, out.value + k * out.p, out.gain + t * table.f,
                      out.missing_left + k, out.categories ? out.categories + 8 * k : nullptr, out.k, out.p});
    }
  }
}

std::vector<uint8_t> turned(U8 codes) {  // columns for rows
  int64_t n = axis(codes, 1), f = axis(codes, 0), tiles = (n + kTile - 1) / kTile;
  std::vector<uint8_t> out(lanes(codes, 2) * n * f);
#pragma omp parallel for
  for (int64_t job = 0; job < lanes(codes, 2) * tiles; job++) {
    int64_t lane = job / tiles * n * f, from = job % tiles * kTile, to = std::min(from + kTile, n);
    for (int64_t j = 0; j < f; j++)
      for (int64_t i = from; i < to; i++) out[lane + j * n + i] = codes.typed_data()[lane + i * f + j];
  }
  return out;
}

ffi::Error Grow(U8 codes, F32 edges, F32 spans, F32 y, F32 weight, U8 counts, U32 seeds, S32 rules, F32 centre,
                To<S32> feature, To<F32> threshold, To<Mask> missing_left, To<S32> left, To<F32> value, To<U32> sets,
                To<F32> gain, int64_t levels, bool extra, ffi::Span<const int64_t> categories) {
  int64_t n = axis(codes, 1), f = axis(codes, 0), e = axis(edges, 0), trees = axis(seeds, 0);
  std::vector<uint8_t> columns = turned(codes);
  bool any = axis(*sets, 0) > 0;
  std::vector<Table> tables;
  for (int64_t lane = 0; lane < lanes(seeds, 1); lane++) {
    const int32_t* rule = rules.typed_data() + 4 * lane;
    tables.push_back({columns.data() + lane * f * n, codes.typed_data() + lane * f * n, edges.typed_data() + lane * f * e,
                      spans.typed_data() + lane * 2 * f * axis(spans, 0), y.typed_data() + lane * n, weight.typed_data() + lane * n,
                      n, f, e, any ? categories.begin() : nullptr, centre.typed_data()[lane],
                      {rule[0], rule[1], rule[2], rule[3]}});
  }
  Grown out{feature->typed_data(), left->typed_data(), threshold->typed_data(), value->typed_data(),
            gain->typed_data(), missing_left->typed_data(), any ? sets->typed_data() : nullptr,
            axis(*feature, 0), axis(*value, 0)};
  auto go = [&](auto form) { form(tables, trees, levels, extra, seeds.typed_data(), counts.typed_data(), out); };
  levels == 0 ? go(grow_all<true, 0>) : levels == 2 ? go(grow_all<false, 2>) : levels == 3 ? go(grow_all<false, 3>)
                                                                             : go(grow_all<false, 0>);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_edges, Edges, ffi::Ffi::Bind().Arg<F32>().Arg<Mask>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_codes, Codes,
                              ffi::Ffi::Bind().Arg<F32>().Arg<Mask>().Arg<F32>().Ret<U8>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_draw, Draw, ffi::Ffi::Bind().Arg<F32>().Arg<U32>().Ret<U8>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_forest_grow, Grow,
                              ffi::Ffi::Bind()
                                  .Arg<U8>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<U8>()
                                  .Arg<U32>()
                                  .Arg<S32>()
                                  .Arg<F32>()
                                  .Ret<S32>()
                                  .Ret<F32>()
                                  .Ret<Mask>()
                                  .Ret<S32>()
                                  .Ret<F32>()
                                  .Ret<U32>()
                                  .Ret<F32>()
                                  .Attr<int64_t>("levels")
                                  .Attr<bool>("extra")
                                  .Attr<ffi::Span<const int64_t>>("categories"));
