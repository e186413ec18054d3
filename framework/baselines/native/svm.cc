// The dual of support vector machines on CPUs: sequential minimal optimisation with second-order choice of the working
// set (Fan, Chen & Lin 2005), many problems side by side, all on one matrix of inner products.
//
//   minimise 1/2 b'Kb + q'b + epsilon |b|_1   subject to   sum b = 0,  low <= b <= high
//
// Classification has epsilon 0, q = -y and a box to one side of zero; regression has q = -y and a box around zero. The
// kernel's values are made from the inner products when a row is first asked for, float32; the gradient is float64.
// Problems run in parallel, each by one thread: the number of threads changes no bit.

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using Flags = ffi::Buffer<ffi::PRED>;
using RF32 = ffi::Result<F32>;
using RS32 = ffi::Result<ffi::Buffer<ffi::S32>>;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kLanes = 16;                // arrays are padded to whole vectors
constexpr int64_t kRowBytes = int64_t{1} << 27;  // of kernel rows that one problem keeps

using Doubles = double __attribute__((vector_size(64)));
using Longs = int64_t __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));

std::mutex turn;  // one call at a time has all threads

struct Free {
  void operator()(void* data) const { std::free(data); }
};
template <typename T>
using Array = std::unique_ptr<T[], Free>;

template <typename T>
Array<T> allocate(int64_t count) {  // uninitialised, on large pages where there are any
  size_t page = count * sizeof(T) < (1 << 22) ? 64 : 1 << 21, size = (count * sizeof(T) + page) / page * page;
  void* data = std::aligned_alloc(page, size);
  if (!data) throw std::bad_alloc();
  if (page > 64) madvise(data, size, MADV_HUGEPAGE);
  return Array<T>(static_cast<T*>(data));
}

// ---- kernels ---------------------------------------------------------------------------------------------------

enum Kind : int64_t { kLinear, kRbf, kPoly, kSigmoid };

struct Kernel {
  int64_t kind, degree;
  float gamma, coef0;
};

using Wide = float __attribute__((vector_size(64)));
using WideInts = int32_t __attribute__((vector_size(64)));

inline Wide exponential(Wide x) {  // of x <= 0: 2^n times a Taylor polynomial on |r| <= ln(2) / 2
  x = x < -87.0f ? Wide{} - 87.0f : x;
  WideInts n = __builtin_convertvector(x * 1.44269504f - 0.5f, WideInts);
  Wide whole = __builtin_convertvector(n, Wide);
  Wide r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f, y = r * (1.0f / 5040) + 1.0f / 720;
  y = y * r + 1.0f / 120, y = y * r + 1.0f / 24, y = y * r + 1.0f / 6;
  y = y * r + 0.5f, y = y * r + 1.0f, y = y * r + 1.0f;
  return y * (Wide)((n + 127) << 23);
}

// values[k] = map(values[k], others[k]), sixteen at a time.
template <typename Map>
void each(int64_t count, float* values, const float* others, Map map) {
  Wide v = {}, o = {};
  int64_t k = 0;
  for (; k + 16 <= count; k += 16) {
    std::memcpy(&v, values + k, sizeof v), std::memcpy(&o, others + k, sizeof o);
    v = map(v, o);
    std::memcpy(values + k, &v, sizeof v);
  }
  if (k == count) return;
  size_t rest = (count - k) * sizeof(float);
  std::memcpy(&v, values + k, rest), std::memcpy(&o, others + k, rest);
  v = map(v, o);
  std::memcpy(values + k, &v, rest);
}

// values[k] = the kernel of row r with row at[k], for k < count; norms[k] is the inner product of at[k] with itself.
void values_of(const Kernel& kernel, const float* products, float norm, const int32_t* __restrict at,
               const float* __restrict norms, int64_t count, float* __restrict values) {
  float gamma = kernel.gamma, coef0 = kernel.coef0;
#pragma omp simd
  for (int64_t k = 0; k < count; k++) values[k] = products[at[k]];
  if (kernel.kind == kRbf) {
    each(count, values, norms, [=](Wide product, Wide other) {
      Wide square = (norm - product) + (other - product);
      return exponential(-gamma * (square > 0.0f ? square : Wide{}));
    });
    return;
  }
  if (kernel.kind == kLinear) return;
#pragma omp simd
  for (int64_t k = 0; k < count; k++) values[k] = gamma * values[k] + coef0;
  if (kernel.kind == kPoly) {
    for (int64_t k = 0; k < count; k++) {
      float base = values[k], power = 1;
      for (int64_t d = 0; d < kernel.degree; d++) power *= base;
      values[k] = power;
    }
  } else {
    each(count, values, norms, [](Wide value, Wide) {
      Wide size = value > 0.0f ? value : -value, e = exponential(-2.0f * size), tanh = (1.0f - e) / (1.0f + e);
      return value > 0.0f ? tanh : -tanh;
    });
  }
}

