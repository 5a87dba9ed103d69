// The scan's gradients on the GPU; follows scan.cu and block_sum.cuh, with SNN_BACKWARD defined.
//
// It reads x and g_s once and writes g_x once. A thread walks its lanes forwards, keeping the states before every chunk of
// kChunk steps, then takes the chunks from the last to the first: computes the chunk's states again, in registers, and
// walks it in reverse. x waits in shared memory where it fits (kStash), else it is read again; with one chunk (kOne)
// everything stays in registers. Where the forward kept the states (kKeep), the first walk falls away.
//
// With one lane a thread (kFew) there are few threads, and a step waits for the last: then the states of the chunk before
// are computed between the steps of the reverse, which do not wait for them.

// Gradients of the coefficients: for SCALARS summed over all that a thread does, for LANES over steps and rows.
struct Sums {
#define SUM(position, name) double name;
#define LANE_SUM(position, name) double name[kWidth];
  SCALARS(SUM) LANES(LANE_SUM)
};

// The sums over one chunk, in the lanes' own precision: a conversion to double costs as much as eight sums.
struct ChunkSums {
#define CHUNK_SUM(position, name) real name;
#define LANE_CHUNK_SUM(position, name) real name[kWidth];
  SCALARS(CHUNK_SUM) LANES(LANE_CHUNK_SUM)

  __device__ void empty_into(Sums &sums) {
#define ADD_CHUNK(position, name) sums.name += (double)name, name = 0;
#define ADD_LANE_CHUNK(position, name) \
    _Pragma("unroll") for (int i = 0; i < kWidth; i++) sums.name[i] += (double)name[i], name[i] = 0;
    SCALARS(ADD_CHUNK) LANES(ADD_LANE_CHUNK)
  }
};

// What waits for the second walk: x of each chunk, and the states before it.
struct Kept {
  Group<io> *x;
  real *starts;
  const io *x_here;
  int64_t x_step, here, size;

  __device__ Kept(const Arguments &a, int64_t chunks, const io *x_here, int64_t here, int64_t size)
      : x_here(x_here), x_step(a.x_step), here(here), size(size) {
    extern __shared__ uint4 memory[];
    x = (Group<io> *)memory + threadIdx.x;
    starts = kStash ? (real *)((Group<io> *)memory + (chunks - 1) * kChunk * kThreads) + threadIdx.x : a.starts + here;
  }

