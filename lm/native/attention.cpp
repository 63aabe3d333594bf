// Causal softmax attention of one fused projection qkv (B, T, 3, H, d), forward and backward, head by head.
//
// A query i sees keys first[i]..i, where first is the start of its document. Queries and keys are rotated as they are read,
// and gradients are turned back as they are written. Scores of QUERIES queries are made at a time against chunks of LANES
// keys; keys and values are transposed once per head, so that all products run along keys.
#include "block.h"

constexpr int QUERIES = 8;

// Heads are computed at the width W of a template, where zeros fill them; W = 0: at their own width, known at run time.
static int padded_width(int own) {
  for (int width = 8; width <= 64; width *= 2)
    if (own <= width) return width;
  return (own + 1) / 2 * 2;
}

struct Shape {
  int length, padded, own, width, half;  // padded: keys in whole vectors; half: rotated pairs of a head, 0 for none
  std::vector<int> place;                // where each coordinate of a rotated head goes: pairs are width / 2 apart
  bool in_order;                         // place is 0, 1, 2, ... and fills the width
};

static Shape shape_of(const Block& b, int width) {
  Shape s;
  s.length = b.length, s.padded = (b.length + LANES - 1) / LANES * LANES, s.own = b.width / b.heads, s.width = width;
  s.half = b.cos ? b.rotary_half : 0;
  s.place.resize(s.own);
  int rest = 0;
  for (int c = 0; c < s.own; c++) {
    if (c < s.half) s.place[c] = c;
    else if (c < 2 * s.half) s.place[c] = width / 2 + c - s.half;
    else {
      int free = width / 2 - s.half;
      s.place[c] = rest < free ? s.half + rest : width / 2 + s.half + rest - free;
      rest++;
    }
  }
  s.in_order = s.own == width;
  for (int c = 0; c < s.own; c++) s.in_order = s.in_order && s.place[c] == c;
  return s;
}

// Cosines and sines (T, width / 2) of the heads of a row; 1 and 0 for pairs that are not rotated.
struct Angles {
  const float *cos, *sin;
  std::vector<float> tables;
  void read(const Block& b, const Shape& s, int row) {
    const int64_t from = b.angle_rows == 1 ? 0 : static_cast<int64_t>(row) * s.length * s.half;
    cos = b.cos + from, sin = b.sin + from;
    const int pairs = s.width / 2;
    if (s.half == pairs) return;
    const size_t size = static_cast<size_t>(s.length) * pairs;
    tables.resize(2 * size);
    for (int t = 0; t < s.length; t++)
      for (int c = 0; c < pairs; c++) {
        tables[t * pairs + c] = c < s.half ? cos[t * s.half + c] : 1.f;
        tables[size + t * pairs + c] = c < s.half ? sin[t * s.half + c] : 0.f;
      }
    cos = tables.data(), sin = tables.data() + size;
  }
};

struct Head {  // arrays of one head
  Angles angles;
  std::vector<float> q, k, v, kt, vt, dkt, dvt, scores, grads, go, rows_q, rows_g, mixed;
  void resize(const Shape& s, bool backward) {
    size_t flat = static_cast<size_t>(s.padded) * s.width + LANES, few = static_cast<size_t>(QUERIES) * s.padded;
    q.resize(flat), k.resize(flat), v.resize(flat), kt.resize(flat), scores.resize(few);
    rows_q.resize(QUERIES * s.width), rows_g.resize(QUERIES * s.width), mixed.resize(QUERIES * s.width);
    if (backward) vt.resize(flat), go.resize(flat), grads.resize(few), dkt.assign(flat, 0.f), dvt.assign(flat, 0.f);
  }
};

// turn the pairs of a row by the angles, or back
template <int W>
static inline void turn(float* row, int width, const float* cos, const float* sin, float sign) {
  const int pairs = (W ? W : width) / 2;
  for (int c = 0; c < pairs; c++) {
    float first = row[c], second = row[c + pairs], s = sign * sin[c];
    row[c] = first * cos[c] - second * s, row[c + pairs] = second * cos[c] + first * s;
  }
}

// the rows of one head to (T, width), scaled and, with angles, rotated
template <int W>
static void gather(const float* x, int64_t stride, const Shape& s, float scale, const Angles* angles, float* along) {
  const int width = W ? W : s.width, pairs = width / 2;
  for (int t = 0; t < s.length; t++) {
    const float* from = x + t * stride;
    float* to = along + static_cast<int64_t>(t) * width;
    if (s.in_order) {
      for (int c = 0; c < width; c++) to[c] = scale * from[c];
    } else {
      for (int c = 0; c < width; c++) to[c] = 0;
      for (int c = 0; c < s.own; c++) to[s.place[c]] = scale * from[c];
    }
    if (angles) turn<W>(to, width, angles->cos + t * pairs, angles->sin + t * pairs, 1.f);
  }
}

