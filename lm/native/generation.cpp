// Sampling: a few sequences at a time go through the model token by token, each at its own position; when one ends, the next
// takes its place. Each thread has sequences of its own, so that what is drawn does not depend on which thread is faster.
#include <omp.h>

#include "block.h"

// All is fp32; blocks are those of a batch of any shape, with cosines and sines of positions 0..capacity-1.
struct Generation {
  int layers, vocab, sequences, capacity, budget, eos, slots;  // eos: -1 for none; slots: sequences at a time
  float temperature;                                           // 0: the most likely token
  const float *embed, *positions, *norm, *norm_bias, *head;
  const Block* blocks;
  const float* draws;  // (sequences, budget): a uniform number for each new token
  const int* prompts;  // lengths of the prompts
  int64_t* tokens;     // (sequences, capacity + 1): prompts, which the new tokens follow
  int* counts;         // how many new tokens each has got
};

static int floor_to_vector(int n) { return (n + LANES - 1) / LANES * LANES; }

struct Slot {
  int place, sequence, position;  // place: where its keys and values are
};

// What one layer remembers of each place: keys (H, capacity / LANES, d, LANES), values (H, capacity, d), and the last inputs of Canon layers.
struct Memory {
  int64_t each = 0;
  std::vector<float> keys, values, past[4], taps[4];
  const float* canons[4];
  int channels[4];
  void resize(const Block& b, int slots, int padded) {
    const int up = b.gated ? 2 * b.hidden : b.hidden, sizes[4] = {b.width, 3 * b.width, b.width, up};
    const float* weights[4] = {b.canon_a, b.canon_b, b.canon_c, b.canon_d};
    each = static_cast<int64_t>(b.width) * padded;
    keys.resize(slots * each), values.resize(slots * each);
    for (int k = 0; k < 4; k++) {
      canons[k] = weights[k], channels[k] = sizes[k];
      if (!canons[k]) continue;
      taps[k] = taps_of(b, weights[k], sizes[k]);
      past[k].resize(static_cast<size_t>(slots) * (b.kernel - 1) * sizes[k]);
    }
  }
};

// x (n, C) through a Canon layer, in place
static void canon_step(const Block& b, Memory& m, int which, const std::vector<Slot>& slots, float* x) {
  if (!m.canons[which]) return;
  const int c_ = m.channels[which], reach = b.kernel - 1;
  const float* w = m.taps[which].data();
  std::vector<float> y(c_);
  for (size_t i = 0; i < slots.size(); i++) {
    float *row = x + i * c_, *past = m.past[which].data() + static_cast<int64_t>(slots[i].place) * reach * c_;
    const int known = slots[i].position < reach ? slots[i].position : reach;
    for (int c = 0; c < c_; c++) y[c] = w[c] * row[c];
    for (int back = 1; back <= known; back++)
      for (int c = 0; c < c_; c++) y[c] += w[back * c_ + c] * past[(back - 1) * c_ + c];
    if (reach) {
      std::memmove(past + c_, past, sizeof(float) * (reach - 1) * c_);
      std::memcpy(past, row, sizeof(float) * c_);
    }
    std::memcpy(row, y.data(), sizeof(float) * c_);
  }
}

static void rotate(const Block& b, float* x, int position) {
  const float *cos = b.cos + static_cast<int64_t>(position) * b.rotary_half, *sin = b.sin + static_cast<int64_t>(position) * b.rotary_half;
  const int half = b.rotary_half;
  for (int c = 0; c < half; c++) {
    float first = x[c], second = x[c + half];
    x[c] = first * cos[c] - second * sin[c], x[c + half] = second * cos[c] + first * sin[c];
  }
}

