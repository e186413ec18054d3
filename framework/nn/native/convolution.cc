// Convolution by oneDNN, for CPUs. Arrays are channels last, float32; the leading axis of every array but the
// attributes is that of several models under vmap.

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using RF32 = ffi::Result<F32>;
using Span = ffi::Span<const int64_t>;
using Dims = std::vector<int64_t>;

extern "C" std::mutex prognax_turn;  // that of norm.cc: one kernel at a time has all threads

namespace {

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
  std::lock_guard<std::mutex> mine(prognax_turn);
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

}  // namespace

#define CONVOLUTION(NAME, FUNCTION)                                                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, FUNCTION,                                                         \
                                ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Ret<F32>().Attr<Span>("stride").Attr<Span>("pads"))
CONVOLUTION(prognax_convolve, Forward);
CONVOLUTION(prognax_convolve_data, BackwardData);
CONVOLUTION(prognax_convolve_weights, BackwardWeights);
