// Weights of few bits, one learnt step a output channel (LSQ), on the GPU: the steps of a pass, the weight, its gradients.
//
// In front of this text stand math.h, block_sum.cuh and
//   real       number type
//   kThreads   threads of a block
// A channel is `each` numbers in a row of memory, in whatever order; g and what is written lie as the weight does. A
// block takes one channel. The weight moves once forwards and once backwards, and so do w_q, g and dw. Sums are in double
// and in a fixed order: the same bits on every run.

struct Arguments {
  const real *weight;        // [channels, each]
  real *alpha, *init_state;  // [channels], [1]
  real *steps;               // [channels]: alpha as this pass takes it
  const real *g;             // [channels, each]
  real *to;                  // [channels, each]: w_q forwards, dw backwards
  real *g_steps;             // [channels]
  long long channels, each;
  long long keep;            // whether steps that start now are written into alpha
  double most, scale;        // Qp, and what gradients of the steps are multiplied by
};

SNN_INLINE real clamped(real u, const Arguments &a) {
  return snn_minimum(snn_maximum(u, (real)(-a.most - 1)), (real)a.most);
}

// One block. Steps that are not set yet are 2 mean|w| / sqrt(Qp), which reads the whole weight, once in a training.
extern "C" __global__ void __launch_bounds__(kThreads) lsq_steps(const __grid_constant__ Arguments a) {
  if (*a.init_state != 0) {
    for (long long c = threadIdx.x; c < a.channels; c += kThreads) a.steps[c] = a.alpha[c];
    return;
  }
  double sum = 0, others = 0;
#pragma unroll 8
  for (long long i = threadIdx.x; i < a.channels * a.each; i += kThreads) {
    const real w = a.weight[i];
    sum += (double)snn_abs(w);
    others += w != 0;
  }
  sum = block_sum(sum), others = block_sum(others);
  if (threadIdx.x > 0) return;
  const real start = (real)(2 * (sum / (double)(a.channels * a.each)) / sqrt(a.most));
  const real step = start > 0 ? start : (real)1;  // of weights that are all 0, 0 / 0 would be NaN
  for (long long c = 0; c < a.channels; c++) {
    a.steps[c] = step;
    if (a.keep) a.alpha[c] = step;
  }
  if (a.keep && others > 0) *a.init_state = 1;  // a layer that starts at 0 takes its steps when it has left it
}

// w_q = round(clamp(w / alpha)) alpha
extern "C" __global__ void __launch_bounds__(kThreads) lsq_forward(const __grid_constant__ Arguments a) {
  const real step = a.steps[blockIdx.x];
  const long long first = blockIdx.x * a.each, end = first + a.each;
#pragma unroll 4
  for (long long i = first + threadIdx.x; i < end; i += kThreads)
    a.to[i] = snn_round(clamped(a.weight[i] / step, a)) * step;
}

extern "C" __global__ void __launch_bounds__(kThreads) lsq_backward(const __grid_constant__ Arguments a) {
  const real step = a.steps[blockIdx.x];
  const long long first = blockIdx.x * a.each, end = first + a.each;
  double sum = 0;
#pragma unroll 4
  for (long long i = first + threadIdx.x; i < end; i += kThreads) {
    const real u = a.weight[i] / step, g = a.g[i];
    const bool inside = u >= -a.most - 1 && u <= a.most;
    a.to[i] = inside ? g : (real)0;
    sum += (double)g * (double)(inside ? snn_round(u) - u : clamped(u, a));
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) a.g_steps[blockIdx.x] = (real)(sum * a.scale);
}
