// Matrix products by the BLAS inside libtorch, in fp32 or with operands rounded to bf16 and fp32 sums.
#include "kernels.h"

#include <chrono>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

static inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // NaN, else to even
}

static void round_to_bf16(const float* x, uint16_t* y, int64_t n) {
  const int64_t whole = n / LANES * LANES;
#pragma omp parallel for schedule(static) if (n > 65536)
  for (int64_t i = 0; i < whole; i += LANES) {
#ifdef __AVX512BF16__
    __m256bh part = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
    std::memcpy(y + i, &part, 2 * LANES);
#else
    for (int k = 0; k < LANES; k++) y[i + k] = to_bf16(x[i + k]);
#endif
  }
  for (int64_t i = whole; i < n; i++) y[i] = to_bf16(x[i]);
}

static uint16_t* rounded(const float* x, int64_t n, int slot) {
  static thread_local std::vector<uint16_t> buffers[2];
  auto& buffer = buffers[slot];
  if (static_cast<int64_t>(buffer.size()) < n) buffer.resize(n);
  round_to_bf16(x, buffer.data(), n);
  return buffer.data();
}

// the same numbers, which fp32 holds too
static const float* rounded_floats(const float* x, int64_t n, int slot) {
  static thread_local std::vector<float> buffers[2];
  auto& buffer = buffers[slot];
  if (static_cast<int64_t>(buffer.size()) < n) buffer.resize(n);
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = static_cast<uint32_t>(to_bf16(x[i])) << 16;
    std::memcpy(&buffer[i], &bits, 4);
  }
  return buffer.data();
}

// Whether this machine multiplies bf16 numbers faster than fp32 ones, by one timed product: without instructions for it the
// library's product is hundreds of times slower.
static bool bf16_is_fast() {
#ifdef __AVX512BF16__
  static const bool fast = [] {
    if (!cblas_gemm_bf16bf16f32) return false;
    const int n = 128;
    std::vector<float> a(n * n, 1.f), y(n * n);
    std::vector<uint16_t> half(n * n, to_bf16(1.f));
    const float one = 1.f, zero = 0.f;
    double times[2];
    for (int turn = 0; turn < 4; turn++) {  // the first two warm up
      auto begin = std::chrono::steady_clock::now();
      if (turn % 2)
        cblas_gemm_bf16bf16f32(101, 111, 111, n, n, n, 1.f, half.data(), n, half.data(), n, 0.f, y.data(), n);
      else
        sgemm_("N", "N", &n, &n, &n, &one, a.data(), &n, a.data(), &n, &zero, y.data(), &n);
      times[turn % 2] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    return times[1] < times[0];
  }();
  return fast;
#else
  return false;
#endif
}

static void product(bool ta, bool tb, const float* a, const float* b, float* y, int n, int m, int k, int lda, int ldb,
                    float beta, bool bf16) {
  const int NO = 111, TRANS = 112, ROW_MAJOR = 101;
  if (bf16 && bf16_is_fast()) {
    int64_t size_a = static_cast<int64_t>(n) * k, size_b = static_cast<int64_t>(m) * k;
    uint16_t *ra = rounded(a, size_a, 0), *rb = rounded(b, size_b, 1);
    cblas_gemm_bf16bf16f32(ROW_MAJOR, ta ? TRANS : NO, tb ? TRANS : NO, n, m, k, 1.f, ra, lda, rb, ldb, beta, y, m);
    return;
  }
  if (bf16) a = rounded_floats(a, static_cast<int64_t>(n) * k, 0), b = rounded_floats(b, static_cast<int64_t>(m) * k, 1);
  const float one = 1.f;  // sgemm_ is column-major: y^T = b^T a^T
  sgemm_(tb ? "T" : "N", ta ? "T" : "N", &m, &n, &k, &one, b, &ldb, a, &lda, &beta, y, &m);
}

void product_nt(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16) {
  product(false, true, x, w, y, n, m, k, k, k, beta, bf16);
}
void product_nn(const float* x, const float* w, float* y, int n, int m, int k, float beta, bool bf16) {
  product(false, false, x, w, y, n, m, k, k, m, beta, bf16);
}
void product_tn(const float* a, const float* b, float* y, int n, int m, int k, bool bf16) {
  product(true, false, a, b, y, m, k, n, m, k, 1.f, bf16);
}

void column_sums(const float* a, float* sums, int n, int m) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < m; j++) sums[j] += a[static_cast<int64_t>(i) * m + j];
}
