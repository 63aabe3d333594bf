// Gradient clipping and AdamW over many small tensors in one call each.
#include "kernels.h"

// the sum of the squares of all gradients
extern "C" double squared_norm(const float* const* grads, const int64_t* sizes, int count) {
  double total = 0;
  for (int k = 0; k < count; k++) {
    const float* g = grads[k];
    for (int64_t from = 0; from < sizes[k]; from += 4096) {  // short sums in fp32, their total in fp64
      int64_t to = from + 4096 < sizes[k] ? from + 4096 : sizes[k];
      float part = 0;
      for (int64_t i = from; i < to; i++) part += g[i] * g[i];
      total += part;
    }
  }
  return total;
}

// Loshchilov and Hutter 2019, as torch.optim.AdamW: gradients are multiplied by `factor` first; correction1 and 2 are
// 1 - beta^step
extern "C" void adamw(float* const* params, const float* const* grads, float* const* means, float* const* squares,
                      const int64_t* sizes, const float* decays, int count, float factor, float lr, float beta1, float beta2,
                      float eps, double correction1, double correction2) {
  const float step = static_cast<float>(lr / correction1), root = static_cast<float>(1 / std::sqrt(correction2));
#pragma omp parallel for schedule(dynamic) if (count > 1 && sizes[0] > 4096)
  for (int k = 0; k < count; k++) {
    float *p = params[k], *m = means[k], *v = squares[k];
    const float *g = grads[k], keep = 1.f - lr * decays[k];
    for (int64_t i = 0; i < sizes[k]; i++) {
      float each = g[i] * factor;
      m[i] = beta1 * m[i] + (1 - beta1) * each;
      v[i] = beta2 * v[i] + (1 - beta2) * each * each;
      p[i] = p[i] * keep - step * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  }
}
