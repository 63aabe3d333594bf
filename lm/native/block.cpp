// A pre-norm transformer block, forward and backward, in one call each: norm, Canon A, projection, Canon B, rotation,
// attention, output; norm, Canon C, up, Canon D, activation, down. N = rows * length tokens, D width, F hidden units.
#include "block.h"

extern "C" int64_t block_saved_size(const Block* b) { return Saved(*b, nullptr).size; }

// ---- norms -----------------------------------------------------------------------------------------------------
void norm_forward(const Block& b, const float* x, const float* gain, const float* bias, float* y, float* stats) {
  const int n = b.rows * b.length, d = b.width;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float* row = x + static_cast<int64_t>(i) * d;
    float* out = y + static_cast<int64_t>(i) * d;
    float mean = 0, square = 0;
    if (b.norm == LAYER_NORM) {
      for (int c = 0; c < d; c++) mean += row[c];
      mean /= d;
    }
    for (int c = 0; c < d; c++) square += (row[c] - mean) * (row[c] - mean);
    float scale = 1.f / std::sqrt(square / d + b.eps);
    stats[2 * i] = mean, stats[2 * i + 1] = scale;
    if (bias)
      for (int c = 0; c < d; c++) out[c] = (row[c] - mean) * scale * gain[c] + bias[c];
    else
      for (int c = 0; c < d; c++) out[c] = (row[c] - mean) * scale * gain[c];
  }
}

// dx += the gradient through the norm; dgain and dbias from dy
void norm_backward(const Block& b, const float* x, const float* gain, const float* stats, const float* dy, float* dx,
                          float* dgain, float* dbias) {
  const int n = b.rows * b.length, d = b.width;
  for (int c = 0; c < d; c++) dgain[c] = 0;
  if (dbias)
    for (int c = 0; c < d; c++) dbias[c] = 0;
#pragma omp parallel
  {
    std::vector<float> gains(d, 0.f), biases(d, 0.f), scaled(d);
#pragma omp for schedule(static)
    for (int i = 0; i < n; i++) {
      const float *row = x + static_cast<int64_t>(i) * d, *g = dy + static_cast<int64_t>(i) * d;
      float* out = dx + static_cast<int64_t>(i) * d;
      float mean = stats[2 * i], scale = stats[2 * i + 1], sum = 0, dot = 0;
      for (int c = 0; c < d; c++) {
        float unit = (row[c] - mean) * scale, each = g[c] * gain[c];
        scaled[c] = each, sum += each, dot += each * unit;
        gains[c] += g[c] * unit, biases[c] += g[c];
      }
      sum = b.norm == LAYER_NORM ? sum / d : 0.f, dot /= d;
      for (int c = 0; c < d; c++) out[c] += scale * (scaled[c] - sum - (row[c] - mean) * scale * dot);
    }
#pragma omp critical
    {
      for (int c = 0; c < d; c++) dgain[c] += gains[c];
      if (dbias)
        for (int c = 0; c < d; c++) dbias[c] += biases[c];
    }
  }
}

// ---- Canon -----------------------------------------------------------------------------------------------------
static inline int past_of(const Block& b, int row, int t) {  // tokens of the same document before t, at most kernel - 1
  int start = b.first[(b.first_rows == 1 ? 0 : static_cast<int64_t>(row) * b.length) + t];
  return t - start < b.kernel - 1 ? t - start : b.kernel - 1;
}

static std::vector<float> taps_of(const Block& b, const float* weight, int channels) {  // (kernel, C), own token first
  std::vector<float> taps(static_cast<size_t>(b.kernel) * channels);
  for (int c = 0; c < channels; c++)
    for (int k = 0; k < b.kernel; k++) taps[k * channels + c] = weight[c * b.kernel + b.kernel - 1 - k];
  if (b.canon_residual)
    for (int c = 0; c < channels; c++) taps[c] += 1.f;
  return taps;
}

