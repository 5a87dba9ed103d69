// The scan on the CPU: a neuron over time, lanes side by side.
//
//   forward   reads x once, writes s once.
//   backward  reads x and g_s once, writes g_x once. The states are computed again, block by block: a block holds
//             so few lanes that its states at all steps (at all steps of a chunk, if T is long) stay in the L2 cache,
//             and so many that its part of a row is a long run of memory, which the hardware reads ahead. The states
//             before each chunk come from the forward (starts), or a walk before the first chunk computes them.
//
// In front of this text stands what was generated from the neuron's equation:
//   real, State, Coefficients, Gradients     the number type; the states, the parameters' values, their gradients
//   forward(), backward()                    one step, and its reverse, which adds to the Gradients
//   STATES(X), NUMBERS(X), SCALARS(X), LANES(X)   X(position, name) for each: states, coefficients that are numbers,
//                                            tensors with one value, tensors with a value a lane
//   TRACES(X)                                X(position, index, name) for each recorded state, the index-th of STATES
//   DIVISORS(X)                              X(name) for each coefficient that is divided by; with SNN_PRODUCTS all of
//                                            them are powers of two
// A row is one sample: F lanes that lie side by side. All strides count elements.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

struct Arguments {
  int64_t steps, rows, lanes, segments, threads;
  const double *numbers;              // NUMBERS, then the initial value of each state
  const real *const *coefficients;    // SCALARS and LANES
  const real *x;
  int64_t x_step, x_row;              // x_step may be 0: one row is read at every step
  const real *const *before;          // a [rows, lanes] tensor for each state, or null: start from the numbers
  real *s, *const *after, *const *traces;   // [steps, rows, lanes]; [rows, lanes] or null
  const real *g_s;                    // null: no gradient arrives
  int64_t g_step, g_row;
  const real *const *g_after;         // [rows, lanes], each may be null
  const real *const *g_traces;        // [steps, rows, lanes], each may be null
  real *g_x;                          // [steps, rows, lanes], or [rows, lanes] if g_x_step = 0: the sum over the steps
  int64_t g_x_step;
  real *const *g_before;              // [rows, lanes], each may be null
  double *const *g_coefficients;      // SCALARS: [segments * blocks]; LANES: [segments, lanes]
  real *starts;                       // [chunks, states, rows, lanes]: the states before each chunk, or null
};

