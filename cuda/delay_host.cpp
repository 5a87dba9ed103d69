// Dense delay kernels on the CPU: h[k][e] = sum_m weight[e][m] * phi_k[e][m], and their gradients.
//
// An element e is one synapse (out * in of them), with M positions. Time is the slow axis of h: h[k] is a whole
// [out, in] matrix, as the products over time want it, and a vector holds neighbouring elements.
// Forward reads weight, position, width once and writes h once. Backward reads the gradient of h M times (from the
// cache after the first), takes five sums over k of each element and keeps nothing of the size of h.

// math.h and delay.h (the formulas) of this folder stand before this text.
#include <cstdint>
#include <vector>

namespace {

constexpr int LANES = 64;  // elements that are worked on together: a row of floats is four cache lines

template <typename Real>
struct Block {  // what LANES elements have at one m
  Real w[LANES], c[LANES], s[LANES], a[LANES];

  void load(const Real* weight, const Real* position, const Real* width, int64_t first, int count, int64_t M,
              int64_t m, int64_t K, Real base) {
    for (int l = 0; l < count; l++) {
      int64_t i = (first + l) * M + m;
      w[l] = weight[i];
      c[l] = position[i] + Real(K / 2);
      s[l] = width ? snn_abs(width[i]) + base : base;
      a[l] = Real(1) / (Real(2) * s[l] * s[l]);
    }
  }
};

template <Profile profile, typename Real>
void forward(const Real* weight, const Real* position, const Real* width, Real* h, int64_t n, int64_t M, int64_t K,
             Real base, int threads) {
  int64_t blocks = (n + LANES - 1) / LANES;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::vector<Real> raw(K * LANES);
#pragma omp for
    for (int64_t block = 0; block < blocks; block++) {
      int64_t first = block * LANES;
      int count = n - first < LANES ? n - first : LANES;
      for (int64_t m = 0; m < M; m++) {
        Block<Real> x;
        x.load(weight, position, width, first, count, M, m, K, base);
        Real sum[LANES], scale[LANES];
        for (int l = 0; l < count; l++) sum[l] = 0;
        for (int64_t k = 0; k < K; k++) {
          Real* row = raw.data() + k * LANES;
#pragma omp simd
          for (int l = 0; l < count; l++) {
            row[l] = tap<profile>(Real(k) - x.c[l], x.s[l], x.a[l]).r;
            sum[l] += row[l];
          }
        }
        for (int l = 0; l < count; l++) {
          scale[l] = height<profile>(x.w[l], sum[l]);
        }
        for (int64_t k = 0; k < K; k++) {
          const Real* row = raw.data() + k * LANES;
          Real* to = h + k * n + first;
          if (m == 0) {
#pragma omp simd
            for (int l = 0; l < count; l++) to[l] = scale[l] * row[l];
          } else {
#pragma omp simd
            for (int l = 0; l < count; l++) to[l] += scale[l] * row[l];
          }
        }
      }
    }
  }
}

template <Profile profile, bool wide, typename Real>
void backward(const Real* g, const Real* weight, const Real* position, const Real* width, Real* g_weight,
              Real* g_position, Real* g_width, int64_t n, int64_t M, int64_t K, Real base, int threads) {
  int64_t blocks = (n + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t first = block * LANES;
    int count = n - first < LANES ? n - first : LANES;
    for (int64_t m = 0; m < M; m++) {
      Block<Real> x;
      x.load(weight, position, width, first, count, M, m, K, base);
      Real r0[LANES], q0[LANES], z0[LANES], gr[LANES], gq[LANES], gz[LANES];  // sums of r, q, z, G r, G q, G z
      for (int l = 0; l < count; l++) r0[l] = q0[l] = z0[l] = gr[l] = gq[l] = gz[l] = 0;
      for (int64_t k = 0; k < K; k++) {
        const Real* row = g + k * n + first;
#pragma omp simd
        for (int l = 0; l < count; l++) {
          Tap<Real> t = tap<profile>(Real(k) - x.c[l], x.s[l], x.a[l]);
          r0[l] += t.r, q0[l] += t.q;
          gr[l] += row[l] * t.r, gq[l] += row[l] * t.q;
          if (wide) z0[l] += t.z, gz[l] += row[l] * t.z;
        }
      }
      for (int l = 0; l < count; l++) {
        int64_t i = (first + l) * M + m;
        Sums<Real> sums = {r0[l], q0[l], z0[l], gr[l], gq[l], gz[l]};
        Gradients<Real> found = gradients<profile>(x.w[l], x.s[l], wide ? width[i] : Real(0), sums);
        g_weight[i] = found.weight, g_position[i] = found.position;
        if (wide) g_width[i] = found.width;
      }
    }
  }
}

}  // namespace

#define EXPORT(Real)                                                                                                 \
  extern "C" void delay_kernel_##Real(const Real* weight, const Real* position, const Real* width, Real* h,        \
                    int64_t n, int64_t M, int64_t K, int profile, Real base, int threads) {      \
    auto run = profile == GAUSS      ? forward<GAUSS, Real>                                                      \
                   : profile == TRIANGLE ? forward<TRIANGLE, Real>                                                   \
                                         : forward<BILINEAR, Real>;                                                  \
    run(weight, position, width, h, n, M, K, base, threads);                                                     \
  }                                                                                                                \
  extern "C" void delay_kernel_backward_##Real(const Real* g, const Real* weight, const Real* position,            \
                                                 const Real* width, Real* g_weight, Real* g_position, Real* g_width, \
                                                 int64_t n, int64_t M, int64_t K, int profile, Real base,            \
                                                 int threads) {                                                      \
    auto run = profile == GAUSS      ? g_width ? backward<GAUSS, true, Real> : backward<GAUSS, false, Real>      \
                   : profile == TRIANGLE ? g_width ? backward<TRIANGLE, true, Real> : backward<TRIANGLE, false, Real> \
                                         : backward<BILINEAR, false, Real>;                                          \
    run(g, weight, position, width, g_weight, g_position, g_width, n, M, K, base, threads);                      \
  }

EXPORT(float)
EXPORT(double)
