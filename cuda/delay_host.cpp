// Dense delay kernels on the CPU: h[k][e] = sum_m weight[e][m] * phi_k[e][m], and their gradients.
//
// c = position + K / 2,  u = k - c,  s = |width| + base,  phi_k = r_k / (sum_k r_k + eps):
//   bilinear  r = 1 - |u| on -1 < u <= 1, not normalised     triangle  r = max(0, s - |u|)
//   gauss     r = exp(-u^2 / (2 s^2))
//
// An element e is one synapse (out * in of them), with M positions. Time is the slow axis of h: h[k] is a whole
// [out, in] matrix, as the products over time want it, and a vector holds neighbouring elements.
// Forward reads weight, position, width once and writes h once. Backward reads the gradient of h M times (from the
// cache after the first), takes five sums over k of each element and keeps nothing of the size of h.

// math.h of this folder stands before this text (snn_exp).
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int LANES = 64;  // elements that are worked on together: a row of floats is four cache lines
constexpr double EPS = 1e-7;

enum Profile { BILINEAR, TRIANGLE, GAUSS };

// exp(x) for x <= 0, 0 below the cut. What is cut is under 1e-27 (float) or 1e-86 (double) beside sums of at least
// eps: far below rounding, and the kernel holds no subnormal numbers, which make matrix products slow.
template <typename Real>
inline Real negative_exp(Real x) {
  const Real cut = sizeof(Real) == 4 ? -64 : -200;
  Real y = snn_exp(x < cut ? cut : x);  // in this form a NaN stays one
  return x < cut ? Real(0) : y;
}

// r, and up to a factor of the element (1 / s^2, 1 / s^3 for the gauss): q = dr/dposition, z = dr/ds.
template <typename Real>
struct Tap {
  Real r, q, z;
};

template <Profile profile, typename Real>
inline Tap<Real> tap(Real u, Real s, Real a) {
  const Real zero = 0, one = 1;
  if (profile == GAUSS) {
    Real r = negative_exp(-(u * u) * a);
    return {r, r * u, r * u * u};
  }
  if (profile == TRIANGLE) {
    Real r = s - std::fabs(u);
    r = r < zero ? zero : r;  // in this form a NaN stays one
    Real on = r > zero ? one : zero;
    return {r, u > zero ? on : u < zero ? -on : zero, on};
  }
  Real r = one - std::fabs(u);
  r = r < zero ? zero : r;
  Real left = u > -one && u <= zero ? one : zero, right = u > zero && u <= one ? one : zero;
  return {r, right - left, zero};
}

template <typename Real>
struct Block {  // what LANES elements have at one m
  Real w[LANES], c[LANES], s[LANES], a[LANES];

  void load(const Real* weight, const Real* position, const Real* width, int64_t first, int count, int64_t M,
              int64_t m, int64_t K, Real base) {
    for (int l = 0; l < count; l++) {
      int64_t i = (first + l) * M + m;
      w[l] = weight[i];
      c[l] = position[i] + Real(K / 2);
      s[l] = width ? std::fabs(width[i]) + base : base;
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
          scale[l] = profile == BILINEAR ? x.w[l] : x.w[l] / (sum[l] + Real(EPS));
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

// With Z = sum_k r + eps and A = sum_k G r / Z:
//   dL/dweight = A,  dL/dposition = w / Z * sum_k (G - A) q,  dL/dwidth = sign(width) * w / Z * sum_k (G - A) z.
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
        if (profile == BILINEAR) {
          g_weight[i] = gr[l], g_position[i] = x.w[l] * gq[l];
          continue;
        }
        Real Z = r0[l] + Real(EPS), A = gr[l] / Z;
        Real scale = x.w[l] / Z, s = x.s[l];
        if (profile == GAUSS) scale /= s * s;
        g_weight[i] = A;
        g_position[i] = scale * (gq[l] - A * q0[l]);
        if (wide) {
          if (profile == GAUSS) scale /= s;
          Real v = width[i];
          g_width[i] = scale * (gz[l] - A * z0[l]) * Real((v > 0) - (v < 0));
        }
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