namespace {

constexpr int64_t kForwardLanes = 1024;        // x, s and the states of a step stay in the L1 cache
constexpr int64_t kHistoryBytes = 1 << 19;     // states of a block in the backward: with x, an L2 of 1 MiB
constexpr int64_t kFewestLanes = 256;          // of a block in the backward: rather than fewer, a chunk has fewer steps
constexpr int64_t kShort = 8, kMostOfShort = 256;  // so few steps: x, history and gradients stay in the L1 cache
constexpr int64_t kChunk = 16;                 // steps of a chunk at least
constexpr int64_t kBlocks = 16;                // blocks for the threads to share, down to half of kFewestLanes in each
constexpr int64_t kBlocksOfThread = 4;         // as many a thread are enough, where the blocks change no bit of a sum
constexpr int64_t kWide = 64 / (int64_t)sizeof(real);   // lanes of a vector register
constexpr int64_t kStrip = 4 * kWide;          // lanes between two times of asking ahead, where nothing is written
#define COUNT(position, name) +1
constexpr int64_t kStates = 0 STATES(COUNT);
constexpr int64_t kMostLanes = std::clamp<int64_t>(2048 / kStates / 64 * 64, 256, 1024);  // up to 4 KiB of a float row
constexpr int64_t kScalars = 0 SCALARS(COUNT);
constexpr int64_t kTensors = kScalars LANES(COUNT);

// Fresh pages cost more than the arithmetic: ask for large ones before the first write.
void large_pages(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  if (bytes < (8 << 20)) return;
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = ((int64_t)start + page - 1) / page * page, last = ((int64_t)start + bytes) / page * page;
  if (last > first) madvise((void *)first, last - first, MADV_HUGEPAGE);
#endif
}

// A thread's working memory; it grows and is used again by the next call.
real *workspace(int64_t count) {
  static thread_local struct Memory {
    void *data = nullptr;
    int64_t bytes = 0;
    ~Memory() { std::free(data); }
  } memory;
  const int64_t bytes = (count * (int64_t)sizeof(real) + 63) / 64 * 64;
  if (bytes > memory.bytes) {
    std::free(memory.data);
    memory.data = std::aligned_alloc(64, bytes);
    memory.bytes = memory.data ? bytes : 0;
  }
  return (real *)memory.data;
}

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

// Steps of a chunk where there are several: about sqrt(T).
int64_t chunk_of(int64_t steps) {
  int64_t chunk = kChunk;
  while (chunk * chunk < steps) chunk++;
  return chunk;
}

// Lanes of a block and steps of a chunk in the backward: all steps, if their states need not be computed twice then.
struct Blocking {
  int64_t lanes, chunk;
  explicit Blocking(const Arguments &a) {
    const int64_t room = kHistoryBytes / (int64_t)sizeof(real) / kStates, whole = std::max<int64_t>(a.steps, 1);
    chunk = a.starts || room / whole < kFewestLanes ? chunk_of(a.steps) : whole;
    lanes = std::max<int64_t>(kFewestLanes, room / (2 * chunk) / 64 * 64);
    lanes = std::min<int64_t>(lanes, a.steps <= kShort ? kMostOfShort : kMostLanes);
    const int64_t blocks = kTensors ? kBlocks : std::min<int64_t>(kBlocks, kBlocksOfThread * a.threads);
    const int64_t share = (parts(std::max<int64_t>(a.lanes, 1) * a.segments, blocks) + 63) / 64 * 64;
    lanes = std::min<int64_t>(lanes, std::max<int64_t>(share, kFewestLanes / 2));
    lanes = std::min<int64_t>(lanes, (std::max<int64_t>(a.lanes, 1) + 63) / 64 * 64);
  }
};

// The coefficients of one lane. Numbers and scalars are the same for all lanes: the compiler moves them out of the loop.
inline Coefficients coefficients_of(const Arguments &a, int64_t lane) {
  Coefficients c;
#define NUMBER(position, name) c.name = (real)a.numbers[position];
#define SCALAR(position, name) c.name = a.coefficients[position][0];
#define LANE(position, name) c.name = a.coefficients[position][lane];
  NUMBERS(NUMBER) SCALARS(SCALAR) LANES(LANE)
#ifdef SNN_PRODUCTS
#define INVERT(name) c.over_##name = (real)1 / c.name;
  DIVISORS(INVERT)
#endif
  return c;
}

void start_block(const Arguments &a, real *state, int64_t stride, int64_t row, int64_t first, int64_t n) {
  const double *initial = a.numbers + kNumbers;
#define START(position, name)                                                                       \
  for (int64_t i = 0; i < n; i++)                                                                   \
    state[position * stride + i] = a.before ? a.before[position][row * a.lanes + first + i] : (real)initial[position];
  STATES(START)
  (void)initial;
}

// One step of one lane, from the states before to those after (the same memory, or not). With write, also the output.
template <bool write>
inline void forward_lane(const Arguments &a, Coefficients c, const real *from, real *to, int64_t stride,
                         const real *__restrict x, real *__restrict s, int64_t first, int64_t i) {
#define PICK(position, name) c.name = a.coefficients[position][first + i];
  LANES(PICK)
  State before, after;
#define LOAD(position, name) before.name = from[position * stride + i];
  STATES(LOAD)
  const real out = forward(x[i], before, c, after);
  if (write) s[i] = out;
#define STORE(position, name) to[position * stride + i] = after.name;
  STATES(STORE)
}

// One step of a block. The rows of the next step lie x_next and s_next away, a whole row of the tensor: the hardware does
// not see them coming, so ask for them, a line before the lanes that lie above it. To ask for a row at once would fill the
// core's list of lines on their way, and nothing would be computed meanwhile. What will be written is asked for, too: a
// store that misses waits as long as a load.
inline void forward_step(const Arguments &a, const Coefficients common, const real *from, real *to, int64_t stride,
                         const real *__restrict x, real *__restrict s, int64_t first, int64_t n, int64_t x_next,
                         int64_t s_next) {
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
    __builtin_prefetch(x + i + x_next);
    __builtin_prefetch(s + i + s_next, 1);
#pragma GCC ivdep
    for (int64_t j = i; j < i + kWide; j++) forward_lane<true>(a, common, from, to, stride, x, s, first, j);
  }
#pragma GCC ivdep
  for (int64_t j = i; j < n; j++) forward_lane<true>(a, common, from, to, stride, x, s, first, j);
}