// one query over keys 0..last of its head: keys (capacity / LANES, d, LANES), values (capacity, d); D: its width, 0 for one known at run time
template <int D>
static void attend(const float* q, const float* keys, const float* values, int own, int last, float* scores, float* out) {
  const int d = D ? D : own, end = floor_to_vector(last + 1);
  const float scale = 1.f / std::sqrt(static_cast<float>(own));
  const ivec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  vec tops = all(-INFINITY), totals = all(0.f);
  for (int j = 0; j < end; j += LANES) {
    vec a = all(0.f), b = all(0.f);
    const float* block = keys + static_cast<int64_t>(j) * d;
    int c = 0;
    for (; c + 2 <= d; c += 2) {
      a += all(q[c]) * load(block + c * LANES);
      b += all(q[c + 1]) * load(block + (c + 1) * LANES);
    }
    for (; c < d; c++) a += all(q[c]) * load(block + c * LANES);
    vec each = (a + b) * scale;
    if (j + LANES > last + 1) each = lanes + j <= last ? each : all(-INFINITY);
    tops = each > tops ? each : tops;
    store(scores + j, each);
  }
  const float top = max_of(tops);
  for (int j = 0; j < end; j += LANES) {
    vec each = exp_(load(scores + j) - top);
    if (j + LANES > last + 1) each = lanes + j <= last ? each : all(0.f);
    totals += each;
    store(scores + j, each);
  }
  const float inverse = 1.f / sum_of(totals);
  if constexpr (D > 0) {
    constexpr int EACH = D < LANES ? D : LANES, PARTS = D / EACH, CHAINS = PARTS > 2 ? 2 : 4;
    typedef typename Part<EACH>::type part;
    part sums[CHAINS][PARTS] = {};
    const part* rows = reinterpret_cast<const part*>(values);
    int j = 0;
    for (; j + CHAINS <= last + 1; j += CHAINS)
      for (int k = 0; k < CHAINS; k++)
        for (int p = 0; p < PARTS; p++) sums[k][p] += scores[j + k] * rows[(j + k) * PARTS + p];
    for (; j <= last; j++)
      for (int p = 0; p < PARTS; p++) sums[0][p] += scores[j] * rows[j * PARTS + p];
    for (int p = 0; p < PARTS; p++) {
      for (int k = 1; k < CHAINS; k++) sums[0][p] += sums[k][p];
      reinterpret_cast<part*>(out)[p] = sums[0][p] * inverse;
    }
  } else {
    for (int c = 0; c < d; c++) out[c] = 0;
    for (int j = 0; j <= last; j++)
      for (int c = 0; c < d; c++) out[c] += scores[j] * values[j * d + c];
    for (int c = 0; c < d; c++) out[c] *= inverse;
  }
}

// mixed (n, D) from qkv (n, 3, D), whose keys and values are remembered
static void attention_step(const Block& b, Memory& m, const std::vector<Slot>& slots, int padded, float* qkv, float* scores,
                           float* mixed) {
  const int own = b.width / b.heads;
  for (size_t i = 0; i < slots.size(); i++) {
    const int t = slots[i].position;
    float *row = qkv + i * 3 * b.width, *keys = m.keys.data() + slots[i].place * m.each, *values = m.values.data() + slots[i].place * m.each;
    for (int h = 0; h < b.heads; h++) {
      float *q = row + h * own, *k = q + b.width, *v = k + b.width;
      if (b.cos && h < b.rotary_heads) rotate(b, q, t), rotate(b, k, t);
      float *head_keys = keys + static_cast<int64_t>(h) * own * padded, *head_values = values + static_cast<int64_t>(h) * own * padded;
      float* block = head_keys + static_cast<int64_t>(t / LANES) * own * LANES + t % LANES;
      for (int c = 0; c < own; c++) block[c * LANES] = k[c];
      std::memcpy(head_values + static_cast<int64_t>(t) * own, v, sizeof(float) * own);
      float* out = mixed + i * b.width + h * own;
      if (own == 8) attend<8>(q, head_keys, head_values, own, t, scores, out);
      else if (own == 16) attend<16>(q, head_keys, head_values, own, t, scores, out);
      else if (own == 32) attend<32>(q, head_keys, head_values, own, t, scores, out);
      else if (own == 64) attend<64>(q, head_keys, head_values, own, t, scores, out);
      else attend<0>(q, head_keys, head_values, own, t, scores, out);
    }
  }
}

// the index that a uniform number draws from the distribution of the logits, which are overwritten
static int64_t sample(float* logits, int vocab, float temperature, float draw) {
  int best = 0;
  for (int v = 1; v < vocab; v++)
    if (logits[v] > logits[best]) best = v;
  if (temperature == 0) return best;
  const float top = logits[best], inverse = 1.f / temperature;
  int v = 0;
  for (; v + LANES <= vocab; v += LANES) store(logits + v, exp_((load(logits + v) - top) * inverse));
  for (; v < vocab; v++) logits[v] = exp_((logits[v] - top) * inverse);
  double total = 0, seen = 0;
  for (v = 0; v < vocab; v++) total += logits[v];
  const double target = draw * total;
  for (v = 0; v < vocab - 1; v++) {
    seen += logits[v];
    if (!(seen < target)) break;
  }
  return v;
}

struct Work {  // arrays for `slots` tokens
  std::vector<float> x, x1, h, qkv, mixed, u, act, stats, logits, scores;
  void resize(const Generation& g, int padded) {
    const Block& b = *g.blocks;
    const size_t n = g.slots, d = b.width;
    x.resize(n * d), x1.resize(n * d), h.resize(n * d), qkv.resize(3 * n * d), mixed.resize(n * d), stats.resize(2 * n);
    u.resize(n * b.hidden * (b.gated ? 2 : 1)), act.resize(n * b.hidden), logits.resize(n * g.vocab), scores.resize(padded);
  }
};

