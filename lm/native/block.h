// Sizes and pointers of blocks and models, as block.py and objective.py fill them, and what the files here call of each other.
#pragma once
#include "kernels.h"

enum Norm { LAYER_NORM, RMS_NORM };
enum Activation { GELU, SILU, RELU2 };

// Sizes and pointers; block.py mirrors the order. Null pointers: no such parameter or layer.
struct Block {
  int rows, length, width, heads, hidden, kernel;
  int norm, activation, gated, bf16, canon_residual;
  int rotary_half, rotary_heads, angle_rows, first_rows;
  float eps;
  const float *norm1, *norm1_bias, *canon_a, *qkv, *qkv_bias, *canon_b, *out, *out_bias;
  const float *norm2, *norm2_bias, *canon_c, *up, *up_bias, *canon_d, *down, *down_bias;
  const float *cos, *sin;
  const int* first;  // (first_rows, length): where the document of each token starts
};

// What the backward pass needs of the forward one, and workspace, cut from one array.
struct Saved {
  float *stats1, *h1, *h1c, *qkv0, *qkv, *mixed, *stats, *x1, *stats2, *h2, *h2c, *u0, *u, *act;
  int64_t size;
  Saved(const Block& b, float* base) {
    int64_t n = static_cast<int64_t>(b.rows) * b.length, d = b.width, f = b.hidden, up = b.gated ? 2 * f : f, at = 0;
    auto take = [&](int64_t count) {
      float* p = base ? base + at : nullptr;
      at += (count + LANES - 1) / LANES * LANES;
      return p;
    };
    stats1 = take(2 * n), h1 = take(n * d), h1c = b.canon_a ? take(n * d) : h1;
    qkv = take(3 * n * d), qkv0 = b.canon_b ? take(3 * n * d) : qkv;
    mixed = take(n * d), stats = take(2 * n * b.heads), x1 = take(n * d);
    stats2 = take(2 * n), h2 = take(n * d), h2c = b.canon_c ? take(n * d) : h2;
    u = take(n * up), u0 = b.canon_d ? take(n * up) : u, act = take(n * f);
    size = at;
  }
};

// Gradients of the parameters, in the order of Block's pointers, which are added to; null: not wanted or not there.
struct Gradients {
  float *norm1, *norm1_bias, *canon_a, *qkv, *qkv_bias, *canon_b, *out, *out_bias;
  float *norm2, *norm2_bias, *canon_c, *up, *up_bias, *canon_d, *down, *down_bias;
};

void attention_forward(const Block& b, const float* qkv, float* out, float* stats);
void attention_backward(const Block& b, const float* qkv, const float* out, const float* stats, const float* grad, float* dqkv);
void norm_forward(const Block& b, const float* x, const float* gain, const float* bias, float* y, float* stats);
// dx, dgain and dbias are added to
void norm_backward(const Block& b, const float* x, const float* gain, const float* stats, const float* dy, float* dx,
                   float* dgain, float* dbias);
// taps (kernel, C) of a Canon layer, own token first, with the residual in them
std::vector<float> taps_of(const Block& b, const float* weight, int channels);
void activate(const Block& b, const float* u, float* act);
// y (n, m) = x (n, k) w^T + bias + base, where null is 0
void linear(const float* x, const float* w, const float* bias, const float* base, float* y, int n, int m, int k, bool bf16);
extern "C" int64_t block_saved_size(const Block* b);
extern "C" void block_forward(const Block* block, const float* x, float* y, float* saved);
extern "C" void block_backward(const Block* block, const float* x, const float* dy, const float* saved, const Gradients* into,
                               float* dx, float* work);
