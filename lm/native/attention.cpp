// Causal softmax attention of one fused projection qkv (B, T, 3, H, d), forward and backward, head by head.
//
// A query i sees keys first[i]..i, where first is the start of its document. Scores of QUERIES queries are made at a time
// against chunks of LANES keys; keys and values are transposed once per head, so that all products run along keys.
#include "kernels.h"

constexpr int QUERIES = 8;

struct Head {  // arrays of one head: padded to whole vectors of keys
  int length, width, padded;
  std::vector<float> q, k, v, qt, kt, vt, dkt, dvt, scores, grads, go;
  void resize(int length_, int width_, bool backward) {
    length = length_, width = width_, padded = (length + LANES - 1) / LANES * LANES;
    size_t flat = static_cast<size_t>(padded) * width + LANES;
    q.resize(flat), k.resize(flat), v.resize(flat), kt.resize(flat), scores.resize(static_cast<size_t>(QUERIES) * padded);
    if (backward) {
      vt.resize(flat), go.resize(flat), grads.resize(static_cast<size_t>(QUERIES) * padded);
      dkt.assign(flat, 0.f), dvt.assign(flat, 0.f);
    }
  }
};

// rows of one head, of `own` columns: to (T, d) and, if `across`, to (d, padded)
static void gather(const float* x, int64_t stride, int length, int own, int width, int padded, float scale, float* along,
                   float* across) {
  for (int t = 0; t < length; t++) {
    for (int c = 0; c < own; c++) along[t * width + c] = scale * x[t * stride + c];
    for (int c = own; c < width; c++) along[t * width + c] = 0;
  }
  if (!across) return;
  for (int c = 0; c < width; c++) {
    for (int t = 0; t < length; t++) across[c * padded + t] = along[t * width + c];
    for (int t = length; t < padded; t++) across[c * padded + t] = 0;
  }
}

// the width that a head has here: zeros fill it to one that `mix` knows
static int padded_width(int own) {
  for (int width = 8; width <= 64; width *= 2)
    if (own <= width) return width;
  return own;
}