// The rows of one problem's kernel over its own variables, made when first asked for; the oldest gives way.
class Rows {
 public:
  Rows(const Kernel& kernel, const float* gram, int64_t n, const std::vector<int32_t>& at, int64_t width)
      : kernel_(kernel), gram_(gram), n_(n), at_(at), width_(width), place_(at.size(), -1) {
    slots_ = std::min<int64_t>(at.size(), std::max<int64_t>(2, kRowBytes / (4 * width)));
    owner_.assign(slots_, -1);
    norms_.resize(at.size());
    for (size_t k = 0; k < at.size(); k++) norms_[k] = gram[at[k] * (n + 1)];
    values_ = allocate<float>(slots_ * width);
  }

  const float* get(int64_t row, int64_t keep = -1) {  // `keep` is a row that must not give way
    if (place_[row] < 0) {
      if (keep >= 0 && place_[keep] == next_) next_ = (next_ + 1) % slots_;
      if (owner_[next_] >= 0) place_[owner_[next_]] = -1;
      owner_[next_] = row, place_[row] = next_;
      next_ = (next_ + 1) % slots_;
      float* values = values_.get() + place_[row] * width_;
      values_of(kernel_, gram_ + int64_t{at_[row]} * n_, norms_[row], at_.data(), norms_.data(), at_.size(), values);
      std::fill(values + at_.size(), values + width_, 0.0f);
    }
    return values_.get() + place_[row] * width_;
  }

  float diagonal(int64_t row) const {
    float value;
    values_of(kernel_, gram_ + int64_t{at_[row]} * n_, norms_[row], &at_[row], &norms_[row], 1, &value);
    return value;
  }

 private:
  Kernel kernel_;
  const float* gram_;
  int64_t n_;
  const std::vector<int32_t>& at_;
  int64_t width_, slots_, next_ = 0;
  std::vector<int64_t> place_, owner_;
  std::vector<float> norms_;
  Array<float> values_;
};

// ---- one problem -----------------------------------------------------------------------------------------------

template <typename V, typename T>
V load(const T* from) {
  V made;
  std::memcpy(&made, from, sizeof(V));
  return made;
}

#ifdef __AVX512F__  // the compiler's own conversion goes by pairs
Doubles wide(const float* from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }
Floats narrow(Doubles from) { return _mm512_cvtpd_ps(from); }
#else
Doubles wide(const float* from) { return __builtin_convertvector(load<Floats>(from), Doubles); }
Floats narrow(Doubles from) { return __builtin_convertvector(from, Floats); }
#endif

struct Found {
  int64_t raise = -1;                            // the variable whose growth promises most
  double most = -kInfinity, least = kInfinity;  // by how much; and the least that shrinking any other costs
  double gap() const { return most - least; }
};

class Problem {
 public:
  Problem(Rows& rows, int64_t count, int64_t width, float epsilon)
      : rows_(rows), count_(count), width_(width), epsilon_(epsilon), beta_(count), low_(count), high_(count) {
    gradient_ = allocate<double>(width), up_ = allocate<float>(width), down_ = allocate<float>(width);
    diagonal_ = allocate<float>(width);
    std::fill_n(gradient_.get(), width, 0.0), std::fill_n(up_.get(), width, kInfinity);
    std::fill_n(down_.get(), width, -kInfinity), std::fill_n(diagonal_.get(), width, 1.0f);
  }

  void set(int64_t k, float linear, float low, float high) {
    low_[k] = low, high_[k] = high, gradient_[k] = linear, diagonal_[k] = rows_.diagonal(k);
    refresh(k);
  }

  int64_t solve(double tolerance) {
    int64_t limit = std::max<int64_t>(10'000'000, 100 * count_), step = 0;
    if (count_ > 0) found_ = advance(rows_.get(0), rows_.get(0), 0);
    for (; found_.gap() >= tolerance && step < limit; step++) {
      int64_t i = found_.raise;
      const float* with_i = rows_.get(i);
      int64_t j = partner(i, with_i);
      if (j < 0) break;
      const float* with_j = rows_.get(j, i);
      found_ = advance(with_i, with_j, exchange(i, j, with_i[j]));
    }
    return step;
  }

  double gap() const { return found_.gap(); }
  double beta(int64_t k) const { return beta_[k]; }

