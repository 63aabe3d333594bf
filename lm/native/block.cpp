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

// dx += the gradient through the norm; dgain and dbias are added to
void norm_backward(const Block& b, const float* x, const float* gain, const float* stats, const float* dy, float* dx,
                          float* dgain, float* dbias) {
  const int n = b.rows * b.length, d = b.width;
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

// ---- activations -----------------------------------------------------------------------------------------------
static inline vec gelu_gate(vec x) {  // sigmoid(2 z): the tanh form of GELU is x times it
  return sigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x));
}

template <int KIND>
static inline vec value(vec x) {
  if constexpr (KIND == GELU) return x * gelu_gate(x);
  else if constexpr (KIND == SILU) return x * sigmoid(x);
  else return x > 0.f ? x * x : 0.f * x;
}

template <int KIND>
static inline vec slope(vec x) {
  if constexpr (KIND == GELU) {
    vec s = gelu_gate(x);
    return s + x * s * (1.f - s) * (1.5957691216057308f * (1.f + 3.f * 0.044715f * x * x));
  } else if constexpr (KIND == SILU) {
    vec s = sigmoid(x);
    return s + x * s * (1.f - s);
  } else {
    return x > 0.f ? 2.f * x : 0.f * x;
  }
}

template <int KIND>
static void activate_each(const Block& b, const float* u, float* act) {
  const int n = b.rows * b.length, f = b.hidden;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float *x = u + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1), *gate = x + f;
    float* y = act + static_cast<int64_t>(i) * f;
    if (b.gated) for_vectors(f, [&](int c, auto at) { at.put(y + c, value<KIND>(at.get(x + c)) * at.get(gate + c)); });
    else for_vectors(f, [&](int c, auto at) { at.put(y + c, value<KIND>(at.get(x + c))); });
  }
}

void activate(const Block& b, const float* u, float* act) {
  if (b.activation == GELU) activate_each<GELU>(b, u, act);
  if (b.activation == SILU) activate_each<SILU>(b, u, act);
  if (b.activation == RELU2) activate_each<RELU2>(b, u, act);
}

template <int KIND>
static void activate_backward(const Block& b, const float* u, const float* dact, float* du) {
  const int n = b.rows * b.length, f = b.hidden;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float *x = u + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1), *gate = x + f;
    const float* g = dact + static_cast<int64_t>(i) * f;
    float *dx = du + static_cast<int64_t>(i) * f * (b.gated ? 2 : 1), *dgate = dx + f;
    for_vectors(f, [&](int c, auto at) {
      vec each = at.get(x + c), grad = at.get(g + c);
      if (!b.gated) return at.put(dx + c, grad * slope<KIND>(each));
      at.put(dgate + c, grad * value<KIND>(each)), at.put(dx + c, grad * at.get(gate + c) * slope<KIND>(each));
    });
  }
}

// ---- Canon -----------------------------------------------------------------------------------------------------
// Tiles of a few tokens and one vector of channels, whose taps stay in registers. Taps are (kernel, C), own token first, with the
// residual in it.
std::vector<float> taps_of(const Block& b, const float* weight, int channels) {
  std::vector<float> taps(static_cast<size_t>(b.kernel) * channels);
  for (int c = 0; c < channels; c++)
    for (int k = 0; k < b.kernel; k++) taps[k * channels + c] = weight[c * b.kernel + b.kernel - 1 - k];
  if (b.canon_residual)
    for (int c = 0; c < channels; c++) taps[c] += 1.f;
  return taps;
}

// For each token of a row, how many tokens of its document before it, and after it, are within reach: kernel - 1 at most.
struct Reach {
  std::vector<int> past, ahead;
  Reach(const Block& b, int row) : past(b.length), ahead(b.length) {
    const int *first = b.first + (b.first_rows == 1 ? 0 : static_cast<int64_t>(row) * b.length), most = b.kernel - 1;
    for (int t = 0; t < b.length; t++) past[t] = t - first[t] < most ? t - first[t] : most;
    for (int t = b.length - 1; t >= 0; t--) {
      const bool goes_on = t + 1 < b.length && past[t + 1] > 0;
      ahead[t] = !goes_on ? 0 : ahead[t + 1] + 1 < most ? ahead[t + 1] + 1 : most;
    }
  }
};

struct Tile {  // some tokens of a row
  static constexpr int TOKENS = 16;
  const int *past, *ahead;
  int tokens;
  Tile(const Reach& reach, int t) : past(&reach.past[t]), ahead(&reach.ahead[t]) {
    const int left = static_cast<int>(reach.past.size()) - t;
    tokens = left < TOKENS ? left : TOKENS;
  }
};

// K: the kernel, 0 for one known at run time. The window holds what came before in the document, nearest first.
template <int K, class How>
static inline void canon_forward_tile(const Tile& tile, How at, const float* w, const float* x, float* y, int64_t c_, int kernel) {
  const int most = (K ? K : kernel) - 1;
  vec taps[K ? K : kernel], window[K ? K : kernel];
  for (int s = 0; s <= most; s++) taps[s] = at.get(w + s * c_);
  for (int s = 0; s < most; s++) window[s] = s < tile.past[0] ? at.get(x - (s + 1) * c_) : all(0.f);
  for (int t = 0; t < tile.tokens; t++, x += c_, y += c_) {
    const vec own = at.get(x);
    if (tile.past[t] == 0)
      for (int s = 0; s < most; s++) window[s] = all(0.f);
    vec sum = taps[0] * own;
    for (int s = 0; s < most; s++) sum += taps[s + 1] * window[s];
    at.put(y, sum);
    for (int s = most - 1; s > 0; s--) window[s] = window[s - 1];
    if (most > 0) window[0] = own;
  }
}