  __device__ void put(int64_t chunk, const State (&state)[kWidth], const Group<io> (&from)[kChunk]) const {
#define PUT(position, name)                                                                       \
    if (kStash) {                                                                                 \
      _Pragma("unroll") for (int i = 0; i < kWidth; i++)                                          \
        starts[((chunk * kStates + position) * kWidth + i) * kThreads] = state[i].name;           \
    } else {                                                                                      \
      store(lanes_of_##name(state), starts + (chunk * kStates + position) * size);                \
    }
    STATES(PUT)
    if (kStash)
#pragma unroll
      for (int u = 0; u < kChunk; u++) x[(chunk * kChunk + u) * kThreads].piece = from[u].piece;
  }

  __device__ void get_state(int64_t chunk, State (&state)[kWidth]) const {
#define GET(position, name)                                                                       \
    {                                                                                             \
      Group<real> lanes;                                                                          \
      if (!kStash) lanes = load(starts + (chunk * kStates + position) * size);                    \
      _Pragma("unroll") for (int i = 0; i < kWidth; i++)                                          \
        state[i].name = kStash ? starts[((chunk * kStates + position) * kWidth + i) * kThreads] : lanes.lane[i]; \
    }
    STATES(GET)
  }

  __device__ void get_x(int64_t chunk, Group<io> (&to)[kChunk]) const {
#pragma unroll
    for (int u = 0; u < kChunk; u++) {
      if (kStash) to[u].piece = x[(chunk * kChunk + u) * kThreads].piece;
      else to[u] = load(x_here + (chunk * kChunk + u) * x_step);
    }
  }
};

// The reverse of one step: g holds the gradients of the states after it, then of those before it.
SNN_INLINE void reverse(const Group<io> &x, const State (&before)[kWidth], const Coefficients (&c)[kWidth],
                        const Group<io> &g_s, State (&g)[kWidth], real (&g_x)[kWidth], ChunkSums &sums) {
#pragma unroll
  for (int i = 0; i < kWidth; i++) {
    State g_before;
    Gradients g_c;
#define TAKE_SUM(position, name) g_c.name = sums.name;
#define TAKE_LANE_SUM(position, name) g_c.name = sums.name[i];
    SCALARS(TAKE_SUM) LANES(TAKE_LANE_SUM)
    g_x[i] = backward(to_real(x.lane[i]), before[i], c[i], to_real(g_s.lane[i]), g[i], g_before, g_c);
    g[i] = g_before;
#define PUT_SUM(position, name) sums.name = g_c.name;
#define PUT_LANE_SUM(position, name) sums.name[i] = g_c.name;
    SCALARS(PUT_SUM) LANES(PUT_LANE_SUM)
  }
}

// The states before each step of a chunk, computed again. Nothing asks whether a step lies past the end: a condition
// would keep the compiler from using in the reverse what it computes here.
SNN_INLINE void again_one(const Group<io> &x, const Coefficients (&c)[kWidth], State (&state)[kWidth],
                          State (&before)[kWidth]) {
  real out[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; i++) before[i] = state[i];
  advance(x, c, state, out);
}

// The lanes of one row, from the last step to the first.
SNN_INLINE void backward_row(const Arguments &a, int64_t row, int64_t lane, Coefficients (&c)[kWidth], Sums &sums) {
  const int64_t here = row * a.lanes + lane, size = a.rows * a.lanes, steps = steps_of(a);
  const int64_t chunks = kOne || steps == 0 ? 1 : (steps + kChunk - 1) / kChunk;
  const io *const x_here = a.x + row * a.x_row + lane, *const g_here = a.g_s + row * a.g_row + lane;
  const Kept kept(a, chunks, x_here, here, size);
  State state[kWidth], g[kWidth];
  real still[kWidth] = {};
  ChunkSums chunk_sums = {};
  start(a, here, state);
#define ARRIVE(position, name)                                                                    \
  {                                                                                               \
    Group<real> arrived;                                                                          \
    const bool arrives = !kBare && a.g_after[position];                                           \
    if (arrives) arrived = load(a.g_after[position] + here);                                      \
    _Pragma("unroll") for (int i = 0; i < kWidth; i++) g[i].name = arrives ? arrived.lane[i] : (real)0; \
  }
  STATES(ARRIVE)

  Group<io> x[kChunk], g_s[kChunk];
  load_chunk(g_here, a.g_step, (chunks - 1) * kChunk, steps, g_s);
  load_chunk(x_here, a.x_step, kKeep ? (chunks - 1) * kChunk : 0, steps, x);
  if (kKeep) kept.get_state(chunks - 1, state);
  for (int64_t k = 0; k + 1 < chunks && !kOne && !kKeep; k++) {
    Group<io> next[kChunk];
    load_chunk(x_here, a.x_step, (k + 1) * kChunk, steps, next);
    kept.put(k, state, x);
    walk(c, state, [&](int u) {
      real out[kWidth];
      advance(x[u], c, state, out);
    });
#pragma unroll
    for (int u = 0; u < kChunk; u++) x[u] = next[u];
  }

  State before[kChunk][kWidth];
  walk(c, state, [&](int u) { again_one(x[u], c, state, before[u]); });
  for (int64_t k = chunks - 1; k >= 0; k--) {
    const int64_t begin = k * kChunk;
    Group<io> g_next[kChunk], x_next[kChunk];
    State earlier[kChunk][kWidth];
    if (!kOne && k > 0) load_chunk(g_here, a.g_step, begin - kChunk, steps, g_next);
    if (kFew && k > 0) kept.get_x(k - 1, x_next), kept.get_state(k - 1, state);
    if (kFew) c[0].watch.odd = false;
#pragma unroll
    for (int u = kChunk - 1; u >= 0; u--) {
      if (kFew) again_one(x_next[kChunk - 1 - u], c, state, earlier[kChunk - 1 - u]);
      const int64_t t = begin + u;
      if (t >= steps) continue;
#define TRACE_GRADIENT(position, index, name)                                                     \
      if (a.g_traces[position]) {                                                                 \
        const Group<real> trace = load(a.g_traces[position] + t * size + here);                   \
        _Pragma("unroll") for (int i = 0; i < kWidth; i++) g[i].name += trace.lane[i];            \
      }
      TRACES(TRACE_GRADIENT)
      real g_x[kWidth];
      c[0].watch.careful = kFew;
      reverse(x[u], before[u], c, g_s[u], g, g_x, chunk_sums);
      c[0].watch.careful = false;
      if (kStill) {
#pragma unroll
        for (int i = 0; i < kWidth; i++) g_x[i] = still[i] = t + 1 < steps ? still[i] + g_x[i] : g_x[i];
      }
      if (!kStill || t == 0) store(rounded<io>(g_x), a.g_x + t * a.g_x_step + here);
    }
    chunk_sums.empty_into(sums);
    if (kOne || k == 0) break;
    if (!kFew) kept.get_x(k - 1, x_next);
    if (!kFew || c[0].watch.odd) {
      kept.get_state(k - 1, state);
      walk(c, state, [&](int u) { again_one(x_next[u], c, state, earlier[u]); });
    }
#pragma unroll
    for (int u = 0; u < kChunk; u++) {
      x[u] = x_next[u], g_s[u] = g_next[u];
#pragma unroll
      for (int i = 0; i < kWidth; i++) before[u][i] = earlier[u][i];
    }
  }
#define LEAVE(position, name) if (!kBare && a.g_before[position]) store(lanes_of_##name(g), a.g_before[position] + here);
  STATES(LEAVE)
}

// What a warp reads in its next places, brought as far as the L2 cache while it computes: where sums fill the
// registers there are too few threads for others to hide the wait. Each thread asks for some of the lines of 128 bytes.
SNN_INLINE void ask_for(const Arguments &a, int64_t index) {
  constexpr int kLine = 128 / sizeof(io), kLines = (32 * kWidth + kLine - 1) / kLine;
  const int thread = threadIdx.x % 32;
  const int64_t lane = (index - thread) * kWidth;
#pragma unroll
  for (int i = thread; i < 2 * kLines * kChunk; i += 32) {
    const int t = i / (2 * kLines), ahead = i % kLines * kLine;
    const io *const from = i / kLines % 2 ? a.g_s + t * a.g_step : a.x + t * a.x_step;
    if (lane + ahead < a.lanes) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + lane + ahead));
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, kResident) scan_backward(const __grid_constant__ Arguments a) {
  Sums sums = {};
  Coefficients c[kWidth];
  if (!kLaneTensors) coefficients_of(a, 0, c);  // the same everywhere
  // A thread takes several places where sums over all of them are wanted: they cost more than a place itself.
  for (int64_t index = (int64_t)blockIdx.x * kThreads + threadIdx.x; index < places(a);
       index += (int64_t)gridDim.x * kThreads) {
    const Place place(a, index);
    if (kAhead) ask_for(a, index + (int64_t)gridDim.x * kThreads);
    const bool single = kBare || a.segments == a.rows;
    const int64_t first = single ? place.segment : place.segment * a.rows / a.segments;
    const int64_t last = single ? first + 1 : (place.segment + 1) * a.rows / a.segments;
    if (kLaneTensors) coefficients_of(a, place.lane, c);
    for (int64_t row = first; row < last; row++) backward_row(a, row, place.lane, c, sums);
#define LEAVE_SUM(position, name)                                                                 \
    _Pragma("unroll") for (int i = 0; i < kWidth; i++) {                                          \
      if (a.g_coefficients[position])                                                             \
        a.g_coefficients[position][place.segment * a.lanes + place.lane + i] = sums.name[i];      \
      sums.name[i] = 0;                                                                           \
    }
    LANES(LEAVE_SUM)
    if (!kScalars) break;
  }
#define TOTAL(position, name)                                                                     \
  {                                                                                               \
    const double total = block_sum(sums.name);                                                    \
    if (threadIdx.x == 0 && a.g_coefficients[position]) a.g_coefficients[position][blockIdx.x] = total; \
  }
  SCALARS(TOTAL)
}
