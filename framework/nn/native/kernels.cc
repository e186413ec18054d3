// What a CNN step spends its time on, for CPUs: convolution by oneDNN, and group normalisation with its activation
// and pooling in one pass. Arrays are channels last, float32. The leading axis of every array but the attributes is
// the axis of several models under vmap. Sums run over fixed chunks in a fixed order, so that results depend neither
// on the number of threads nor on what else is in the batch.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using S32 = ffi::Buffer<ffi::S32>;
using RF32 = ffi::Result<F32>;
using RS32 = ffi::Result<S32>;
using Span = ffi::Span<const int64_t>;
using Dims = std::vector<int64_t>;

namespace {

std::mutex turn;  // one kernel at a time has all threads; XLA may run independent ones side by side

// ---- convolution -----------------------------------------------------------------------------------------------

enum Pass : int64_t { kForward, kData, kWeights };

struct Convolution {
  dnnl::primitive primitive;
  dnnl::memory::desc x, w, y, w_plain, scratch;
  dnnl::reorder reorder;  // of the weights, into or out of the layout that the primitive likes
  bool reorders = false;
};

struct Memory {  // grows, is never given back: fresh pages are what costs
  char* data = nullptr;
  size_t size = 0;
  ~Memory() { std::free(data); }
  void* at_least(size_t bytes) {
    if (bytes > size) {
      std::free(data);
      size = (bytes + 4095) / 4096 * 4096;
      data = static_cast<char*>(std::aligned_alloc(4096, size));
      if (!data) throw std::bad_alloc();
    }
    return data;
  }
};

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Convolution& convolution(Pass pass, const Dims& x, const Dims& w, const Dims& y, Span stride, Span pads) {
  static std::map<Dims, Convolution> made;
  Dims key{pass};
  for (auto part : {&x, &w, &y}) key.insert(key.end(), part->begin(), part->end());
  key.insert(key.end(), stride.begin(), stride.end());
  key.insert(key.end(), pads.begin(), pads.end());
  auto found = made.find(key);
  if (found != made.end()) return found->second;

  using dt = dnnl::memory::data_type;
  using tag = dnnl::memory::format_tag;
  dnnl::memory::desc mx({x[0], x[4], x[1], x[2], x[3]}, dt::f32, tag::ndhwc);
  dnnl::memory::desc mw({w[4], w[3], w[0], w[1], w[2]}, dt::f32, tag::any);
  dnnl::memory::desc my({y[0], y[4], y[1], y[2], y[3]}, dt::f32, tag::ndhwc);
  Dims steps(stride.begin(), stride.end()), before, after;
  for (int i = 0; i < 3; i++) before.push_back(pads[2 * i]), after.push_back(pads[2 * i + 1]);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  auto how = dnnl::algorithm::convolution_direct;

  Convolution made_now;
  auto keep = [&](auto desc) {
    made_now.x = mx, made_now.y = my, made_now.scratch = desc.scratchpad_desc();
    made_now.primitive = dnnl::primitive(desc);
  };
  dnnl::convolution_forward::primitive_desc forward(
      cpu(), dnnl::prop_kind::forward_training, how, mx, mw, my, steps, before, after, attributes);
  if (pass == kForward) {
    made_now.w = forward.weights_desc();
    keep(forward);
  } else if (pass == kData) {
    dnnl::convolution_backward_data::primitive_desc desc(cpu(), how, mx, mw, my, steps, before, after, forward, attributes);
    made_now.w = desc.weights_desc();
    keep(desc);
  } else {
    dnnl::convolution_backward_weights::primitive_desc desc(cpu(), how, mx, mw, my, steps, before, after, forward, attributes);
    made_now.w = desc.diff_weights_desc();
    keep(desc);
  }
  made_now.w_plain = dnnl::memory::desc({w[4], w[3], w[0], w[1], w[2]}, dt::f32, tag::dhwio);
  made_now.reorders = made_now.w != made_now.w_plain;
  if (made_now.reorders) {
    auto &from = pass == kWeights ? made_now.w : made_now.w_plain, &to = pass == kWeights ? made_now.w_plain : made_now.w;
    made_now.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(cpu(), from, cpu(), to));
  }
  return made.emplace(key, std::move(made_now)).first->second;
}