// The same again, for the states alone; the next row lies x_next away.
inline void states_step(const Arguments &a, const Coefficients common, const real *from, real *to, int64_t stride,
                        const real *__restrict x, int64_t first, int64_t n, int64_t x_next) {
  int64_t i = 0;
  for (; i + kStrip <= n; i += kStrip) {
    for (int64_t j = i; j < i + kStrip; j += kWide) __builtin_prefetch(x + j + x_next);
#pragma GCC ivdep
    for (int64_t j = i; j < i + kStrip; j++) forward_lane<false>(a, common, from, to, stride, x, nullptr, first, j);
  }
#pragma GCC ivdep
  for (int64_t j = i; j < n; j++) forward_lane<false>(a, common, from, to, stride, x, nullptr, first, j);
}

}  // namespace

extern "C" void scan_forward(const Arguments *arguments) {
  const Arguments &a = *arguments;
  const int64_t blocks = parts(a.lanes, kForwardLanes), size = a.rows * a.lanes, chunk = chunk_of(a.steps);
  large_pages(a.s, a.steps * size * (int64_t)sizeof(real));
#define LARGE(position, index, name) large_pages(a.traces[position], a.steps * size * (int64_t)sizeof(real));
  TRACES(LARGE)
#pragma omp parallel for schedule(static) num_threads(a.threads) if (a.threads > 1)
  for (int64_t task = 0; task < a.rows * blocks; task++) {
    const int64_t row = task / blocks, first = task % blocks * kForwardLanes;
    const int64_t n = std::min(kForwardLanes, a.lanes - first), here = row * a.lanes + first;
    alignas(64) real state[kStates * kForwardLanes];
    const Coefficients common = coefficients_of(a, first);
    start_block(a, state, kForwardLanes, row, first, n);
    for (int64_t t = 0; t < a.steps; t++) {
      const int64_t next = t + 1 < a.steps;
#define KEEP_START(position, name) \
      std::copy_n(state + position * kForwardLanes, n, a.starts + (t / chunk * kStates + position) * size + here);
      if (a.starts && t % chunk == 0) { STATES(KEEP_START) }
      forward_step(a, common, state, state, kForwardLanes, a.x + t * a.x_step + row * a.x_row + first,
                   a.s + t * size + here, first, n, next * a.x_step, next * size);
#define TRACE(position, index, name) \
      std::copy_n(state + index * kForwardLanes, n, a.traces[position] + t * size + here);
      TRACES(TRACE)
    }
#define END(position, name) \
    if (a.after) std::copy_n(state + position * kForwardLanes, n, a.after[position] + here);
    STATES(END)
  }
}

#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// The reverse has the most operations of all: vectors of 64 bytes, where GCC by itself takes 32. As far as the function
// that all of it is inlined into, which decides.
#pragma GCC push_options
#pragma GCC target("prefer-vector-width=512")
#define SNN_WIDEST
#endif