static void block_step(const Block& whole, Memory& m, const std::vector<Slot>& slots, int padded, Work& w) {
  Block b = whole;
  const int n = static_cast<int>(slots.size()), d = b.width, f = b.hidden, up = b.gated ? 2 * f : f;
  b.rows = n, b.length = 1;
  norm_forward(b, w.x.data(), b.norm1, b.norm1_bias, w.h.data(), w.stats.data());
  canon_step(b, m, 0, slots, w.h.data());
  linear(w.h.data(), b.qkv, b.qkv_bias, nullptr, w.qkv.data(), n, 3 * d, d, false);
  canon_step(b, m, 1, slots, w.qkv.data());
  attention_step(b, m, slots, padded, w.qkv.data(), w.scores.data(), w.mixed.data());
  linear(w.mixed.data(), b.out, b.out_bias, w.x.data(), w.x1.data(), n, d, d, false);
  norm_forward(b, w.x1.data(), b.norm2, b.norm2_bias, w.h.data(), w.stats.data());
  canon_step(b, m, 2, slots, w.h.data());
  linear(w.h.data(), b.up, b.up_bias, nullptr, w.u.data(), n, up, d, false);
  canon_step(b, m, 3, slots, w.u.data());
  activate(b, w.u.data(), w.act.data());
  linear(w.act.data(), b.down, b.down_bias, w.x1.data(), w.x.data(), n, d, f, false);
}

// embeddings of the tokens at the slots' positions, through all blocks, to w.x
static void hidden_step(const Generation& g, std::vector<Memory>& memories, const std::vector<Slot>& slots, int padded, Work& w) {
  const int d = g.blocks->width;
  for (size_t i = 0; i < slots.size(); i++) {
    const Slot& s = slots[i];
    const float* row = g.embed + g.tokens[static_cast<int64_t>(s.sequence) * (g.capacity + 1) + s.position] * d;
    float* to = w.x.data() + i * d;
    for (int c = 0; c < d; c++) to[c] = row[c] + (g.positions ? g.positions[static_cast<int64_t>(s.position) * d + c] : 0.f);
  }
  for (int layer = 0; layer < g.layers; layer++) block_step(g.blocks[layer], memories[layer], slots, padded, w);
}

// draw a token for every slot that is past its prompt, and return which slots have ended
static std::vector<bool> draw_step(const Generation& g, const std::vector<Slot>& slots, Work& w) {
  Block b = *g.blocks;
  const int d = b.width;
  std::vector<int> asked;
  for (size_t i = 0; i < slots.size(); i++)
    if (slots[i].position + 1 >= g.prompts[slots[i].sequence]) {
      if (asked.size() < i) std::memcpy(w.x.data() + asked.size() * d, w.x.data() + i * d, sizeof(float) * d);
      asked.push_back(static_cast<int>(i));
    }
  std::vector<bool> ended(slots.size(), false);
  if (asked.empty()) return ended;
  b.rows = static_cast<int>(asked.size()), b.length = 1;
  norm_forward(b, w.x.data(), g.norm, g.norm_bias, w.h.data(), w.stats.data());
  product_nt(w.h.data(), g.head, w.logits.data(), b.rows, g.vocab, d, 0.f, false);
  for (size_t k = 0; k < asked.size(); k++) {
    const Slot& s = slots[asked[k]];
    int& count = g.counts[s.sequence];
    const float draw = g.draws[static_cast<int64_t>(s.sequence) * g.budget + count];
    const int64_t token = sample(w.logits.data() + k * g.vocab, g.vocab, g.temperature, draw);
    g.tokens[static_cast<int64_t>(s.sequence) * (g.capacity + 1) + s.position + 1] = token;
    ended[asked[k]] = ++count == g.budget || token == g.eos;
  }
  return ended;
}

extern "C" void generate_tokens(const Generation* generation) {
  const Generation& g = *generation;
  const int most = omp_get_max_threads(), threads = most < g.sequences ? most : g.sequences, padded = floor_to_vector(g.capacity);
#pragma omp parallel num_threads(threads)
  {
    Work work;
    std::vector<Memory> memories(g.layers);
    work.resize(g, padded);
    for (int layer = 0; layer < g.layers; layer++) memories[layer].resize(g.blocks[layer], g.slots, padded);
    std::vector<Slot> slots;
    std::vector<int> free;
    for (int place = g.slots - 1; place >= 0; place--) free.push_back(place);
    int next = omp_get_thread_num();
    const int team = omp_get_num_threads();  // may be fewer than asked for
    while (true) {
      for (; next < g.sequences && !free.empty(); next += team) {
        slots.push_back({free.back(), next, 0});
        free.pop_back();
      }
      if (slots.empty()) break;
      hidden_step(g, memories, slots, padded, work);
      const std::vector<bool> ended = draw_step(g, slots, work);
      std::vector<Slot> left;
      for (size_t i = 0; i < slots.size(); i++) {
        if (ended[i]) free.push_back(slots[i].place);
        else left.push_back({slots[i].place, slots[i].sequence, slots[i].position + 1});
      }
      slots = left;
    }
  }
}
