// Vectors, element-wise functions and matrix products that the kernels of this folder share. All arrays are fp32, row-major.
#pragma once
#ifdef __AVX512F__
#include <immintrin.h>
#endif
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

// Reading and writing of whole vectors, and of the last numbers of a row, which fill no whole one; 0 stands for the rest.
struct Whole {
  vec get(const float* p) const { return load(p); }
  void put(float* p, vec x) const { store(p, x); }
};
struct Some {
  int n;
#ifdef __AVX512F__
  vec get(const float* p) const { return (vec)_mm512_maskz_loadu_ps((1u << n) - 1, p); }
  void put(float* p, vec x) const { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)x); }
#else
  vec get(const float* p) const {
    vec x = {};
    for (int k = 0; k < n; k++) x[k] = p[k];
    return x;
  }
  void put(float* p, vec x) const {
    for (int k = 0; k < n; k++) p[k] = x[k];
  }
#endif
};

// body(c, how) for the numbers c, c + 1, ... of a row of `count`, a vector at a time
template <class Body>
static inline void for_vectors(int count, Body body) {
  int c = 0;
  for (; c + LANES <= count; c += LANES) body(c, Whole{});
  if (c < count) body(c, Some{count - c});
}

// exp(x), relative error below 2e-7: 2^n times a polynomial on [-ln2/2, ln2/2]. 0 far below, infinity far above, NaN stays NaN.
// Written once for floats and once for vectors.
static inline vec nearest(vec x) {
#ifdef __AVX512F__
  return (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  return __builtin_convertvector(__builtin_convertvector(x + (x < 0.f ? all(-.5f) : all(.5f)), ivec), vec);
#endif
}
static inline float nearest(float x) { return std::nearbyint(x); }
static inline vec times_power_of_two(vec x, vec n) {  // n from -149 to 128
#ifdef __AVX512F__
  return (vec)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
  ivec half = __builtin_convertvector(n, ivec) >> 1, rest = __builtin_convertvector(n, ivec) - half;
  return x * (vec)((half + 127) << 23) * (vec)((rest + 127) << 23);
#endif
}
static inline float times_power_of_two(float x, float n) {
  int32_t whole = static_cast<int32_t>(n), parts[2] = {whole >> 1, whole - (whole >> 1)};
  float factors[2];
  for (int k = 0; k < 2; k++) parts[k] = (parts[k] + 127) << 23;
  std::memcpy(factors, parts, sizeof factors);
  return x * factors[0] * factors[1];
}

template <class T>
static inline T exp_of(T x, T least, T most) {
  x = x < least ? least : x;  // NaN compares false
  x = x > most ? most : x;
  T n = nearest(x * 1.44269504088896341f);
  T r = x - n * 0.693359375f - n * -2.12194440e-4f;
  T p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return times_power_of_two(p * r * r + r + 1.f, n);
}
static inline float exp_(float x) { return x == x ? exp_of(x, -103.f, 88.8f) : x; }
static inline vec exp_(vec x) { return exp_of(x, all(-103.f), all(88.8f)); }

typedef float half_vec __attribute__((vector_size(2 * LANES), aligned(4)));
typedef float quarter_vec __attribute__((vector_size(LANES), aligned(4)));
template <int EACH>
struct Part;  // a vector of EACH numbers
template <>
struct Part<8> {
  typedef half_vec type;
};
template <>
struct Part<16> {
  typedef vec type;
};
struct Halves { half_vec low, high; };
struct Quarters { quarter_vec low, high; };

static inline float sum_of(vec x) {
  Halves h;
  std::memcpy(&h, &x, sizeof x);
  half_vec eight = h.low + h.high;
  Quarters q;
  std::memcpy(&q, &eight, sizeof eight);
  quarter_vec four = q.low + q.high;
  return (four[0] + four[1]) + (four[2] + four[3]);
}
static inline float max_of(vec x) {
  Halves h;
  std::memcpy(&h, &x, sizeof x);
  half_vec eight = h.low > h.high ? h.low : h.high;
  Quarters q;
  std::memcpy(&q, &eight, sizeof eight);
  quarter_vec four = q.low > q.high ? q.low : q.high;
  float a = four[0] > four[1] ? four[0] : four[1], b = four[2] > four[3] ? four[2] : four[3];
  return a > b ? a : b;
}

static inline vec sigmoid(vec x) { return 1.f / (1.f + exp_(-x)); }

// y (n, m) = x (n, k) w^T + beta y, where w is (m, k)
void product_nt(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16);
// y (n, m) = x (n, k) w + beta y, where w is (k, m)
void product_nn(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16);
// y (m, k) += a (n, m)^T b (n, k)
void product_tn(const float* a, const float* b, float* y, int n, int m, int k, bool bf16);
// sums (m) += the sums of the columns of a (n, m)
void column_sums(const float* a, float* sums, int n, int m);