  double offset() const {  // by the free variables; without any, by the middle of what the others allow
    double sum = 0;
    int64_t free = 0;
    for (int64_t k = 0; k < count_; k++)
      if (beta_[k] != 0 && beta_[k] > low_[k] && beta_[k] < high_[k]) sum -= gradient_[k] + up_[k], free++;
    if (free) return sum / free;
    bool above = std::isfinite(found_.most), below = std::isfinite(found_.least);
    return above && below ? (found_.most + found_.least) / 2 : above ? found_.most : below ? found_.least : 0;
  }

 private:
  void refresh(int64_t k) {  // the cost of |b| on either side; never where the box ends
    up_[k] = beta_[k] < high_[k] ? (beta_[k] >= 0 ? epsilon_ : -epsilon_) : kInfinity;
    down_[k] = beta_[k] > low_[k] ? (beta_[k] > 0 ? epsilon_ : -epsilon_) : -kInfinity;
  }

  // The partner of i by which the objective falls most (to second order); -1 if there is none.
  int64_t partner(int64_t i, const float* with_i) const {
    const float *diagonal = diagonal_.get(), *down = down_.get();
    const double* gradient = gradient_.get();
    Floats best = Floats{} - 1.0f, own = Floats{} + diagonal[i], tiny = Floats{} + 1e-12f;
    Ints where = Ints{} - 1, now = {0, 1, 2, 3, 4, 5, 6, 7};
    Doubles most = Doubles{} + found_.most;
    for (int64_t k = 0; k < width_; k += 8, now += 8) {
      Floats b = narrow(most + load<Doubles>(gradient + k) + wide(down + k));
      Floats a = own + load<Floats>(diagonal + k) - 2.0f * load<Floats>(with_i + k);
      a = a > tiny ? a : tiny;
      Floats gain = b > 0.0f ? b * b / a : Floats{} - 1.0f;
      auto better = gain > best;
      best = better ? gain : best, where = better ? now : where;
    }
    float top = -1;
    int64_t at = -1;
    for (int lane = 0; lane < 8; lane++)
      if (where[lane] >= 0 && (best[lane] > top || (best[lane] == top && where[lane] < at)))
        top = best[lane], at = where[lane];
    return at;
  }

  // Moves as much as helps from j to i, to the end of the box or of this side of zero at most.
  double exchange(int64_t i, int64_t j, float between) {
    double rise = -(gradient_[i] + up_[i]) + (gradient_[j] + down_[j]);
    double curvature = std::max(1e-12, double{diagonal_[i]} + diagonal_[j] - 2.0 * between);
    double end_i = beta_[i] < 0 ? 0 : high_[i], end_j = beta_[j] > 0 ? 0 : low_[j];
    double room_i = end_i - beta_[i], room_j = beta_[j] - end_j, step = std::min({rise / curvature, room_i, room_j});
    beta_[i] = step == room_i ? end_i : beta_[i] + step;
    beta_[j] = step == room_j ? end_j : beta_[j] - step;
    refresh(i), refresh(j);
    return step;
  }

  // Brings the gradient up to date and, in the same pass, finds what to move next.
  Found advance(const float* with_i, const float* with_j, double step) {
    double* gradient = gradient_.get();
    const float *up = up_.get(), *down = down_.get();
    Doubles most = Doubles{} - kInfinity, least = Doubles{} + kInfinity;
    Longs where = Longs{} - 1, now = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int64_t k = 0; k < width_; k += 8, now += 8) {
      Doubles g = load<Doubles>(gradient + k) + step * (wide(with_i + k) - wide(with_j + k));
      std::memcpy(gradient + k, &g, sizeof g);
      Doubles rise = -(g + wide(up + k)), cost = -(g + wide(down + k));
      auto better = rise > most;
      most = better ? rise : most, where = better ? now : where;
      least = cost < least ? cost : least;
    }
    Found found;
    for (int lane = 0; lane < 8; lane++) {
      if (where[lane] >= 0 && (most[lane] > found.most || (most[lane] == found.most && where[lane] < found.raise)))
        found.most = most[lane], found.raise = where[lane];
      found.least = std::min(found.least, double{least[lane]});
    }
    return found;
  }

  Rows& rows_;
  int64_t count_, width_;
  float epsilon_;
  std::vector<double> beta_, low_, high_;
  Array<double> gradient_;
  Array<float> up_, down_, diagonal_;
  Found found_;
};

// ---- many of them ----------------------------------------------------------------------------------------------