static void canon_forward(const Block& b, const float* weight, const float* x, float* y, int channels) {
  const auto taps = taps_of(b, weight, channels);
  const float* w = taps.data();
  const int64_t c_ = channels;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < b.rows * b.length; i++) {
    const int past = past_of(b, i / b.length, i % b.length);
    const float* from = x + i * c_;
    float* to = y + i * c_;
    if (past == 3) {  // the papers' kernel of 4, away from a document's start
      for (int c = 0; c < channels; c++)
        to[c] = w[c] * from[c] + w[c_ + c] * from[c - c_] + (w[2 * c_ + c] * from[c - 2 * c_] + w[3 * c_ + c] * from[c - 3 * c_]);
      continue;
    }
    for (int c = 0; c < channels; c++) to[c] = w[c] * from[c];
    for (int back = 1; back <= past; back++)
      for (int c = 0; c < channels; c++) to[c] += w[back * c_ + c] * from[c - back * c_];
  }
}

// dx (may not be dy) from dy; dweight (C, kernel), null for frozen taps
static void canon_backward(const Block& b, const float* weight, const float* x, const float* dy, float* dx, float* dweight,
                           int channels) {
  const auto taps = taps_of(b, weight, channels);
  const float* w = taps.data();
  const int64_t c_ = channels;
  std::vector<float> total(static_cast<size_t>(b.kernel) * channels, 0.f);
#pragma omp parallel
  {
    std::vector<float> own(total.size(), 0.f);
#pragma omp for schedule(static)
    for (int i = 0; i < b.rows * b.length; i++) {
      const int row = i / b.length, t = i % b.length, past = past_of(b, row, t);
      int ahead = 0;
      while (ahead < b.kernel - 1 && t + ahead + 1 < b.length && past_of(b, row, t + ahead + 1) > ahead) ahead++;
      const float *g = dy + i * c_, *from = x + i * c_;
      float* to = dx + i * c_;
      if (ahead == 3)
        for (int c = 0; c < channels; c++)
          to[c] = w[c] * g[c] + w[c_ + c] * g[c + c_] + (w[2 * c_ + c] * g[c + 2 * c_] + w[3 * c_ + c] * g[c + 3 * c_]);
      else {
        for (int c = 0; c < channels; c++) to[c] = w[c] * g[c];
        for (int step = 1; step <= ahead; step++)
          for (int c = 0; c < channels; c++) to[c] += w[step * c_ + c] * g[c + step * c_];
      }
      for (int back = 0; back <= past; back++)
        for (int c = 0; c < channels; c++) own[back * c_ + c] += from[c - back * c_] * g[c];
    }
#pragma omp critical
    for (size_t k = 0; k < total.size(); k++) total[k] += own[k];
  }
  if (dweight)
    for (int c = 0; c < channels; c++)
      for (int k = 0; k < b.kernel; k++) dweight[c * b.kernel + b.kernel - 1 - k] = total[k * c_ + c];
}

// ---- rotation --------------------------------------------------------------------------------------------------
static void rotate(const Block& b, float* qkv, float sign) {
  if (!b.cos) return;
  const int width = b.width / b.heads, half = b.rotary_half;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < b.rows * b.length; i++) {
    const int64_t at = (b.angle_rows == 1 ? i % b.length : i) * static_cast<int64_t>(half);
    const float *cos = b.cos + at, *sin = b.sin + at;
    for (int part = 0; part < 2; part++)
      for (int h = 0; h < b.rotary_heads; h++) {
        float* x = qkv + (static_cast<int64_t>(i) * 3 + part) * b.width + h * width;
        for (int c = 0; c < half; c++) {
          float first = x[c], second = x[c + half], turn = sign * sin[c];
          x[c] = first * cos[c] - second * turn;
          x[c + half] = second * cos[c] + first * turn;
        }
      }
  }
}

