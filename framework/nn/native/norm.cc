// Group normalisation with its activation and pooling in one pass, for CPUs. Arrays are channels last, float32; the
// leading axis of every array but the attributes is that of several models under vmap. Sums run over fixed chunks in a
// fixed order, so that results depend neither on the number of threads nor on what else is in the batch.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using S32 = ffi::Buffer<ffi::S32>;
using RF32 = ffi::Result<F32>;
using RS32 = ffi::Result<S32>;
using Span = ffi::Span<const int64_t>;
using Dims = std::vector<int64_t>;

extern "C" std::mutex prognax_turn;  // of convolution.cc too: one kernel at a time has all threads
std::mutex prognax_turn;             // XLA may run independent ones side by side

namespace {

Dims without_models(ffi::Span<const int64_t> dims) { return Dims(dims.end() - 5, dims.end()); }

int64_t count(const Dims& dims) {
  int64_t n = 1;
  for (auto d : dims) n *= d;
  return n;
}

int64_t models(const F32& array) { return array.element_count() / count(without_models(array.dimensions())); }

constexpr int64_t kChunk = 1024;  // voxels summed before their sum is put down
constexpr int64_t kLane = 16;     // channels side by side
constexpr float kEpsilon = 1e-5f;

struct Shape {
  int64_t models, scans, x, y, z, channels, groups, px, py, pz;
  int64_t ox() const { return x / px; }
  int64_t oy() const { return y / py; }
  int64_t oz() const { return z / pz; }
  int64_t in() const { return x * y * z * channels; }            // numbers of a scan
  int64_t out() const { return ox() * oy() * oz() * channels; }  // and of what comes of it
  bool pools() const { return px * py * pz > 1; }
};

Shape shape_of(const F32& x, int64_t groups, Span pool) {
  auto d = without_models(x.dimensions());
  return {models(x), d[0], d[1], d[2], d[3], d[4], groups, pool[0], pool[1], pool[2]};
}

// One call for each scan of each model: side by side where there are enough of them, else each with all threads.
template <class Body>
void for_each_scan(const Shape& s, Body body) {
  int64_t all = s.models * s.scans;
#pragma omp parallel for schedule(static) if (all >= omp_get_max_threads())
  for (int64_t n = 0; n < all; n++) body(n, n / s.scans);
}

// body(first channel, constant 16) over whole lanes, body(first, rest) over what remains.
template <class Body>
inline void lanes(int64_t channels, Body body) {
  int64_t c = 0;
  for (; c + kLane <= channels; c += kLane) body(c, std::integral_constant<int64_t, kLane>());
  if (c < channels) body(c, channels - c);
}

// Two sums a channel over the voxels of a scan; add(voxel, channel, width, first, second) adds to both.
template <class Add>
std::vector<double> sums(int64_t voxels, int64_t channels, Add add) {
  int64_t chunks = (voxels + kChunk - 1) / kChunk;
  std::vector<float> parts(chunks * 2 * channels);
#pragma omp parallel for schedule(static)
  for (int64_t k = 0; k < chunks; k++) {
    int64_t from = k * kChunk, to = std::min(from + kChunk, voxels);
    lanes(channels, [&](int64_t c, auto width) {
      float first[kLane] = {}, second[kLane] = {};
      for (int64_t v = from; v < to; v++) add(v, c, width, first, second);
      for (int64_t q = 0; q < width; q++)
        parts[k * 2 * channels + c + q] = first[q], parts[(k * 2 + 1) * channels + c + q] = second[q];
    });
  }
  std::vector<double> total(2 * channels);
  for (int64_t k = 0; k < chunks; k++)
    for (int64_t c = 0; c < 2 * channels; c++) total[c] += parts[k * 2 * channels + c];
  return total;
}

// Mean and 1 / sd of each group of a scan.
void moments(const Shape& s, const float* x, float* out) {
  int64_t C = s.channels, width = C / s.groups;
  const float* shift = x;  // a channel is summed around its first voxel, lest its variance drown
  auto total = sums(s.in() / C, C, [=](int64_t v, int64_t c, auto lane, float* sum, float* square) {
#pragma omp simd
    for (int64_t q = 0; q < lane; q++) {
      float d = x[v * C + c + q] - shift[c + q];
      sum[q] += d, square[q] += d * d;
    }
  });
  double count = double(s.in()) / C;
  for (int64_t g = 0; g < s.groups; g++) {
    double seen = 0, mean = 0, m2 = 0;  // channels joined as in Chan et al. 1983
    for (int64_t c = g * width; c < (g + 1) * width; c++) {
      double delta = shift[c] + total[c] / count - mean;
      m2 += total[C + c] - total[c] * total[c] / count + delta * delta * seen * count / (seen + count);
      mean += delta * count / (seen + count);
      seen += count;
    }
    out[2 * g] = static_cast<float>(mean);
    out[2 * g + 1] = static_cast<float>(1 / std::sqrt(std::max(m2, 0.0) / seen + kEpsilon));
  }
}

// x-hat = x * rate + offset, by channel of a scan.
struct Standard {
  std::vector<float> rate, offset;
  Standard(const Shape& s, const float* moments) : rate(s.channels), offset(s.channels) {
    for (int64_t c = 0; c < s.channels; c++) {
      const float* own = moments + c / (s.channels / s.groups) * 2;
      rate[c] = own[1], offset[c] = -own[0] * own[1];
    }
  }
};

// `best` and `where` get, of each window, x-hat of the largest and its place; null where not needed.
template <bool relu, bool keep>
void normalise(const Shape& s, const float* x, const float* scale, const float* bias, const Standard& m, float* y,
               float* best, int32_t* where) {
  int64_t C = s.channels;
  std::vector<float> slopes(C), levels(C);
  for (int64_t c = 0; c < C; c++) slopes[c] = m.rate[c] * scale[c], levels[c] = m.offset[c] * scale[c] + bias[c];
  const float *slope = slopes.data(), *level = levels.data(), *rate = m.rate.data(), *offset = m.offset.data();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < s.ox() * s.oy(); row++) {
    int64_t u = row / s.oy(), v = row % s.oy();
    for (int64_t w = 0; w < s.oz(); w++) {
      int64_t out = (row * s.oz() + w) * C;
      lanes(C, [=](int64_t c, auto lane) {
        float top[kLane], raw[kLane];
        int32_t place[kLane], k = 0;
        for (int64_t i = 0; i < s.px; i++)
          for (int64_t j = 0; j < s.py; j++) {
            const float* here = x + (((u * s.px + i) * s.y + v * s.py + j) * s.z + w * s.pz) * C + c;
            for (int64_t l = 0; l < s.pz; l++, k++, here += C) {
#pragma omp simd
              for (int64_t q = 0; q < lane; q++) {
                float value = here[q] * slope[c + q] + level[c + q];
                bool more = k == 0 || !(value <= top[q]);
                top[q] = more ? value : top[q];
                if (keep) raw[q] = more ? here[q] : raw[q], place[q] = more ? k : place[q];
              }
            }
          }
#pragma omp simd
        for (int64_t q = 0; q < lane; q++) {
          y[out + c + q] = relu && top[q] < 0 ? 0 : top[q];
          if (keep) best[out + c + q] = raw[q] * rate[c + q] + offset[c + q];
          if (keep) where[out + c + q] = static_cast<int32_t>(place[q]);
        }
      });
    }
  }
}

