// The summed cross-entropy of a whole decoder and its gradients: embedding, blocks, final norm, output embedding, loss.
//
// Rows of a batch do not see each other, so that a few at a time go through the whole model, forward and backward, while what
// they leave is in the cache; each thread takes its own, and adds to its own gradients.
#include <omp.h>

#include "block.h"

// Null positions: none are added. head is the embedding where the two are tied. targets below 0 are not counted.
struct Model {
  int layers, vocab, position_rows, rows_at_a_time;
  const int64_t *tokens, *targets, *index;  // index (position_rows, length): position of each token in its document
  const float *embed, *positions, *norm, *norm_bias, *head;
  const Block* blocks;  // of the whole batch
};

// All lie in one array of `size` numbers that begins at `base`, and are added to.
struct ModelGradients {
  float *embed, *positions, *norm, *norm_bias, *head;
  const Gradients* blocks;
  float* base;
  int64_t size;
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

static double model_forward(const Model& m, const ModelSaved& s) {
  const Block& b = *m.blocks;
  const int n = b.rows * b.length, d = b.width;
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

// how many numbers model_backward works in
static int64_t work_size(const Block& b, int64_t stream) {
  const int64_t up = b.gated ? 2 * b.hidden : b.hidden, wide = 3 * b.width > up ? 3 * b.width : up;
  return 2 * stream + static_cast<int64_t>(b.rows) * b.length * (2 * wide + b.width);
}

// gradients of `scale` times the loss
static void model_backward(const Model& m, const ModelSaved& s, const ModelGradients& g, float scale, float* work) {
  const Block& b = *m.blocks;
  const int n = b.rows * b.length, d = b.width;
  float *dx = work, *dy = work + s.stream, *rest = work + 2 * s.stream;
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
  for (int i = 0; i < n; i++) {
    const float* grad = dy + static_cast<int64_t>(i) * d;
    float* row = g.embed + m.tokens[i] * d;
    for (int c = 0; c < d; c++) row[c] += grad[c];
    if (!m.positions) continue;
    float* place = g.positions + m.index[m.position_rows == 1 ? i % b.length : i] * d;
    for (int c = 0; c < d; c++) place[c] += grad[c];
  }
}

// The model for `rows` rows of the batch from `row` on; `blocks` holds its blocks.
static Model part_of(const Model& whole, int row, int rows, std::vector<Block>& blocks) {
  Model m = whole;
  blocks.assign(whole.blocks, whole.blocks + whole.layers);
  const int64_t tokens = static_cast<int64_t>(row) * blocks[0].length;
  for (Block& b : blocks) {
    b.rows = rows;
    if (b.first_rows > 1) b.first_rows = rows > 1 ? rows : 1, b.first += tokens;
    if (b.cos && b.angle_rows > 1) b.angle_rows = rows > 1 ? rows : 1, b.cos += tokens * b.rotary_half, b.sin += tokens * b.rotary_half;
  }
  m.tokens += tokens, m.targets += tokens, m.blocks = blocks.data();
  if (m.position_rows > 1) m.position_rows = rows > 1 ? rows : 1, m.index += tokens;
  return m;
}

// The same gradients in another array; `blocks` holds those of the blocks.
static ModelGradients moved(const ModelGradients& g, float* base, int layers, std::vector<Gradients>& blocks) {
  auto move = [&](float* p) { return p ? base + (p - g.base) : nullptr; };
  blocks.assign(g.blocks, g.blocks + layers);
  for (Gradients& each : blocks) {
    float** pointers = reinterpret_cast<float**>(&each);
    for (size_t k = 0; k < sizeof(Gradients) / sizeof(float*); k++) pointers[k] = move(pointers[k]);
  }
  return {move(g.embed), move(g.positions), move(g.norm), move(g.norm_bias), move(g.head), blocks.data(), base, g.size};
}

// the summed loss; gradients of `scale` times it are added
extern "C" double model_loss(const Model* model, const ModelGradients* into, float scale) {
  const int rows = model->blocks->rows, parts = (rows + model->rows_at_a_time - 1) / model->rows_at_a_time;
  const int most = omp_get_max_threads(), threads = most < parts ? most : parts;
  static thread_local std::vector<std::vector<float>> kept;
  std::vector<std::vector<float>>& sums = kept;  // by reference: in another thread the name means another variable
  sums.resize(threads);
  double loss = 0;
#pragma omp parallel num_threads(threads) reduction(+ : loss)
  {
    static thread_local std::vector<float> saved, work;
    static thread_local std::vector<Block> blocks;
    std::vector<Gradients> own_blocks;
    const int thread = omp_get_thread_num(), team = omp_get_num_threads();  // may be fewer than asked for
    ModelGradients own = *into;
    if (thread > 0) {
      sums[thread].assign(into->size, 0.f);
      own = moved(*into, sums[thread].data(), model->layers, own_blocks);
    }
    for (int part = thread; part < parts; part += team) {
      const int begin = static_cast<int>(static_cast<int64_t>(rows) * part / parts);
      const int end = static_cast<int>(static_cast<int64_t>(rows) * (part + 1) / parts);
      const Model m = part_of(*model, begin, end - begin, blocks);
      const int64_t size = ModelSaved(m, nullptr).total;
      if (static_cast<int64_t>(saved.size()) < size) saved.resize(size);
      const ModelSaved s(m, saved.data());
      const int64_t needed = work_size(*m.blocks, s.stream);
      if (static_cast<int64_t>(work.size()) < needed) work.resize(needed);
      loss += model_forward(m, s);
      model_backward(m, s, own, scale, work.data());
    }
#pragma omp barrier
    if (team > 1) {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < into->size; i++)
        for (int t = 1; t < team; t++) into->base[i] += sums[t][i];
    }
  }
  return loss;
}