// out (QUERIES, padded): rows (QUERIES, d) times across (d, padded), for keys begin..end-1, whole vectors
static void dots(const float* rows, int width, const float* across, int padded, int begin, int end, float* out) {
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
template <int EACH>
struct Part;
template <>
struct Part<8> {
  typedef float type __attribute__((vector_size(32), aligned(4)));
};
template <>
struct Part<16> {
  typedef vec type;
};

template <int WIDTH>
static void mix_fixed(const float* weights, int padded, const float* along, int begin, int end, float* out) {
  constexpr int EACH = WIDTH < LANES ? WIDTH : LANES, PARTS = WIDTH / EACH, GROUP = PARTS > 2 ? 4 : QUERIES;
  typedef typename Part<EACH>::type part;
  for (int from = 0; from < QUERIES; from += GROUP) {
    part sums[GROUP][PARTS] = {};
    for (int j = begin; j < end; j++) {
      part values[PARTS];
      for (int p = 0; p < PARTS; p++) values[p] = *reinterpret_cast<const part*>(along + j * WIDTH + p * EACH);
      for (int q = 0; q < GROUP; q++)
        for (int p = 0; p < PARTS; p++) sums[q][p] += weights[(from + q) * padded + j] * values[p];
    }
    for (int q = 0; q < GROUP; q++)
      for (int p = 0; p < PARTS; p++) *reinterpret_cast<part*>(out + (from + q) * WIDTH + p * EACH) = sums[q][p];
  }
}

static void mix(const float* weights, int padded, const float* along, int width, int begin, int end, float* out) {
  if (width == 8) return mix_fixed<8>(weights, padded, along, begin, end, out);
  if (width == 16) return mix_fixed<16>(weights, padded, along, begin, end, out);
  if (width == 32) return mix_fixed<32>(weights, padded, along, begin, end, out);
  if (width == 64) return mix_fixed<64>(weights, padded, along, begin, end, out);
  for (int i = 0; i < QUERIES * width; i++) out[i] = 0;
  for (int q = 0; q < QUERIES; q++)
    for (int j = begin; j < end; j++)
      for (int c = 0; c < width; c++) out[q * width + c] += weights[q * padded + j] * along[j * width + c];
}

// across (d, padded) += rows (QUERIES, d)^T weights (QUERIES, padded), for keys begin..end-1, whole vectors
static void add_outer(const float* weights, int padded, const float* rows, int width, int begin, int end, float* across) {
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

// -inf (or 0) instead of the entries of a row before `from` and from `to` on; begin and end are whole vectors
static void mask(float* row, int begin, int from, int to, int end, float with) {
  for (int j = begin; j < from; j++) row[j] = with;
  for (int j = to; j < end; j++) row[j] = with;
}

// the keys begin..end-1 in whole vectors that queries i..i+n-1 may see, all of them together
static void range(const int* first, int i, int n, int* begin, int* end) {
  int least = first[i];
  for (int q = 1; q < n; q++) least = first[i + q] < least ? first[i + q] : least;
  *begin = least / LANES * LANES, *end = (i + n + LANES - 1) / LANES * LANES;
}

static void copy_rows(const float* x, int i, int n, int width, float* rows) {
  std::memcpy(rows, x + static_cast<size_t>(i) * width, sizeof(float) * n * width);
  for (int at = n * width; at < QUERIES * width; at++) rows[at] = 0;
}

// out (B, T, H, d); sums (B, H, T): log of the sum of the exponentials of each query's scores
extern "C" void attention_forward(const float* qkv, const int* first, int first_rows, float* out, float* sums, int rows,
                                  int length, int heads, int own) {
  const int64_t stride = 3LL * heads * own;
  const float scale = 1.f / std::sqrt(static_cast<float>(own));
  const int width = padded_width(own);
#pragma omp parallel for schedule(dynamic)
  for (int pair = 0; pair < rows * heads; pair++) {
    static thread_local Head head;
    static thread_local std::vector<float> rows_q, mixed;
    head.resize(length, width, false), rows_q.resize(QUERIES * width), mixed.resize(QUERIES * width);
    int b = pair / heads, h = pair % heads, padded = head.padded;
    const float* x = qkv + static_cast<int64_t>(b) * length * stride + h * own;
    const int* start = first + (first_rows == 1 ? 0 : static_cast<int64_t>(b) * length);
    gather(x, stride, length, own, width, padded, scale, head.q.data(), nullptr);
    gather(x + heads * own, stride, length, own, width, padded, 1.f, head.k.data(), head.kt.data());
    gather(x + 2 * heads * own, stride, length, own, width, padded, 1.f, head.v.data(), nullptr);
    for (int i = 0; i < length; i += QUERIES) {
      int n = length - i < QUERIES ? length - i : QUERIES, begin, end;
      range(start, i, n, &begin, &end);
      copy_rows(head.q.data(), i, n, width, rows_q.data());
      float* scores = head.scores.data();
      dots(rows_q.data(), width, head.kt.data(), padded, begin, end, scores);
      float inverse[QUERIES];
      for (int q = 0; q < QUERIES; q++) {
        float* s = scores + q * padded;
        if (q >= n) {
          mask(s, begin, end, end, end, 0.f);
          continue;
        }
        mask(s, begin, start[i + q], i + q + 1, end, -INFINITY);
        vec tops = all(-INFINITY), totals = all(0.f);
        for (int j = begin; j < end; j += LANES) {
          vec each = load(s + j);
          tops = each > tops ? each : tops;
        }
        const float top = max_of(tops);
        for (int j = begin; j < end; j += LANES) {
          vec each = exp_(load(s + j) - top);
          totals += each;
          store(s + j, each);
        }
        const float total = sum_of(totals);
        inverse[q] = 1.f / total;
        sums[static_cast<int64_t>(pair) * length + i + q] = top + std::log(total);
      }
      mix(scores, padded, head.v.data(), width, begin, i + n, mixed.data());
      for (int q = 0; q < n; q++)
        for (int c = 0; c < own; c++)
          out[((static_cast<int64_t>(b) * length + i + q) * heads + h) * own + c] = mixed[q * width + c] * inverse[q];
    }
  }
}

// dqkv from the gradient of out; deltas are the sums over d of grad times out, made here
extern "C" void attention_backward(const float* qkv, const int* first, int first_rows, const float* out, const float* sums,
                                   const float* grad, float* dqkv, int rows, int length, int heads, int own) {
  const int64_t stride = 3LL * heads * own, out_stride = static_cast<int64_t>(heads) * own;
  const float scale = 1.f / std::sqrt(static_cast<float>(own));
  const int width = padded_width(own);
#pragma omp parallel for schedule(dynamic)
  for (int pair = 0; pair < rows * heads; pair++) {
    static thread_local Head head;
    static thread_local std::vector<float> rows_q, rows_g, mixed;
    head.resize(length, width, true);
    rows_q.resize(QUERIES * width), rows_g.resize(QUERIES * width), mixed.resize(QUERIES * width);
    int b = pair / heads, h = pair % heads, padded = head.padded;
    const float* x = qkv + static_cast<int64_t>(b) * length * stride + h * own;
    float* dx = dqkv + static_cast<int64_t>(b) * length * stride + h * own;
    const float* y = out + static_cast<int64_t>(b) * length * out_stride + h * own;
    const float* g = grad + static_cast<int64_t>(b) * length * out_stride + h * own;
    const int* start = first + (first_rows == 1 ? 0 : static_cast<int64_t>(b) * length);
    gather(x, stride, length, own, width, padded, scale, head.q.data(), nullptr);
    gather(x + heads * own, stride, length, own, width, padded, 1.f, head.k.data(), head.kt.data());
    gather(x + 2 * heads * own, stride, length, own, width, padded, 1.f, head.v.data(), head.vt.data());
    gather(g, out_stride, length, own, width, padded, 1.f, head.go.data(), nullptr);
    for (int i = 0; i < length; i += QUERIES) {
      int n = length - i < QUERIES ? length - i : QUERIES, begin, end;
      range(start, i, n, &begin, &end);
      copy_rows(head.q.data(), i, n, width, rows_q.data());
      copy_rows(head.go.data(), i, n, width, rows_g.data());
      float *p = head.scores.data(), *ds = head.grads.data();
      dots(rows_q.data(), width, head.kt.data(), padded, begin, end, p);
      dots(rows_g.data(), width, head.vt.data(), padded, begin, end, ds);
      for (int q = 0; q < QUERIES; q++) {
        float *s = p + q * padded, *d = ds + q * padded, delta = 0;
        int from = q < n ? start[i + q] : end, to = q < n ? i + q + 1 : end;
        if (q < n) {
          float total = sums[static_cast<int64_t>(pair) * length + i + q];
          for (int c = 0; c < own; c++) delta += g[(i + q) * out_stride + c] * y[(i + q) * out_stride + c];
          for (int j = begin; j < end; j += LANES) {
            vec each = exp_(load(s + j) - total);
            store(s + j, each), store(d + j, each * (load(d + j) - delta));
          }
        }
        mask(s, begin, from, to, end, 0.f), mask(d, begin, from, to, end, 0.f);
      }
      mix(ds, padded, head.k.data(), width, begin, i + n, mixed.data());
      for (int q = 0; q < n; q++)
        for (int c = 0; c < own; c++) dx[(i + q) * stride + c] = scale * mixed[q * width + c];
      add_outer(ds, padded, rows_q.data(), width, begin, end, head.dkt.data());
      add_outer(p, padded, rows_g.data(), width, begin, end, head.dvt.data());
    }
    for (int t = 0; t < length; t++)
      for (int c = 0; c < own; c++) {
        dx[t * stride + heads * own + c] = head.dkt[c * padded + t];  // the queries hold the scale already
        dx[t * stride + 2 * heads * own + c] = head.dvt[c * padded + t];
      }
  }
}