template <bool keep>
void forward(const Shape& s, bool relu, const float* x, const float* scale, const float* bias, float* y, float* found,
             float* best, int32_t* where) {
  std::lock_guard<std::mutex> mine(prognax_turn);
  auto run = relu ? normalise<true, keep> : normalise<false, keep>;
  for_each_scan(s, [&](int64_t n, int64_t model) {
    std::vector<float> own(2 * s.groups);
    moments(s, x + n * s.in(), own.data());
    if (found) std::copy(own.begin(), own.end(), found + n * 2 * s.groups);
    run(s, x + n * s.in(), scale + model * s.channels, bias + model * s.channels, Standard(s, own.data()), y + n * s.out(),
        best + n * s.out() * keep, where + n * s.out() * keep);
  });
}

ffi::Error Normalise(F32 x, F32 scale, F32 bias, RF32 y, int64_t groups, bool relu, Span pool) {
  forward<false>(shape_of(x, groups, pool), relu, x.typed_data(), scale.typed_data(), bias.typed_data(), y->typed_data(),
                 nullptr, nullptr, nullptr);
  return ffi::Error::Success();
}

// The same, keeping what the backward pass needs.
ffi::Error NormaliseKeep(F32 x, F32 scale, F32 bias, RF32 y, RF32 found, RF32 best, RS32 where, int64_t groups, bool relu,
                         Span pool) {
  Shape s = shape_of(x, groups, pool);
  (s.pools() ? forward<true> : forward<false>)(s, relu, x.typed_data(), scale.typed_data(), bias.typed_data(),
                                               y->typed_data(), found->typed_data(), best->typed_data(), where->typed_data());
  return ffi::Error::Success();
}

