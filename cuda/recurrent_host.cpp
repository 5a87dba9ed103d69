// A single step of the scan on the CPU, for layers that need a matrix product between two steps.
//
// This text stands behind scan_host.cpp and takes its step of a block. The states of a row lie side by side,
// [rows, states, lanes], and the loop that calls it keeps those of all steps: nothing is copied or computed again.

struct StepArguments {
  int64_t rows, lanes, segments, threads;
  const double *numbers;
  const real *const *coefficients;
  const real *x;                 // [rows, lanes]
  real *s;                       // [rows, lanes]
  const real *before;            // [rows, states, lanes]
  real *after;                   // [rows, states, lanes]
  const real *g_s;               // [rows, lanes]
  real *g;                       // [rows, states, lanes]: gradients of the states after the step, then of those before it
  real *g_x;                     // [rows, lanes]
  double *sums;                  // [segments, tensors, lanes]: gradients of the coefficients so far, of SCALARS at lane 0
  real *recent;                  // [segments, tensors, lanes], zeros
};

namespace {

Arguments coefficients_alone(const StepArguments &step) {
  Arguments a = {};
  a.lanes = step.lanes;
  a.numbers = step.numbers;
  a.coefficients = step.coefficients;
  return a;
}

}  // namespace

extern "C" void step_forward(const StepArguments *arguments) {
  const StepArguments &step = *arguments;
  const Arguments a = coefficients_alone(step);
  const int64_t n = step.lanes;
#pragma omp parallel for schedule(static) num_threads(step.threads) if (step.threads > 1)
  for (int64_t row = 0; row < step.rows; row++)
    forward_step<true>(a, coefficients_of(a, 0), step.before + row * kStates * n, step.after + row * kStates * n, n,
                       step.x + row * n, step.s + row * n, 0, n);
}

extern "C" void step_backward(const StepArguments *arguments) {
  const StepArguments &step = *arguments;
  const Arguments a = coefficients_alone(step);
  const int64_t n = step.lanes;
#pragma omp parallel for schedule(static) num_threads(step.threads) if (step.threads > 1)
  for (int64_t segment = 0; segment < step.segments; segment++) {
    double *const sums = step.sums + segment * kTensors * n;
    real *const recent = step.recent + segment * kTensors * n;
    for (int64_t row = segment * step.rows / step.segments; row < (segment + 1) * step.rows / step.segments; row++)
      backward_step<false>(a, coefficients_of(a, 0), step.before + row * kStates * n, step.g + row * kStates * n, n,
                           step.x + row * n, step.g_s + row * n, step.g_x + row * n, recent, sums, 0, n);
#define EMPTY(position, name) sums[position * n] += emptied(recent + position * n, n);
    SCALARS(EMPTY)
  }
}
