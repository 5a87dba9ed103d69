// The scan on the GPU: a neuron over time, a thread for each group of kWidth neighbouring lanes. It reads x once and writes
// s once. scan_backward.cu goes on from here for the gradients.
//
// In front of this text stand math.h, divide.cuh, lanes.cuh, what was generated from the neuron's equation (scan_host.cpp
// says what), and
//   io, kWidth     number type of x, s and their gradients; lanes of a thread
//   kChunk         steps whose states stand in registers at once; all steps, if kOne
//   kThreads       threads of a block; kResident of them should fit on a multiprocessor
//   kOne, kStash   there is one chunk, of all steps; x and the states of the earlier chunks wait in shared memory
//   kDivision_tau  for each divisor: how it is divided by
//   kKeep          the forward leaves the states before each chunk to the backward
//   kStill         one row of x is read at every step, and its gradient is one row
//   kBare          there is one row, and no states are given or asked for, before or after, nor their gradients
//   kAhead         the backward asks for what it reads next before it computes
// A row is one sample: F lanes that lie side by side. All strides count elements.

#define COUNT(position, name) +1
constexpr int kStates = 0 STATES(COUNT);
constexpr int kScalars = 0 SCALARS(COUNT), kLaneTensors = 0 LANES(COUNT), kTensors = kScalars + kLaneTensors;
#define COUNT_TRACE(position, index, name) +1
constexpr int kTraces = 0 TRACES(COUNT_TRACE);
__device__ constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

struct Arguments {
  int64_t steps, rows, lanes, segments;
  const io *x;
  int64_t x_step, x_row;              // x_step may be 0: one row is read at every step
  io *s;                              // [steps, rows, lanes]
  const io *g_s;
  int64_t g_step, g_row;
  io *g_x;                            // [steps, rows, lanes], with kStill [rows, lanes]: the sum over the steps
  int64_t g_x_step;
  real *starts;                       // [chunks, states, rows, lanes]: the states before each chunk, without kStash
  const real *coefficients[at_least_one(kTensors)];  // SCALARS: one value; LANES: [lanes]
  const real *before[kStates];                       // [rows, lanes], or null: start from the numbers
  real *after[kStates];                              // [rows, lanes], or null
  real *traces[at_least_one(kTraces)];               // [steps, rows, lanes]
  const real *g_after[kStates];                      // [rows, lanes], each may be null
  const real *g_traces[at_least_one(kTraces)];       // [steps, rows, lanes], each may be null
  real *g_before[kStates];                           // [rows, lanes], each may be null
  double *g_coefficients[at_least_one(kTensors)];    // SCALARS: [blocks]; LANES: [segments, lanes]; each may be null
  double numbers[at_least_one(kNumbers + kStates)];  // NUMBERS, then the initial value of each state
};

// A piece of work: a group of lanes and, of the rows, a segment.
SNN_INLINE int64_t places(const Arguments &a) { return (kBare ? 1 : a.segments) * (a.lanes / kWidth); }

struct Place {
  int64_t segment, lane;
  __device__ Place(const Arguments &a, int64_t index) {
    const int64_t groups = a.lanes / kWidth;
    if (kBare || a.segments == 1) {
      segment = 0, lane = index * kWidth;
    } else if (a.segments * groups < (1ll << 31)) {
      segment = (unsigned)index / (unsigned)groups, lane = (unsigned)index % (unsigned)groups * (int64_t)kWidth;
    } else {
      segment = index / groups, lane = index % groups * kWidth;
    }
  }
};

SNN_INLINE void coefficients_of(const Arguments &a, int64_t lane, Coefficients (&c)[kWidth]) {
  Coefficients common;
#define NUMBER(position, name) common.name = (real)a.numbers[position];
#define SCALAR(position, name) common.name = *a.coefficients[position];
#define NONE_YET(position, name) common.name = 1;
#define INVERT(name) common.over_##name = 1.0 / (double)common.name;
  NUMBERS(NUMBER) SCALARS(SCALAR) LANES(NONE_YET) DIVISORS(INVERT)
  common.watch.careful = false;
#pragma unroll
  for (int i = 0; i < kWidth; i++) {
    c[i] = common;
#define LANE(position, name) c[i].name = a.coefficients[position][lane + i];
#define INVERT_LANE(name) if (kLaneTensors) c[i].over_##name = 1.0 / (double)c[i].name;
    LANES(LANE) DIVISORS(INVERT_LANE)
  }
}

