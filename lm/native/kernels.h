// Vectors, element-wise functions and matrix products that the kernels of this folder share. All arrays are fp32, row-major.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*);
// MKL's product of bf16 operands with fp32 sums; absent where libtorch was built without MKL
extern "C" void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const uint16_t*, int, const uint16_t*, int, float,
                                       float*, int) __attribute__((weak));

constexpr int LANES = 16;
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));

static inline vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
static inline void store(float* p, vec x) { *reinterpret_cast<vec*>(p) = x; }
static inline vec all(float x) { return x - (vec){}; }

// exp(x), relative error below 2e-7 between -87 and 88: 2^n times a polynomial on [-ln2/2, ln2/2]; 0 far below, NaN stays NaN
static inline float exp_(float x) {
  float z = x * 1.44269504088896341f;
  z = z < -126.f ? -126.f : z > 127.f ? 127.f : z;
  float n = std::nearbyint(z);
  float r = x < -87.f ? 0.f : x > 88.f ? 0.f : x - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

// the same for a vector
static inline vec exp_(vec x) {
  vec z = x * 1.44269504088896341f;
  z = z < -126.f ? all(-126.f) : z > 127.f ? all(127.f) : z;
  ivec n = __builtin_convertvector(z + (z < 0.f ? all(-.5f) : all(.5f)), ivec);
  vec whole = __builtin_convertvector(n, vec);
  vec r = x < -87.f ? all(0.f) : x > 88.f ? all(0.f) : x - whole * 0.693359375f - whole * -2.12194440e-4f;
  vec p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  ivec bits = (n + 127) << 23;
  return p * (vec)bits;
}
static inline float sum_of(vec x) {
  float total = 0;
  for (int k = 0; k < LANES; k++) total += x[k];
  return total;
}
static inline float max_of(vec x) {
  float top = x[0];
  for (int k = 1; k < LANES; k++) top = x[k] > top ? x[k] : top;
  return top;
}

static inline float sigmoid(float x) { return 1.f / (1.f + exp_(-x)); }

// y (n, m) = x (n, k) w^T + beta y, where w is (m, k)
void product_nt(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16);
// y (n, m) = x (n, k) w + beta y, where w is (k, m)
void product_nn(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16);
// y (m, k) = a (n, m)^T b (n, k)
void product_tn(const float* a, const float* b, float* y, int n, int m, int k, bool bf16);
// sums (m) of the columns of a (n, m)
void column_sums(const float* a, float* sums, int n, int m);