namespace {

const real kNoGradient[kMostLanes] = {};

// The reverse of one step of one lane: g holds the gradients of the states after it, then of those before it.
template <bool add>
inline void backward_lane(const Arguments &a, Coefficients c, const real *__restrict before, real *__restrict g,
                          int64_t stride, const real *__restrict x, const real *__restrict g_s, real *__restrict g_x,
                          real *__restrict wide, double *__restrict sums, int64_t first, int64_t i, int64_t j) {
  LANES(PICK)
  State state, g_after, g_before;
  Gradients g_c;
#define LOAD_BEFORE(position, name) \
  state.name = before[position * stride + i]; g_after.name = g[position * stride + i];
#define LOAD_PART(position, name) g_c.name = wide[position * kWide + j];
#define NO_PART(position, name) g_c.name = 0;
  STATES(LOAD_BEFORE) SCALARS(LOAD_PART) LANES(NO_PART)
  const real g_in = backward(x[i], state, c, g_s[i], g_after, g_before, g_c);
  g_x[i] = add ? g_x[i] + g_in : g_in;
#define STORE_BEFORE(position, name) g[position * stride + i] = g_before.name;
  STATES(STORE_BEFORE)
#define STORE_PART(position, name) wide[position * kWide + j] = g_c.name;
#define ADD_LANE(position, name) sums[position * stride + i] += (double)g_c.name;
  SCALARS(STORE_PART) LANES(ADD_LANE)
}

// The reverse of one step of a block. The gradients of SCALARS gather in kWide sums, in registers, in an order that
// depends on n alone; from step to step they are added in float64. The rows of the next step, the one before in
// time, or of the next block, lie x_next, g_next and g_x_next before these.
template <bool add>
inline void backward_step(const Arguments &a, const Coefficients common, const real *__restrict before,
                          real *__restrict g, int64_t stride, const real *__restrict x, const real *__restrict g_s,
                          real *__restrict g_x, double *__restrict sums, int64_t first, int64_t n, int64_t x_next,
                          int64_t g_next, int64_t g_x_next) {
  alignas(64) real wide[kTensors * kWide + 1] = {};
  int64_t i = 0;
#define LANE_AT(i, j) backward_lane<add>(a, common, before, g, stride, x, g_s, g_x, wide, sums, first, i, j)
  for (; i + kWide <= n; i += kWide) {
    __builtin_prefetch(x + i - x_next);
    __builtin_prefetch(g_s + i - g_next);
    __builtin_prefetch(g_x + i - g_x_next, 1);
#pragma GCC ivdep
    for (int64_t j = 0; j < kWide; j++) LANE_AT(i + j, j);
  }
#pragma GCC ivdep
  for (int64_t k = i; k < n; k++) LANE_AT(k, k - i);
#define ADD_PARTS(position, name) \
  for (int64_t j = 0; j < kWide; j++) sums[position * stride] += (double)wide[position * kWide + j];
  SCALARS(ADD_PARTS)
}

// One block of lanes of one row, from the last step to the first. `sums` collects the coefficients' gradients.
void backward_block(const Arguments &a, const Blocking &blocking, int64_t row, int64_t first, int64_t n,
                    real *memory, double *__restrict sums) {
  const int64_t m = blocking.lanes, chunk = blocking.chunk, chunks = std::max<int64_t>(parts(a.steps, chunk), 1);
  const int64_t size = a.rows * a.lanes, here = row * a.lanes + first;
  real *const state = memory, *const g = state + kStates * m;   // the states; the gradients that arrive at them
  real *const history = g + kStates * m;                        // states before each step of a chunk
  real *const starts = history + chunk * kStates * m;           // states before each chunk, if they are not given
  const Coefficients common = coefficients_of(a, first);
  const real *x = a.x + row * a.x_row + first;

  if (!a.starts) start_block(a, state, m, row, first, n);
  for (int64_t c = 0; c < chunks && !a.starts; c++) {
    std::copy_n(state, kStates * m, starts + c * kStates * m);
    if (c + 1 < chunks)
      for (int64_t t = c * chunk; t < (c + 1) * chunk; t++)
        states_step(a, common, state, state, m, x + t * a.x_step, first, n, a.x_step);
  }
#define ARRIVE(position, name)                                                                      \
  for (int64_t i = 0; i < n; i++)                                                                   \
    g[position * m + i] = a.g_after && a.g_after[position] ? a.g_after[position][here + i] : (real)0;
  STATES(ARRIVE)

  for (int64_t c = chunks - 1; c >= 0; c--) {
    const int64_t begin = c * chunk, end = std::min(begin + chunk, a.steps);
#define KEPT_START(position, name) \
    std::copy_n(a.starts + (c * kStates + position) * size + here, n, history + position * m);
    if (a.starts) { STATES(KEPT_START) }
    else std::copy_n(starts + c * kStates * m, kStates * m, history);
    for (int64_t t = begin; t + 1 < end; t++) {
      real *const before = history + (t - begin) * kStates * m;
      states_step(a, common, before, before + kStates * m, m, x + t * a.x_step, first, n, a.x_step);
    }
    for (int64_t t = end - 1; t >= begin; t--) {
#define TRACE_GRADIENT(position, index, name)                                                       \
      if (a.g_traces && a.g_traces[position])                                                       \
        for (int64_t i = 0; i < n; i++) g[index * m + i] += a.g_traces[position][t * size + here + i];
      TRACES(TRACE_GRADIENT)
      const real *before = history + (t - begin) * kStates * m, *x_t = x + t * a.x_step;
      const real *g_s = a.g_s ? a.g_s + t * a.g_step + row * a.g_row + first : kNoGradient;
      // Before the first row in time there is none: then those where the next block begins, behind these lanes.
      const auto behind = [&](int64_t later) { return a.rows == 1 ? -n - later : 0; };
      const int64_t x_next = t > 0 ? a.x_step : behind(a.starts ? (chunks - 1) * chunk * a.x_step : 0);
      const int64_t g_next = !a.g_s ? 0 : t > 0 ? a.g_step : behind((a.steps - 1) * a.g_step);
      const int64_t g_x_next = t > 0 ? a.g_x_step : behind((a.steps - 1) * a.g_x_step);
      real *const g_x = a.g_x + t * a.g_x_step + here;
      if (!a.g_x_step && t + 1 < a.steps)
        backward_step<true>(a, common, before, g, m, x_t, g_s, g_x, sums, first, n, x_next, g_next, 0);
      else
        backward_step<false>(a, common, before, g, m, x_t, g_s, g_x, sums, first, n, x_next, g_next, g_x_next);
    }
  }
#define LEAVE(position, name)                                                                       \
  if (a.g_before && a.g_before[position]) std::copy_n(g + position * m, n, a.g_before[position] + here);
  STATES(LEAVE)
}

}  // namespace

