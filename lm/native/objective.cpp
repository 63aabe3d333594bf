// The summed cross-entropy of a whole decoder and its gradients: embedding, blocks, final norm, output embedding, loss.
#include "block.h"

// Null positions: none are added. head is the embedding where the two are tied. targets below 0 are not counted.
struct Model {
  int layers, vocab, position_rows;
  const int64_t *tokens, *targets, *index;  // index (position_rows, length): position of each token in its document
  const float *embed, *positions, *norm, *norm_bias, *head;
  const Block* blocks;
};

struct ModelGradients {
  float *embed, *positions, *norm, *norm_bias, *head;
  const Gradients* blocks;
};

// What the backward pass needs, cut from one array: inputs of the blocks and of the final norm, what each block saves, and
// the gradient of the logits.
struct ModelSaved {
  int64_t stream, each, total;
  float *base, *blocks, *stats, *normed, *dlogits;
  ModelSaved(const Model& m, float* from) : base(from) {
    const Block& b = *m.blocks;
    int64_t n = static_cast<int64_t>(b.rows) * b.length;
    stream = (n * b.width + LANES - 1) / LANES * LANES, each = block_saved_size(&b);
    blocks = base + (m.layers + 1) * stream, stats = blocks + m.layers * each;
    normed = stats + (2 * n + LANES) / LANES * LANES, dlogits = normed + stream;
    total = dlogits + n * m.vocab - base;
  }
  float* input(int layer) const { return base + layer * stream; }
};

extern "C" int64_t model_saved_size(const Model* m) { return ModelSaved(*m, nullptr).total; }

// loss and, in place of the logits, their gradient
static double cross_entropy(float* logits, const int64_t* targets, int n, int vocab) {
  double loss = 0;
#pragma omp parallel for schedule(static) reduction(+ : loss)
  for (int i = 0; i < n; i++) {
    float *row = logits + static_cast<int64_t>(i) * vocab, total = 0;
    if (targets[i] < 0) {
      std::memset(row, 0, sizeof(float) * vocab);
      continue;
    }
    int v = 0;
    vec tops = all(-INFINITY), totals = all(0.f);
    for (; v + LANES <= vocab; v += LANES) {
      vec each = load(row + v);
      tops = each > tops ? each : tops;
    }
    float top = max_of(tops);
    for (int rest = v; rest < vocab; rest++) top = row[rest] > top ? row[rest] : top;
    const float right = row[targets[i]];
    for (v = 0; v + LANES <= vocab; v += LANES) {
      vec each = exp_(load(row + v) - top);
      totals += each;
      store(row + v, each);
    }
    total = sum_of(totals);
    for (; v < vocab; v++) row[v] = exp_(row[v] - top), total += row[v];
    loss += static_cast<double>(top) + std::log(total) - right;
    const float inverse = 1.f / total;
    for (v = 0; v < vocab; v++) row[v] *= inverse;
    row[targets[i]] -= 1.f;
  }
  return loss;
}

extern "C" double model_forward(const Model* model, float* saved) {
  const Model& m = *model;
  const Block& b = *m.blocks;
  const int n = b.rows * b.length, d = b.width;
  ModelSaved s(m, saved);
#pragma omp parallel for schedule(static)
  for (int i = 0; i < n; i++) {
    const float* row = m.embed + m.tokens[i] * d;
    float* to = s.input(0) + static_cast<int64_t>(i) * d;
    std::memcpy(to, row, sizeof(float) * d);
    if (m.positions) {
      const float* place = m.positions + m.index[m.position_rows == 1 ? i % b.length : i] * d;
      for (int c = 0; c < d; c++) to[c] += place[c];
    }
  }
  for (int layer = 0; layer < m.layers; layer++)
    block_forward(m.blocks + layer, s.input(layer), s.input(layer + 1), s.blocks + layer * s.each);
  norm_forward(b, s.input(m.layers), m.norm, m.norm_bias, s.normed, s.stats);
  product_nt(s.normed, m.head, s.dlogits, n, m.vocab, d, 0.f, b.bf16);
  return cross_entropy(s.dlogits, m.targets, n, m.vocab);
}

// gradients of `scale` times the loss; `work` holds what block_backward needs, and two streams more
extern "C" void model_backward(const Model* model, const float* saved, const ModelGradients* into, float scale, float* work) {
  const Model& m = *model;
  const ModelGradients& g = *into;
  const Block& b = *m.blocks;
  const int n = b.rows * b.length, d = b.width;
  ModelSaved s(m, const_cast<float*>(saved));
  float *dx = work, *dy = work + s.stream, *rest = work + 2 * s.stream;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < static_cast<int64_t>(n) * m.vocab; i++) s.dlogits[i] *= scale;
  product_tn(s.dlogits, s.normed, g.head, n, m.vocab, d, b.bf16);
  product_nn(s.dlogits, m.head, rest, n, d, m.vocab, 0.f, b.bf16);
  std::memset(dy, 0, sizeof(float) * n * d);
  norm_backward(b, s.input(m.layers), m.norm, s.stats, rest, dy, g.norm, g.norm_bias);
  for (int layer = m.layers - 1; layer >= 0; layer--) {
    block_backward(m.blocks + layer, s.input(layer), dy, s.blocks + layer * s.each, g.blocks + layer, dx, rest);
    float* swap = dx;
    dx = dy, dy = swap;
  }
  if (g.embed != g.head) std::memset(g.embed, 0, sizeof(float) * m.vocab * d);
  if (m.positions)
    for (int i = 0; i < n; i++) {
      float* place = g.positions + m.index[m.position_rows == 1 ? i % b.length : i] * d;
      for (int c = 0; c < d; c++) place[c] += dy[static_cast<int64_t>(i) * d + c];
    }
  for (int i = 0; i < n; i++) {
    float* row = g.embed + m.tokens[i] * d;
    for (int c = 0; c < d; c++) row[c] += dy[static_cast<int64_t>(i) * d + c];
  }
}