// one row of a gradient back to its head; changes the row
template <int W>
static inline void scatter(float* row, const Shape& s, float scale, const Angles* angles, int t, float* to) {
  const int width = W ? W : s.width, pairs = width / 2;
  if (angles) turn<W>(row, width, angles->cos + t * pairs, angles->sin + t * pairs, -1.f);
  if (s.in_order)
    for (int c = 0; c < width; c++) to[c] = scale * row[c];
  else
    for (int c = 0; c < s.own; c++) to[c] = scale * row[s.place[c]];
}

template <int W>
static void transpose(const float* along, const Shape& s, float* across) {  // (T, width) to (width, padded), filled with 0
  const int width = W ? W : s.width;
  for (int c = 0; c < width; c++) {
    for (int t = 0; t < s.length; t++) across[c * s.padded + t] = along[t * width + c];
    for (int t = s.length; t < s.padded; t++) across[c * s.padded + t] = 0;
  }
}

// out (QUERIES, padded): rows (QUERIES, d) times across (d, padded), for keys begin..end-1, whole vectors
template <int W>
static void dots(const float* rows, int width_, const float* across, int padded, int begin, int end, float* out) {
  const int width = W ? W : width_;
  int j = begin;
  for (; j + 2 * LANES <= end; j += 2 * LANES) {
    vec a[QUERIES] = {}, b[QUERIES] = {};
    for (int c = 0; c < width; c++) {
      vec first = load(across + c * padded + j), second = load(across + c * padded + j + LANES);
      for (int q = 0; q < QUERIES; q++) {
        vec factor = all(rows[q * width + c]);
        a[q] += factor * first, b[q] += factor * second;
      }
    }
    for (int q = 0; q < QUERIES; q++) store(out + q * padded + j, a[q]), store(out + q * padded + j + LANES, b[q]);
  }
  for (; j < end; j += LANES) {
    vec a[QUERIES] = {};
    for (int c = 0; c < width; c++) {
      vec keys = load(across + c * padded + j);
      for (int q = 0; q < QUERIES; q++) a[q] += all(rows[q * width + c]) * keys;
    }
    for (int q = 0; q < QUERIES; q++) store(out + q * padded + j, a[q]);
  }
}

// out (QUERIES, d): weights (QUERIES, padded) times along (T, d), for keys begin..end-1
template <int W>
static void mix(const float* weights, int padded, const float* along, int width, int begin, int end, float* out) {
  if constexpr (W == 0) {
    for (int i = 0; i < QUERIES * width; i++) out[i] = 0;
    for (int q = 0; q < QUERIES; q++)
      for (int j = begin; j < end; j++)
        for (int c = 0; c < width; c++) out[q * width + c] += weights[q * padded + j] * along[j * width + c];
  } else {
    constexpr int EACH = W < LANES ? W : LANES, PARTS = W / EACH, GROUP = PARTS > 2 ? 4 : QUERIES;
    typedef typename Part<EACH>::type part;
    for (int from = 0; from < QUERIES; from += GROUP) {
      part sums[GROUP][PARTS] = {};
      for (int j = begin; j < end; j++) {
        part values[PARTS];
        for (int p = 0; p < PARTS; p++) values[p] = *reinterpret_cast<const part*>(along + j * W + p * EACH);
        for (int q = 0; q < GROUP; q++)
          for (int p = 0; p < PARTS; p++) sums[q][p] += weights[(from + q) * padded + j] * values[p];
      }
      for (int q = 0; q < GROUP; q++)
        for (int p = 0; p < PARTS; p++) *reinterpret_cast<part*>(out + (from + q) * W + p * EACH) = sums[q][p];
    }
  }
}

// across (d, padded) += rows (QUERIES, d)^T weights (QUERIES, padded), for keys begin..end-1, whole vectors
template <int W>
static void add_outer(const float* weights, int padded, const float* rows, int width_, int begin, int end, float* across) {
  const int width = W ? W : width_;
  for (int j = begin; j < end; j += LANES) {
    vec w[QUERIES];
    for (int q = 0; q < QUERIES; q++) w[q] = load(weights + q * padded + j);
    for (int c = 0; c < width; c++) {
      vec sum = load(across + c * padded + j);
      for (int q = 0; q < QUERIES; q++) sum += w[q] * all(rows[q * width + c]);
      store(across + c * padded + j, sum);
    }
  }
}

// x with `other` in the lanes of keys before `from` and from `to` on, where lane 0 is key j
static inline vec within(vec x, int j, int from, int to, float other) {
  if (j >= from && j + LANES <= to) return x;
  const ivec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const ivec key = lanes + j;
  return (key >= from) & (key < to) ? x : all(other);
}