// Where a lane's part of an array starts: leading axes broadcast (size 1) or run along the lanes.
int64_t start(ffi::AnyBuffer::Dimensions dims, size_t core, ffi::AnyBuffer::Dimensions lanes, int64_t lane) {
  int64_t size = 1, at = 0;
  for (size_t d = dims.size() - core; d < dims.size(); d++) size *= dims[d];
  for (size_t d = lanes.size(); d-- > 0; lane /= lanes[d])
    if (dims[d] > 1) at += lane % lanes[d] * size, size *= dims[d];
  return at;
}

struct Shape {
  ffi::AnyBuffer::Dimensions lanes;
  int64_t problems, n, total = 1;
  explicit Shape(ffi::AnyBuffer::Dimensions out)
      : lanes(out.first(out.size() - 2)), problems(out[out.size() - 2]), n(out[out.size() - 1]) {
    for (int64_t lane : lanes) total *= lane;
    total *= problems;
  }
};

ffi::Error Solve(F32 gram, F32 gamma, F32 linear, F32 low, F32 high, F32 epsilon, RF32 beta, RF32 offset, RF32 gap,
                 RS32 steps, int64_t kind, int64_t degree, float coef0, float tolerance) {
  std::lock_guard<std::mutex> mine(turn);
  Shape s(beta->dimensions());
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t p = 0; p < s.total; p++) {
    int64_t lane = p / s.problems, row = p % s.problems * s.n;
    auto part = [&](const F32& of, size_t core) {
      return of.typed_data() + start(of.dimensions(), core, s.lanes, lane);
    };
    const float *q = part(linear, 2) + row, *least = part(low, 2) + row, *most = part(high, 2) + row;
    std::vector<int32_t> at;
    for (int64_t k = 0; k < s.n; k++)
      if (least[k] < most[k]) at.push_back(static_cast<int32_t>(k));
    int64_t count = at.size(), width = (count + kLanes - 1) / kLanes * kLanes;
    Rows rows({kind, degree, *part(gamma, 0), coef0}, part(gram, 2), s.n, at, std::max(width, kLanes));
    Problem problem(rows, count, width, *part(epsilon, 0));
    for (int64_t k = 0; k < count; k++) problem.set(k, q[at[k]], least[at[k]], most[at[k]]);
    steps->typed_data()[p] = static_cast<int32_t>(problem.solve(tolerance));
    float* out = beta->typed_data() + p * s.n;
    std::fill_n(out, s.n, 0.0f);
    for (int64_t k = 0; k < count; k++) out[at[k]] = static_cast<float>(problem.beta(k));
    offset->typed_data()[p] = static_cast<float>(problem.offset());
    gap->typed_data()[p] = static_cast<float>(std::max(0.0, problem.gap()));
  }
  return ffi::Error::Success();
}

// sums[p, i] = sum over k of kernel(i, k) beta[p, k] for the rows i that problem p wants, 0 for the others.
ffi::Error Sums(F32 gram, F32 gamma, F32 beta, Flags wanted, RF32 sums, int64_t kind, int64_t degree, float coef0) {
  std::lock_guard<std::mutex> mine(turn);
  Shape s(sums->dimensions());
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t p = 0; p < s.total; p++) {
    int64_t lane = p / s.problems, row = p % s.problems * s.n;
    const float* products = gram.typed_data() + start(gram.dimensions(), 2, s.lanes, lane);
    const float* all = beta.typed_data() + start(beta.dimensions(), 2, s.lanes, lane) + row;
    const bool* asked = wanted.typed_data() + start(wanted.dimensions(), 2, s.lanes, lane) + row;
    Kernel kernel{kind, degree, gamma.typed_data()[start(gamma.dimensions(), 0, s.lanes, lane)], coef0};
    std::vector<int32_t> at;
    std::vector<float> own, norms;
    for (int64_t k = 0; k < s.n; k++)
      if (all[k] != 0) at.push_back(k), own.push_back(all[k]), norms.push_back(products[k * (s.n + 1)]);
    int64_t count = at.size();
    std::vector<float> values(count);
    for (int64_t i = 0; i < s.n; i++) {
      double sum = 0;
      if (asked[i]) {
        const float* from = products + i * s.n;
        values_of(kernel, from, from[i], at.data(), norms.data(), count, values.data());
        const float *v = values.data(), *b = own.data();
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < count; k++) sum += double{v[k]} * b[k];
      }
      sums->typed_data()[p * s.n + i] = static_cast<float>(sum);
    }
  }
  return ffi::Error::Success();
}

}  // namespace

#define KERNEL Attr<int64_t>("kind").Attr<int64_t>("degree").Attr<float>("coef0")
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_svm_solve, Solve,
                              ffi::Ffi::Bind()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .KERNEL.Attr<float>("tolerance"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_svm_sums, Sums,
                              ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Arg<Flags>().Ret<F32>().KERNEL);
