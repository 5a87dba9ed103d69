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
    forward_step(a, coefficients_of(a, 0), step.before + row * kStates * n, step.after + row * kStates * n, n,
                 step.x + row * n, step.s + row * n, 0, n, 0, 0);
}

extern "C" void step_backward(const StepArguments *arguments) {
  const StepArguments &step = *arguments;
  const Arguments a = coefficients_alone(step);
  const int64_t n = step.lanes;
#pragma omp parallel for schedule(static) num_threads(step.threads) if (step.threads > 1)
  for (int64_t segment = 0; segment < step.segments; segment++) {
    double *const sums = step.sums + segment * kTensors * n;
    for (int64_t row = segment * step.rows / step.segments; row < (segment + 1) * step.rows / step.segments; row++)
      backward_step<false>(a, coefficients_of(a, 0), step.before + row * kStates * n, step.g + row * kStates * n, n,
                           step.x + row * n, step.g_s + row * n, step.g_x + row * n, sums, 0, n, 0, 0, 0);
  }
}

// The whole loop, where what comes back is the last output times one matrix (and a mask): rows never meet, so a thread
// takes its rows through all steps.
struct LoopArguments {
  StepArguments step;            // x .. g_x are not used but g
  int64_t steps, current_rows, history_rows;   // fewer rows than steps go round
  const real *weight, *mask;     // [lanes, lanes] as (target, source); [rows, lanes] or null
  real *packed;                  // [padded(lanes), lanes]
  const real *x;                 // [steps, rows, lanes]
  real *heard;                   // [1 + steps, rows, lanes]: the past, then the outputs
  real *current;                 // [current_rows, rows, lanes]
  real *history;                 // [history_rows, rows, states, lanes]
  const real *g_out;             // [steps, rows, lanes] or null
  real *g_current;               // [steps, rows, lanes]
  real *arriving;                // [steps + 1, rows, lanes]: g_current times the mask, then zeros; g_current without one
};

extern "C" int64_t loop_packed(int64_t lanes) { return padded(lanes) * lanes; }

extern "C" void loop_pages(void *start, int64_t bytes) { large_pages(start, bytes); }

extern "C" void loop_forward(const LoopArguments *arguments) {
  const LoopArguments &loop = *arguments;
  const StepArguments &step = loop.step;
  const Arguments a = coefficients_alone(step);
  const int64_t n = step.lanes, size = step.rows * n, chunks = std::min(step.threads, parts(step.rows, kBlock));
  pack(loop.weight, 1, n, n, loop.packed);
#pragma omp parallel for schedule(static) num_threads(chunks) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const int64_t blocks = parts(step.rows, kBlock);
    const int64_t begin = chunk * blocks / chunks * kBlock, end = std::min((chunk + 1) * blocks / chunks * kBlock, step.rows);
    Scratch scratch(end - begin, n);
    for (int64_t t = 0; t < loop.steps; t++) {
      product(loop.heard + t * size + begin * n, end - begin, n, loop.packed, true, scratch);
      real *const before = loop.history + t % loop.history_rows * size * kStates;
      real *const after = loop.history + (t + 1) % loop.history_rows * size * kStates;
      for (int64_t row = begin; row < end; row++) {
        const real *__restrict x = loop.x + t * size + row * n;
        const real *__restrict back = scratch.into + (row - begin) * padded(n);
        real *__restrict current = loop.current + t % loop.current_rows * size + row * n;
        if (loop.mask)
          for (int64_t i = 0; i < n; i++) current[i] = x[i] + back[i] * loop.mask[row * n + i];
        else
          for (int64_t i = 0; i < n; i++) current[i] = x[i] + back[i];
        forward_step(a, coefficients_of(a, 0), before + row * kStates * n, after + row * kStates * n, n, current,
                     loop.heard + (t + 1) * size + row * n, 0, n, 0, 0);
      }
    }
  }
}

extern "C" void loop_backward(const LoopArguments *arguments) {
  const LoopArguments &loop = *arguments;
  const StepArguments &step = loop.step;
  const Arguments a = coefficients_alone(step);
  const int64_t n = step.lanes, size = step.rows * n, chunks = std::min(step.threads, step.segments);
  pack(loop.weight, n, 1, n, loop.packed);
#pragma omp parallel for schedule(static) num_threads(chunks) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const int64_t first = chunk * step.segments / chunks, last = (chunk + 1) * step.segments / chunks;
    const int64_t begin = first * step.rows / step.segments, end = last * step.rows / step.segments;
    Scratch scratch(end - begin, n);
    for (int64_t t = loop.steps - 1; t >= 0; t--) {
      product(loop.arriving + (t + 1) * size + begin * n, end - begin, n, loop.packed, false, scratch);
      for (int64_t segment = first; segment < last; segment++) {
        double *const sums = step.sums + segment * kTensors * n;
        for (int64_t row = segment * step.rows / step.segments; row < (segment + 1) * step.rows / step.segments; row++) {
          const int64_t here = t * size + row * n;
          real *__restrict g_s = scratch.into + (row - begin) * padded(n);
          if (loop.g_out)
            for (int64_t i = 0; i < n; i++) g_s[i] += loop.g_out[here + i];
          backward_step<false>(a, coefficients_of(a, 0), loop.history + (t * size + row * n) * kStates,
                               step.g + row * kStates * n, n, loop.current + here, g_s, loop.g_current + here, sums,
                               0, n, 0, 0, 0);
          if (loop.mask)
            for (int64_t i = 0; i < n; i++) loop.arriving[here + i] = loop.g_current[here + i] * loop.mask[row * n + i];
        }
      }
    }
  }
}

// out[row] = add[row] + sum_k taps[k] * window[k][row]: what delays bring to a step, or take from it.
struct MixArguments {
  int64_t lags, rows, lanes, threads;
  const real *window, *taps, *add;   // [lags, rows, lanes]; [lags, lanes]; [rows, lanes] or null
  real *out;                         // [rows, lanes]
};

extern "C" void loop_mix(const MixArguments *arguments) {
  const MixArguments &a = *arguments;
  const int64_t n = a.lanes, size = a.rows * n, block = 512;
#pragma omp parallel for schedule(static) num_threads(a.threads) if (a.threads > 1)
  for (int64_t row = 0; row < a.rows; row++)
    for (int64_t first = 0; first < n; first += block) {
      const int64_t count = std::min(block, n - first), here = row * n + first;
      real sum[block];
      if (a.add) std::copy_n(a.add + here, count, sum);
      else std::fill_n(sum, count, (real)0);
      for (int64_t k = 0; k < a.lags; k++) {
        const real *__restrict taps = a.taps + k * n + first, *__restrict heard = a.window + k * size + here;
#pragma GCC ivdep
        for (int64_t i = 0; i < count; i++) sum[i] += taps[i] * heard[i];
      }
      std::copy_n(sum, count, a.out + here);
    }
}