static void canon_forward(const Block& b, const float* weight, const float* x, float* y, int channels) {
  const auto taps = taps_of(b, weight, channels);
  const float* w = taps.data();
#pragma omp parallel for schedule(static)
  for (int row = 0; row < b.rows; row++) {
    const Reach reach(b, row);
    for (int t = 0; t < b.length; t += Tile::TOKENS) {
      const Tile tile(reach, t);
      const int64_t from = (static_cast<int64_t>(row) * b.length + t) * channels;
      for_vectors(channels, [&](int c, auto at) {
        auto run = b.kernel == 4 ? canon_forward_tile<4, decltype(at)> : canon_forward_tile<0, decltype(at)>;
        run(tile, at, w + c, x + from + c, y + from + c, channels, b.kernel);
      });
    }
  }
}

// From the last token to the first: the window holds the gradients of what follows in the document. sums (kernel, C): gradients
// of the taps are added.
template <int K, class How>
static inline void canon_backward_tile(const Tile& tile, How at, const float* w, const float* x, const float* dy, float* dx,
                                       float* sums, int64_t c_, int kernel) {
  const int most = (K ? K : kernel) - 1, last = tile.tokens - 1;
  vec taps[K ? K : kernel], own[K ? K : kernel], window[K ? K : kernel];
  for (int s = 0; s <= most; s++) taps[s] = at.get(w + s * c_), own[s] = at.get(sums + s * c_);
  for (int s = 0; s < most; s++) window[s] = s < tile.ahead[last] ? at.get(dy + (last + s + 1) * c_) : all(0.f);
  for (int t = last; t >= 0; t--) {
    const vec grad = at.get(dy + t * c_), input = at.get(x + t * c_);
    if (tile.ahead[t] == 0)
      for (int s = 0; s < most; s++) window[s] = all(0.f);
    vec sum = taps[0] * grad;
    own[0] += input * grad;
    for (int s = 0; s < most; s++) sum += taps[s + 1] * window[s], own[s + 1] += input * window[s];
    at.put(dx + t * c_, sum);
    for (int s = most - 1; s > 0; s--) window[s] = window[s - 1];
    if (most > 0) window[0] = grad;
  }
  for (int s = 0; s <= most; s++) at.put(sums + s * c_, own[s]);
}

// dx (may not be dy) from dy; dweight (C, kernel) is added to, null for frozen taps
static void canon_backward(const Block& b, const float* weight, const float* x, const float* dy, float* dx, float* dweight,
                           int channels) {
  const auto taps = taps_of(b, weight, channels);
  const float* w = taps.data();
  std::vector<float> total(taps.size(), 0.f);
#pragma omp parallel
  {
    std::vector<float> sums(total.size(), 0.f);
#pragma omp for schedule(static)
    for (int row = 0; row < b.rows; row++) {
      const Reach reach(b, row);
      for (int t = 0; t < b.length; t += Tile::TOKENS) {
        const Tile tile(reach, t);
        const int64_t from = (static_cast<int64_t>(row) * b.length + t) * channels;
        for_vectors(channels, [&](int c, auto at) {
          auto run = b.kernel == 4 ? canon_backward_tile<4, decltype(at)> : canon_backward_tile<0, decltype(at)>;
          run(tile, at, w + c, x + from + c, dy + from + c, dx + from + c, &sums[c], channels, b.kernel);
        });
      }
    }
#pragma omp critical
    for (size_t k = 0; k < total.size(); k++) total[k] += sums[k];
  }
  if (dweight)
    for (int c = 0; c < channels; c++)
      for (int k = 0; k < b.kernel; k++) dweight[c * b.kernel + b.kernel - 1 - k] += total[k * static_cast<int64_t>(channels) + c];
}

// ---- the block -------------------------------------------------------------------------------------------------
static void fill_rows(const float* bias, float* y, int n, int m) {
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) std::memcpy(y + static_cast<int64_t>(i) * m, bias, sizeof(float) * m);
}

// y (n, m) = x w^T + bias, added to `base` if there is one
void linear(const float* x, const float* w, const float* bias, const float* base, float* y, int n, int m, int k,
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
  attention_forward(b, s.qkv, s.mixed, s.stats);
  linear(s.mixed, b.out, b.out_bias, x, s.x1, n, d, d, b.bf16);
  norm_forward(b, s.x1, b.norm2, b.norm2_bias, s.h2, s.stats2);
  if (b.canon_c) canon_forward(b, b.canon_c, s.h2, s.h2c, d);
  linear(s.h2c, b.up, b.up_bias, nullptr, s.u0, n, up, d, b.bf16);
  if (b.canon_d) canon_forward(b, b.canon_d, s.u0, s.u, up);
  activate(b, s.u, s.act);
  linear(s.act, b.down, b.down_bias, s.x1, y, n, d, f, b.bf16);
}

// dx (N, D) from dy, and gradients added to those there are; `work` holds n * (2 * max(3 D, F or 2 F) + D) numbers
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
  attention_backward(b, s.qkv, s.mixed, s.stats, narrow, one);
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