// ---- activations -----------------------------------------------------------------------------------------------
static inline float gelu_gate(float x) {  // sigmoid(2 z): the tanh form of GELU is x times it
  return sigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x));
}

template <int KIND>
static inline float value(float x) {
  if (KIND == GELU) return x * gelu_gate(x);
  if (KIND == SILU) return x * sigmoid(x);
  return x > 0 ? x * x : 0.f * x;
}

template <int KIND>
static inline float slope(float x) {
  if (KIND == GELU) {
    float s = gelu_gate(x);
    return s + x * s * (1.f - s) * 1.5957691216057308f * (1.f + 3.f * 0.044715f * x * x);
  }
  if (KIND == SILU) {
    float s = sigmoid(x);
    return s + x * s * (1.f - s);
  }
  return x > 0 ? 2 * x : 0.f * x;
}

template <int KIND>
static void activate(const Block& b, const float* u, float* act) {
  const int n = b.rows * b.length, f = b.hidden;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float* x = u + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1);
    float* y = act + static_cast<int64_t>(i) * f;
    if (b.gated)
      for (int c = 0; c < f; c++) y[c] = value<KIND>(x[c]) * x[c + f];
    else
      for (int c = 0; c < f; c++) y[c] = value<KIND>(x[c]);
  }
}

template <int KIND>
static void activate_backward(const Block& b, const float* u, const float* dact, float* du) {
  const int n = b.rows * b.length, f = b.hidden;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float *x = u + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1), *g = dact + static_cast<int64_t>(i) * f;
    float* y = du + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1);
    if (b.gated)
      for (int c = 0; c < f; c++) y[c + f] = g[c] * value<KIND>(x[c]), y[c] = g[c] * x[c + f] * slope<KIND>(x[c]);
    else
      for (int c = 0; c < f; c++) y[c] = g[c] * slope<KIND>(x[c]);
  }
}

// ---- the block -------------------------------------------------------------------------------------------------
static void fill_rows(const float* bias, float* y, int n, int m) {
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) std::memcpy(y + static_cast<int64_t>(i) * m, bias, sizeof(float) * m);
}

// y (n, m) = x w^T + bias, added to `base` if there is one
static void linear(const float* x, const float* w, const float* bias, const float* base, float* y, int n, int m, int k,
                   bool bf16) {
  if (base) {
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
      for (int c = 0; c < m; c++)
        y[static_cast<int64_t>(i) * m + c] = base[static_cast<int64_t>(i) * m + c] + (bias ? bias[c] : 0.f);
  } else if (bias) {
    fill_rows(bias, y, n, m);
  }
  product_nt(x, w, y, n, m, k, base || bias ? 1.f : 0.f, bf16);
}

extern "C" void block_forward(const Block* block, const float* x, float* y, float* saved) {
  const Block& b = *block;
  const int n = b.rows * b.length, d = b.width, f = b.hidden, up = b.gated ? 2 * f : f;
  Saved s(b, saved);
  norm_forward(b, x, b.norm1, b.norm1_bias, s.h1, s.stats1);
  if (b.canon_a) canon_forward(b, b.canon_a, s.h1, s.h1c, d);
  linear(s.h1c, b.qkv, b.qkv_bias, nullptr, s.qkv0, n, 3 * d, d, b.bf16);
  if (b.canon_b) canon_forward(b, b.canon_b, s.qkv0, s.qkv, 3 * d);
  rotate(b, s.qkv, 1.f);
  attention_forward(s.qkv, b.first, b.first_rows, s.mixed, s.sums, b.rows, b.length, b.heads, d / b.heads);
  linear(s.mixed, b.out, b.out_bias, x, s.x1, n, d, d, b.bf16);
  norm_forward(b, s.x1, b.norm2, b.norm2_bias, s.h2, s.stats2);
  if (b.canon_c) canon_forward(b, b.canon_c, s.h2, s.h2c, d);
  linear(s.h2c, b.up, b.up_bias, nullptr, s.u0, n, up, d, b.bf16);
  if (b.canon_d) canon_forward(b, b.canon_d, s.u0, s.u, up);
  if (b.activation == GELU) activate<GELU>(b, s.u, s.act);
  if (b.activation == SILU) activate<SILU>(b, s.u, s.act);
  if (b.activation == RELU2) activate<RELU2>(b, s.u, s.act);
  linear(s.act, b.down, b.down_bias, s.x1, y, n, d, f, b.bf16);
}