// Gradients of one scan. With dz the gradient at the normalised voxel (0 where it was rectified or not the largest of its
// window), dx = rate (scale dz - mean(scale dz) - x-hat mean(scale dz x-hat)), means over the group. Returns, by channel,
// the sums of dz and of dz x-hat: the gradients of bias and scale.
std::vector<double> backward(const Shape& s, bool relu, const float* x, const float* scale, const float* bias,
                             const Standard& m, const float* best, const int32_t* where, const float* dy, float* dx) {
  int64_t C = s.channels, width = C / s.groups;
  bool pools = s.pools();
  const float *rate = m.rate.data(), *offset = m.offset.data();
  std::vector<float> ones(C, 1.0f), zeros(C), kept(pools ? s.out() : 0);
  const float *from = pools ? best : x, *a = pools ? ones.data() : rate, *b = pools ? zeros.data() : offset;
  float* dz = pools ? kept.data() : dx;  // dx holds dz for a while
  float floor = relu ? 0 : -std::numeric_limits<float>::infinity();
  auto total = sums(s.out() / C, C, [=](int64_t v, int64_t c, auto lane, float* sum, float* with_hat) {
    const float *hats = from + v * C + c, *grad = dy + v * C + c;
    float* to = dz + v * C + c;
#pragma omp simd
    for (int64_t q = 0; q < lane; q++) {
      float hat = hats[q] * a[c + q] + b[c + q], d = grad[q];
      d = hat * scale[c + q] + bias[c + q] > floor ? d : 0.0f;
      to[q] = d, sum[q] += d, with_hat[q] += d * hat;
    }
  });
  std::vector<float> slopes(C), by_xs(C), constants(C);
  double count = double(width) * s.in() / C;
  for (int64_t g = 0; g < s.groups; g++) {
    double mean = 0, mean_hat = 0;
    for (int64_t c = g * width; c < (g + 1) * width; c++) mean += scale[c] * total[c], mean_hat += scale[c] * total[C + c];
    for (int64_t c = g * width; c < (g + 1) * width; c++) {
      slopes[c] = rate[c] * scale[c];
      by_xs[c] = static_cast<float>(-rate[c] * rate[c] * mean_hat / count);
      constants[c] = static_cast<float>(-rate[c] * (mean + offset[c] * mean_hat) / count);
    }
  }
  const float *slope = slopes.data(), *by_x = by_xs.data(), *constant = constants.data();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < s.x * s.y; row++) {
    int64_t i = row / s.y, j = row % s.y, u = i / s.px, v = j / s.py;
    int64_t windows = pools && u < s.ox() && v < s.oy() ? s.oz() : 0;
    const float* from = x + row * s.z * C;
    float* to = dx + row * s.z * C;
    for (int64_t w = 0; w < windows; w++) {
      const float* grad = dz + ((u * s.oy() + v) * s.oz() + w) * C;
      const int32_t* own = where + (grad - dz);
      int32_t k = static_cast<int32_t>((i % s.px * s.py + j % s.py) * s.pz);
      for (int64_t l = 0; l < s.pz; l++, k++, from += C, to += C)
        lanes(C, [=](int64_t c, auto lane) {
          const float *in = from + c, *g = grad + c, *s = slope + c, *b = by_x + c, *e = constant + c;
          const int32_t* o = own + c;
          float* out = to + c;
#pragma omp simd
          for (int64_t q = 0; q < lane; q++) {
            float d = g[q] * s[q];
            out[q] = (o[q] == k ? d : 0.0f) + b[q] * in[q] + e[q];
          }
        });
    }
    for (int64_t l = windows * s.pz; l < s.z; l++, from += C, to += C)  // without windows `to` holds dz, else dz is 0 here
      lanes(C, [=](int64_t c, auto lane) {
        const float *in = from + c, *s = slope + c, *b = by_x + c, *e = constant + c;
        float* out = to + c;
#pragma omp simd
        for (int64_t q = 0; q < lane; q++) {
          float d = out[q] * s[q];
          out[q] = (pools ? 0.0f : d) + b[q] * in[q] + e[q];
        }
      });
  }
  return total;
}

ffi::Error NormaliseBackward(F32 x, F32 scale, F32 bias, F32 found, F32 best, S32 where, F32 dy, RF32 dx, RF32 dscale,
                             RF32 dbias, int64_t groups, bool relu, Span pool) {
  std::lock_guard<std::mutex> mine(prognax_turn);
  Shape s = shape_of(x, groups, pool);
  int64_t C = s.channels, kept = s.pools() ? s.out() : 0;
  std::vector<std::vector<double>> totals(s.models * s.scans);
  for_each_scan(s, [&](int64_t n, int64_t model) {
    totals[n] = backward(s, relu, x.typed_data() + n * s.in(), scale.typed_data() + model * C, bias.typed_data() + model * C,
                         Standard(s, found.typed_data() + n * 2 * groups), best.typed_data() + n * kept,
                         where.typed_data() + n * kept, dy.typed_data() + n * s.out(), dx->typed_data() + n * s.in());
  });
  for (int64_t i = 0; i < s.models * C; i++) {
    double sum = 0, with_hat = 0;
    for (int64_t n = i / C * s.scans; n < (i / C + 1) * s.scans; n++) sum += totals[n][i % C], with_hat += totals[n][C + i % C];
    dbias->typed_data()[i] = static_cast<float>(sum), dscale->typed_data()[i] = static_cast<float>(with_hat);
  }
  return ffi::Error::Success();
}

}  // namespace

#define NORM_ATTRIBUTES Attr<int64_t>("groups").Attr<bool>("relu").Attr<Span>("pool")
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_norm, Normalise,
                              ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().NORM_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    prognax_norm_keep, NormaliseKeep,
    ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<S32>().NORM_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(prognax_norm_backward, NormaliseBackward,
                              ffi::Ffi::Bind()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<S32>()
                                  .Arg<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .NORM_ATTRIBUTES);