// scores of keys from..to-1 to exponentials, 0 for others; returns the largest score, *total is the sum
static float exponentials(float* scores, int begin, int from, int to, int end, float* total) {
  vec tops = all(-INFINITY), totals = all(0.f);
  for (int j = begin; j < end; j += LANES) {
    vec each = within(load(scores + j), j, from, to, -INFINITY);
    tops = each > tops ? each : tops;
  }
  const float top = max_of(tops);
  for (int j = begin; j < end; j += LANES) {
    vec each = within(exp_(load(scores + j) - top), j, from, to, 0.f);
    totals += each;
    store(scores + j, each);
  }
  *total = sum_of(totals);
  return top;
}

// the keys begin..end-1 in whole vectors that queries i..i+n-1 may see, all of them together
static void range(const int* first, int i, int n, int* begin, int* end) {
  int least = first[i];
  for (int q = 1; q < n; q++) least = first[i + q] < least ? first[i + q] : least;
  *begin = least / LANES * LANES, *end = (i + n + LANES - 1) / LANES * LANES;
}

static void copy_rows(const std::vector<float>& x, int i, int n, int width, std::vector<float>& rows) {
  std::memcpy(rows.data(), x.data() + static_cast<size_t>(i) * width, sizeof(float) * n * width);
  for (int at = n * width; at < QUERIES * width; at++) rows[at] = 0;
}

template <int W>
static void forward(const Block& b, const Shape& s, const float* qkv, float* out, float* stats) {
  const int64_t stride = 3LL * b.width;
  const int width = W ? W : s.width, padded = s.padded, own = s.own;
  const float scale = 1.f / std::sqrt(static_cast<float>(own));
#pragma omp parallel for schedule(dynamic)
  for (int pair = 0; pair < b.rows * b.heads; pair++) {
    static thread_local Head head;
    head.resize(s, false);
    const int row = pair / b.heads, h = pair % b.heads;
    const float* x = qkv + row * b.length * stride + h * own;
    const int* start = b.first + (b.first_rows == 1 ? 0 : static_cast<int64_t>(row) * b.length);
    const Angles* angles = nullptr;
    if (s.half && h < b.rotary_heads) head.angles.read(b, s, row), angles = &head.angles;
    gather<W>(x, stride, s, scale, angles, head.q.data());
    gather<W>(x + b.width, stride, s, 1.f, angles, head.k.data());
    gather<W>(x + 2 * b.width, stride, s, 1.f, nullptr, head.v.data());
    transpose<W>(head.k.data(), s, head.kt.data());
    for (int i = 0; i < b.length; i += QUERIES) {
      int n = b.length - i < QUERIES ? b.length - i : QUERIES, begin, end;
      range(start, i, n, &begin, &end);
      copy_rows(head.q, i, n, width, head.rows_q);
      float *scores = head.scores.data(), inverse[QUERIES];
      dots<W>(head.rows_q.data(), width, head.kt.data(), padded, begin, end, scores);
      for (int q = 0; q < n; q++) {
        float total, *kept = stats + 2 * (static_cast<int64_t>(pair) * b.length + i + q);
        kept[0] = exponentials(scores + q * padded, begin, start[i + q], i + q + 1, end, &total);
        kept[1] = inverse[q] = 1.f / total;
      }
      mix<W>(scores, padded, head.v.data(), width, begin, i + n, head.mixed.data());
      for (int q = 0; q < n; q++) {
        float* to = out + (static_cast<int64_t>(row) * b.length + i + q) * b.width + h * own;
        scatter<W>(head.mixed.data() + q * width, s, inverse[q], nullptr, 0, to);
      }
    }
  }
}

// the rows of `scores` to weights p and those of `grads`, gradients of p, to gradients of the scores: 0 for keys not seen
static void weight_gradients(const int* start, int i, int n, int begin, int end, int padded, const float* stats,
                             const float* deltas, float* scores, float* grads) {
  for (int q = 0; q < QUERIES; q++) {
    float *p = scores + q * padded, *d = grads + q * padded;
    if (q >= n) {
      std::memset(p + begin, 0, sizeof(float) * (end - begin)), std::memset(d + begin, 0, sizeof(float) * (end - begin));
      continue;
    }
    const int from = start[i + q], to = i + q + 1;
    const float top = stats[2 * q], inverse = stats[2 * q + 1];
    for (int j = begin; j < end; j += LANES) {
      vec weight = within(exp_(load(p + j) - top) * inverse, j, from, to, 0.f);
      store(p + j, weight), store(d + j, weight * (load(d + j) - deltas[q]));
    }
  }
}