// The lanes of one state, side by side.
#define LANES_OF(position, name)                                                                  \
  SNN_INLINE Group<real> lanes_of_##name(const State (&state)[kWidth]) {                          \
    Group<real> group;                                                                            \
    _Pragma("unroll") for (int i = 0; i < kWidth; i++) group.lane[i] = state[i].name;             \
    return group;                                                                                 \
  }
STATES(LANES_OF)

SNN_INLINE void start(const Arguments &a, int64_t here, State (&state)[kWidth]) {
#define START(position, name)                                                                     \
  {                                                                                               \
    Group<real> given;                                                                            \
    const bool is_given = !kBare && a.before[position];                                           \
    if (is_given) given = load(a.before[position] + here);                                        \
    _Pragma("unroll") for (int i = 0; i < kWidth; i++)                                            \
      state[i].name = is_given ? given.lane[i] : (real)a.numbers[kNumbers + position];            \
  }
  STATES(START)
}

// How many steps there are: known to the compiler if there is one chunk.
SNN_INLINE int64_t steps_of(const Arguments &a) { return kOne ? kChunk : a.steps; }

// A chunk of rows: those from step t on, as far as there are any.
SNN_INLINE void load_chunk(const io *from, int64_t step, int64_t t, int64_t steps, Group<io> (&to)[kChunk]) {
#pragma unroll
  for (int u = 0; u < kChunk; u++)
    if (t + u < steps) to[u] = load(from + (t + u) * step);
}

// The states after one step, in place of those before it; `out` is the neuron's output.
SNN_INLINE void advance(const Group<io> &x, const Coefficients (&c)[kWidth], State (&state)[kWidth],
                        real (&out)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; i++) {
    State after;
    out[i] = forward(to_real(x.lane[i]), state[i], c[i], after);
    state[i] = after;
  }
}

// A chunk of steps from the states before it: all of it, or as far as there are steps. Where a division was not sure of its
// last bit, once more, with care.
template <typename Step> SNN_INLINE void walk(Coefficients (&c)[kWidth], State (&state)[kWidth], const Step &step) {
  const State first = state[0];
  c[0].watch.odd = false;
#pragma unroll
  for (int u = 0; u < kChunk; u++) step(u);
  if (!kFew || !c[0].watch.odd) return;
  state[0] = first;
  c[0].watch.careful = true;
#pragma unroll
  for (int u = 0; u < kChunk; u++) step(u);
  c[0].watch.careful = false;
}

#ifndef SNN_BACKWARD

extern "C" __global__ void __launch_bounds__(kThreads, kResident) scan_forward(const __grid_constant__ Arguments a) {
  const int64_t index = (int64_t)blockIdx.x * kThreads + threadIdx.x;
  if (index >= places(a)) return;
  const Place place(a, index);
  const int64_t here = place.segment * a.lanes + place.lane, size = a.rows * a.lanes, steps = steps_of(a);
  const io *const x_here = a.x + place.segment * a.x_row + place.lane;
  Coefficients c[kWidth];
  State state[kWidth];
  coefficients_of(a, place.lane, c);
  start(a, here, state);

  Group<io> x[kChunk];
  load_chunk(x_here, a.x_step, 0, steps, x);
  for (int64_t begin = 0; begin < steps; begin += kChunk) {
    Group<io> next[kChunk];
    if (!kOne) load_chunk(x_here, a.x_step, begin + kChunk, steps, next);  // on their way while this chunk is computed
#define KEEP_START(position, name) \
    if (kKeep) store(lanes_of_##name(state), a.starts + (begin / kChunk * kStates + position) * size + here);
    STATES(KEEP_START)
    walk(c, state, [&](int u) {
      const int64_t t = begin + u;
      if (t >= steps) return;
      real out[kWidth];
      advance(x[u], c, state, out);
      store(rounded<io>(out), a.s + t * size + here);
#define TRACE(position, index, name) store(lanes_of_##name(state), a.traces[position] + t * size + here);
      TRACES(TRACE)
    });
#pragma unroll
    for (int u = 0; u < kChunk && !kOne; u++) x[u] = next[u];
  }
#define END(position, name) if (!kBare && a.after[position]) store(lanes_of_##name(state), a.after[position] + here);
  STATES(END)
}

#endif