Dims without_models(ffi::Span<const int64_t> dims) { return Dims(dims.end() - 5, dims.end()); }

int64_t count(const Dims& dims) {
  int64_t n = 1;
  for (auto d : dims) n *= d;
  return n;
}

ffi::Error convolve(Pass pass, const Dims& dx, const Dims& dw, const Dims& dy, float* x, float* w, float* y,
                    int64_t models, Span stride, Span pads) {
  std::lock_guard<std::mutex> mine(turn);
  try {
    static Memory scratch, weights;
    auto& conv = convolution(pass, dx, dw, dy, stride, pads);
    dnnl::stream stream(cpu());
    for (int64_t m = 0; m < models; m++) {
      dnnl::memory mx(conv.x, cpu(), x + m * count(dx)), my(conv.y, cpu(), y + m * count(dy));
      dnnl::memory plain(conv.w_plain, cpu(), w + m * count(dw)), mw = plain;
      if (conv.reorders) mw = dnnl::memory(conv.w, cpu(), weights.at_least(conv.w.get_size()));
      if (conv.reorders && pass != kWeights) conv.reorder.execute(stream, plain, mw);
      dnnl::memory pad(conv.scratch, cpu(), scratch.at_least(std::max<size_t>(conv.scratch.get_size(), 64)));
      bool data = pass == kData, ww = pass == kWeights;
      conv.primitive.execute(stream, {{data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, mx},
                                      {ww ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, mw},
                                      {pass == kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, my},
                                      {DNNL_ARG_SCRATCHPAD, pad}});
      if (conv.reorders && ww) conv.reorder.execute(stream, mw, plain);
      stream.wait();
    }
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN convolution: ") + error.what());
  }
  return ffi::Error::Success();
}

int64_t models(const F32& array) { return array.element_count() / count(without_models(array.dimensions())); }

ffi::Error Forward(F32 x, F32 w, RF32 y, Span stride, Span pads) {
  return convolve(kForward, without_models(x.dimensions()), without_models(w.dimensions()), without_models(y->dimensions()),
                  x.typed_data(), w.typed_data(), y->typed_data(), models(x), stride, pads);
}

ffi::Error BackwardData(F32 dy, F32 w, RF32 dx, Span stride, Span pads) {
  return convolve(kData, without_models(dx->dimensions()), without_models(w.dimensions()), without_models(dy.dimensions()),
                  dx->typed_data(), w.typed_data(), dy.typed_data(), models(dy), stride, pads);
}

ffi::Error BackwardWeights(F32 x, F32 dy, RF32 dw, Span stride, Span pads) {
  return convolve(kWeights, without_models(x.dimensions()), without_models(dw->dimensions()), without_models(dy.dimensions()),
                  x.typed_data(), dw->typed_data(), dy.typed_data(), models(x), stride, pads);
}

// ---- group normalisation, activation, pooling ------------------------------------------------------------------

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

// `best` and `where` get, of each window, x-hat of the largest and its place; null where nobody asks.
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
  std::lock_guard<std::mutex> mine(turn);
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
  std::lock_guard<std::mutex> mine(turn);
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

#define CONVOLUTION(NAME, FUNCTION)                                                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, FUNCTION,                                                         \
                                ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Ret<F32>().Attr<Span>("stride").Attr<Span>("pads"))
CONVOLUTION(prognax_convolve, Forward);
CONVOLUTION(prognax_convolve_data, BackwardData);
CONVOLUTION(prognax_convolve_weights, BackwardWeights);

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
