// What a neuron computes once a call from parameters of one value, on the GPU: its coefficients, in one kernel, and in a
// second one the gradients of the parameters from the sums that the scan's backward left.
//
// In front of this text stand math.h, block_sum.cuh, what was generated from the neuron's equation (`coefficients_of` and
// `chain`, in double), and
//   lane                    number type of the scan's coefficients
//   kParameters, ...        how many there are
//   kDouble, kPositive      a bit for each parameter: it is double in memory; it is NaN unless > 0
//   kThreads                threads of the one block that sums

struct Arguments {
  const void *parameters[kParameters];
  lane *coefficients;
  const double *sums[kCoefficients];  // [parts] each, or null
  long long parts;
  void *gradients[kParameters];       // each may be null
  double numbers[kNumbers];
};

SNN_INLINE void read(const Arguments &a, double (&p)[kParameters]) {
#pragma unroll
  for (int k = 0; k < kParameters; k++) {
    p[k] = kDouble >> k & 1 ? *(const double *)a.parameters[k] : (double)*(const float *)a.parameters[k];
    if (kPositive >> k & 1 && p[k] <= 0) p[k] = (double)NAN;
  }
}

extern "C" __global__ void coefficients(const __grid_constant__ Arguments a) {
  if (threadIdx.x > 0) return;
  double p[kParameters], c[kCoefficients];
  read(a, p);
  coefficients_of(p, a.numbers, c);
#pragma unroll
  for (int k = 0; k < kCoefficients; k++) a.coefficients[k] = (lane)c[k];
}

extern "C" __global__ void coefficient_gradients(const __grid_constant__ Arguments a) {
  double p[kParameters], g[kCoefficients], g_p[kParameters];
#pragma unroll
  for (int k = 0; k < kCoefficients; k++) {
    double sum = 0;
    if (a.sums[k])
      for (long long i = threadIdx.x; i < a.parts; i += kThreads) sum += a.sums[k][i];
    g[k] = a.sums[k] ? block_sum(sum) : 0;
  }
  if (threadIdx.x > 0) return;
  read(a, p);
  chain(p, a.numbers, g, g_p);
#pragma unroll
  for (int k = 0; k < kParameters; k++) {
    if (!a.gradients[k]) continue;
    // As torch.threshold passes it on: nothing to a value that became NaN here.
    const double passed = kPositive >> k & 1 && p[k] != p[k] ? 0 : g_p[k];
    if (kDouble >> k & 1) *(double *)a.gradients[k] = passed;
    else *(float *)a.gradients[k] = (float)passed;
  }
}
