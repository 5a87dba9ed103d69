// Dense delay kernels on the GPU: h[k][e] = sum_m weight[e][m] * phi_k[e][m], and their gradients.
//
// In front of this text stand math.h, delay.h (the formulas) and
//   real       number type
//   kProfile   BILINEAR, TRIANGLE or GAUSS
//   kWide      a gradient of the width is wanted
//   kThreads   threads of a block
// An element e is one synapse (out * in of them), with M positions. A thread takes one element and all its taps: time
// is the slow axis of h, so neighbouring threads read and write neighbouring numbers at every tap, h moves once, and
// the sums over k are made by one thread in the order of the CPU: the same bits as there, on every run.

typedef long long int64_t;

struct Arguments {
  const real *weight, *position, *width;  // [n, M]; width may be null
  real *h;                                // [K, n]
  const real *g;                          // [K, n]
  real *g_weight, *g_position, *g_width;  // [n, M]; g_width is read only if kWide
  int64_t n, M, K;
  double base;
};

// What an element has at one m.
struct Element {
  real w, c, s, a, width;
  __device__ Element(const Arguments &x, int64_t i) {
    width = x.width ? x.width[i] : real(0);
    w = x.weight[i];
    c = x.position[i] + real(x.K / 2);
    s = x.width ? snn_abs(width) + real(x.base) : real(x.base);
    a = real(1) / (real(2) * s * s);
  }
  __device__ Tap<real> at(int k) const { return tap<kProfile>(real(k) - c, s, a); }
};

extern "C" __global__ void __launch_bounds__(kThreads) delay_forward(const __grid_constant__ Arguments x) {
  const int64_t e = (int64_t)blockIdx.x * kThreads + threadIdx.x;
  if (e >= x.n) return;
  const int K = (int)x.K;
  for (int64_t m = 0; m < x.M; m++) {
    const Element element(x, e * x.M + m);
    real sum = 0;
    if (kProfile != BILINEAR) {
#pragma unroll 8
      for (int k = 0; k < K; k++) sum += element.at(k).r;
    }
    const real scale = height<kProfile>(element.w, sum);
    real *to = x.h + e;
    if (m == 0) {
#pragma unroll 8
      for (int k = 0; k < K; k++, to += x.n) *to = scale * element.at(k).r;
    } else {
#pragma unroll 8
      for (int k = 0; k < K; k++, to += x.n) *to += scale * element.at(k).r;
    }
  }
}

extern "C" __global__ void __launch_bounds__(kThreads) delay_backward(const __grid_constant__ Arguments x) {
  const int64_t e = (int64_t)blockIdx.x * kThreads + threadIdx.x;
  if (e >= x.n) return;
  const int K = (int)x.K;
  for (int64_t m = 0; m < x.M; m++) {
    const int64_t i = e * x.M + m;
    const Element element(x, i);
    Sums<real> sum = {0, 0, 0, 0, 0, 0};
    const real *from = x.g + e;
#pragma unroll 8
    for (int k = 0; k < K; k++, from += x.n) {
      const real g = *from;
      const Tap<real> t = element.at(k);
      sum.r += t.r, sum.q += t.q;
      sum.gr += g * t.r, sum.gq += g * t.q;
      if (kWide) sum.z += t.z, sum.gz += g * t.z;
    }
    const Gradients<real> found = gradients<kProfile>(element.w, element.s, element.width, sum);
    x.g_weight[i] = found.weight, x.g_position[i] = found.position;
    if (kWide) x.g_width[i] = found.width;
  }
}