// dx (N, D) from dy; `work` holds n * (2 * max(3 D, F or 2 F) + D) numbers
extern "C" void block_backward(const Block* block, const float* x, const float* dy, const float* saved, const Gradients* into,
                               float* dx, float* work) {
  const Block& b = *block;
  const Gradients& g = *into;
  const int n = b.rows * b.length, d = b.width, f = b.hidden, up = b.gated ? 2 * f : f;
  const int64_t wide = static_cast<int64_t>(n) * (3 * d > up ? 3 * d : up);
  float *one = work, *two = work + wide, *narrow = work + 2 * wide;
  Saved s(b, const_cast<float*>(saved));
  // x1 + down(act(...)): dx holds the gradient of x1 from here on
  product_tn(dy, s.act, g.down, n, d, f, b.bf16);
  if (b.down_bias) column_sums(dy, g.down_bias, n, d);
  product_nn(dy, b.down, one, n, f, d, 0.f, b.bf16);
  if (b.activation == GELU) activate_backward<GELU>(b, s.u, one, two);
  if (b.activation == SILU) activate_backward<SILU>(b, s.u, one, two);
  if (b.activation == RELU2) activate_backward<RELU2>(b, s.u, one, two);
  float *du = two, *free_ = one;
  if (b.canon_d) canon_backward(b, b.canon_d, s.u0, two, one, g.canon_d, up), du = one, free_ = two;
  product_tn(du, s.h2c, g.up, n, up, d, b.bf16);
  if (b.up_bias) column_sums(du, g.up_bias, n, up);
  product_nn(du, b.up, free_, n, d, up, 0.f, b.bf16);
  const float* dh = free_;
  if (b.canon_c) canon_backward(b, b.canon_c, s.h2, free_, narrow, g.canon_c, d), dh = narrow;
  std::memcpy(dx, dy, sizeof(float) * n * d);
  norm_backward(b, s.x1, b.norm2, s.stats2, dh, dx, g.norm2, g.norm2_bias);
  // x + out(attention(...)): `narrow` is the gradient of the mixed heads, dx becomes that of x
  product_tn(dx, s.mixed, g.out, n, d, d, b.bf16);
  if (b.out_bias) column_sums(dx, g.out_bias, n, d);
  product_nn(dx, b.out, narrow, n, d, d, 0.f, b.bf16);
  attention_backward(s.qkv, b.first, b.first_rows, s.mixed, s.sums, narrow, one, b.rows, b.length, b.heads, d / b.heads);
  rotate(b, one, -1.f);
  float* dqkv = one;
  if (b.canon_b) canon_backward(b, b.canon_b, s.qkv0, one, two, g.canon_b, 3 * d), dqkv = two;
  product_tn(dqkv, s.h1c, g.qkv, n, 3 * d, d, b.bf16);
  if (b.qkv_bias) column_sums(dqkv, g.qkv_bias, n, 3 * d);
  product_nn(dqkv, b.qkv, narrow, n, d, 3 * d, 0.f, b.bf16);
  dh = narrow;
  float* other = dqkv == one ? two : one;
  if (b.canon_a) canon_backward(b, b.canon_a, s.h1, narrow, other, g.canon_a, d), dh = other;
  norm_backward(b, x, b.norm1, s.stats1, dh, dx, g.norm1, g.norm1_bias);
}