template <int W>
static void backward(const Block& b, const Shape& s, const float* qkv, const float* out, const float* stats, const float* grad,
                     float* dqkv) {
  const int64_t stride = 3LL * b.width;
  const int width = W ? W : s.width, padded = s.padded, own = s.own;
  const float scale = 1.f / std::sqrt(static_cast<float>(own));
#pragma omp parallel for schedule(dynamic)
  for (int pair = 0; pair < b.rows * b.heads; pair++) {
    static thread_local Head head;
    head.resize(s, true);
    const int row = pair / b.heads, h = pair % b.heads;
    const int64_t at = row * b.length * stride + h * own, out_at = static_cast<int64_t>(row) * b.length * b.width + h * own;
    const float *x = qkv + at, *y = out + out_at, *g = grad + out_at;
    const int* start = b.first + (b.first_rows == 1 ? 0 : static_cast<int64_t>(row) * b.length);
    float* dx = dqkv + at;
    const Angles* angles = nullptr;
    if (s.half && h < b.rotary_heads) head.angles.read(b, s, row), angles = &head.angles;
    gather<W>(x, stride, s, scale, angles, head.q.data());
    gather<W>(x + b.width, stride, s, 1.f, angles, head.k.data());
    gather<W>(x + 2 * b.width, stride, s, 1.f, nullptr, head.v.data());
    gather<W>(g, b.width, s, 1.f, nullptr, head.go.data());
    transpose<W>(head.k.data(), s, head.kt.data()), transpose<W>(head.v.data(), s, head.vt.data());
    for (int i = 0; i < b.length; i += QUERIES) {
      int n = b.length - i < QUERIES ? b.length - i : QUERIES, begin, end;
      range(start, i, n, &begin, &end);
      copy_rows(head.q, i, n, width, head.rows_q), copy_rows(head.go, i, n, width, head.rows_g);
      float *p = head.scores.data(), *ds = head.grads.data(), deltas[QUERIES] = {};
      dots<W>(head.rows_q.data(), width, head.kt.data(), padded, begin, end, p);
      dots<W>(head.rows_g.data(), width, head.vt.data(), padded, begin, end, ds);
      for (int q = 0; q < n; q++)
        for (int c = 0; c < own; c++) deltas[q] += g[(i + q) * int64_t{b.width} + c] * y[(i + q) * int64_t{b.width} + c];
      weight_gradients(start, i, n, begin, end, padded, stats + 2 * (static_cast<int64_t>(pair) * b.length + i), deltas, p, ds);
      mix<W>(ds, padded, head.k.data(), width, begin, i + n, head.mixed.data());
      for (int q = 0; q < n; q++) scatter<W>(head.mixed.data() + q * width, s, scale, angles, i + q, dx + (i + q) * stride);
      add_outer<W>(ds, padded, head.rows_q.data(), width, begin, end, head.dkt.data());
      add_outer<W>(p, padded, head.rows_g.data(), width, begin, end, head.dvt.data());
    }
    for (int t = 0; t < b.length; t++) {
      float *keys = head.rows_q.data(), *values = head.rows_g.data();  // the queries held the scale already
      for (int c = 0; c < width; c++) keys[c] = head.dkt[c * padded + t], values[c] = head.dvt[c * padded + t];
      scatter<W>(keys, s, 1.f, angles, t, dx + t * stride + b.width);
      scatter<W>(values, s, 1.f, nullptr, t, dx + t * stride + 2 * b.width);
    }
  }
}

// out (B, T, H, d); stats (B, H, T, 2): the largest score of each query, and 1 over the sum of its exponentials
void attention_forward(const Block& b, const float* qkv, float* out, float* stats) {
  const Shape s = shape_of(b, padded_width(b.width / b.heads));
  if (s.width == 8) return forward<8>(b, s, qkv, out, stats);
  if (s.width == 16) return forward<16>(b, s, qkv, out, stats);
  if (s.width == 32) return forward<32>(b, s, qkv, out, stats);
  if (s.width == 64) return forward<64>(b, s, qkv, out, stats);
  forward<0>(b, s, qkv, out, stats);
}

// dqkv from the gradient of out
void attention_backward(const Block& b, const float* qkv, const float* out, const float* stats, const float* grad, float* dqkv) {
  const Shape s = shape_of(b, padded_width(b.width / b.heads));
  if (s.width == 8) return backward<8>(b, s, qkv, out, stats, grad, dqkv);
  if (s.width == 16) return backward<16>(b, s, qkv, out, stats, grad, dqkv);
  if (s.width == 32) return backward<32>(b, s, qkv, out, stats, grad, dqkv);
  if (s.width == 64) return backward<64>(b, s, qkv, out, stats, grad, dqkv);
  backward<0>(b, s, qkv, out, stats, grad, dqkv);
}