// How many chunks so many steps have, 0 for a single one: the caller sizes starts by it.
extern "C" int64_t scan_chunks(int64_t steps) { return steps > kChunk ? parts(steps, chunk_of(steps)) : 0; }

// How many blocks a row has in the backward: the caller sizes g_coefficients by it.
extern "C" int64_t scan_blocks(const Arguments *arguments) {
  return parts(arguments->lanes, Blocking(*arguments).lanes);
}

extern "C" void scan_backward(const Arguments *arguments) {
  const Arguments &a = *arguments;
  const Blocking blocking(a);
  const int64_t m = blocking.lanes, blocks = parts(a.lanes, m), chunks = std::max<int64_t>(parts(a.steps, blocking.chunk), 1);
  const int64_t reals = m * kStates * (2 + blocking.chunk + chunks), size = a.rows * a.lanes;
  const int64_t doubles = kTensors * m * (int64_t)(sizeof(double) / sizeof(real));
  large_pages(a.g_x, (a.g_x_step ? a.steps : 1) * size * (int64_t)sizeof(real));
#pragma omp parallel for schedule(static) num_threads(a.threads) if (a.threads > 1)
  for (int64_t task = 0; task < a.segments * blocks; task++) {
    const int64_t segment = task / blocks, first = task % blocks * m, n = std::min(m, a.lanes - first);
    real *const memory = workspace(doubles + reals);
    double *const sums = (double *)memory;
    std::fill_n(sums, kTensors * m, 0.0);
    for (int64_t row = segment * a.rows / a.segments; row < (segment + 1) * a.rows / a.segments; row++)
      backward_block(a, blocking, row, first, n, memory + doubles, sums);
#define TOTAL(position, name) \
    if (a.g_coefficients[position]) a.g_coefficients[position][task] = sums[position * m];
#define KEEP(position, name) \
    if (a.g_coefficients[position]) std::copy_n(sums + position * m, n, a.g_coefficients[position] + segment * a.lanes + first);
    SCALARS(TOTAL) LANES(KEEP)
  }
}

#ifdef SNN_WIDEST
#pragma GCC pop_options
#endif
