// The recurrent loop on the GPU: products and steps of all times in one launch, with a barrier between two steps.
//
// This text stands behind scan.cu, compiled for one lane a thread, and takes its step. A block takes a tile of the output,
// kRows samples by kColumns neurons, through the time: the product with what came before, then the step of its neurons.
//
// The product of a tile is over all sources, which its kWarps warps share out. A warp brings its part of a chunk of
// sources into shared memory (past the L1, which does not see what other multiprocessors wrote) and reads the weights
// through the L1, where a tile's weights stay from step to step. The warps' sums are added in a fixed order, so a number
// depends on no batch mate and not on how the work was launched.
//
// Samples never meet: a tile waits only for the tiles of the same samples. They count, in `arrived`, the tiles that are
// done; all blocks of a launch are resident at once, or waiting would never end. Without `arrived` a launch takes one step.
//
// Where outputs come back through delays, the neuron's own thread adds up what it will bring (or what arrives at it): in
// `mixed` for axonal delays; a synaptic delay is a longer product, over all lags.

constexpr int kRows = 16, kColumns = 32, kWarps = 8, kBlock = 32 * kWarps, kOutputs = kRows * kColumns / kBlock;
constexpr int kSlice = 256 / sizeof(real);             // sources of a warp's chunk
constexpr int kStride = kSlice + 16 / sizeof(real);    // between its samples: no two in one bank
constexpr int kPartStride = sizeof(real) == 4 ? 40 : 34;  // between rows of a warp's sums, which take the same place
constexpr int kWarpMemory = kRows * kStride;

#ifndef SNN_PAUSE
#define SNN_PAUSE
#endif

struct Loop {
  Arguments scan;        // steps, rows, lanes, coefficients, numbers; x; g_s: [steps, rows, lanes] or null, g_x;
                         // g_after: of each state's trace, [steps, rows, lanes] or null; g_coefficients: [parts, lanes]
  int64_t begin, end;    // the steps of this launch
  int64_t lags;          // of the product
  int64_t delays;        // rows of taps; 0 without
  int64_t current_rows, mixed_rows, history_rows;  // fewer than steps go round
  const real *weights;   // packed: [columns / 8, lags * quads, 8, 4], quads = lanes / 4
  const real *mask;      // [rows, lanes] or null
  const real *taps;      // [delays, lanes]
  real *heard;           // forward: [past + steps, rows, lanes], outputs behind those before the first step
  real *mixed;           // forward: [mixed_rows, rows, lanes], what goes into the products if there are taps
  real *current;         // [current_rows, rows, lanes]; null if nobody asks
  real *history;         // [history_rows, rows, states, lanes]
  real *g_state;         // [rows, states, lanes]: gradients of the states after a step, then of those before it
  real *g_fed;           // g_x times the mask: [steps, rows, lanes], or `arriving` itself without taps
  real *arriving;        // [steps + past, rows, lanes]: what goes through the delays, 0 past the end
  unsigned *arrived;     // a count for each kRows samples, or null
};

struct Quad {
  union { real lane[4]; uint4 piece[sizeof(real) / 4]; };
  __device__ Quad() {}
};

SNN_INLINE Quad quad_of_others(const real *from) {
  Quad quad;
#pragma unroll
  for (int k = 0; k < (int)sizeof(real) / 4; k++) quad.piece[k] = __ldcg((const uint4 *)from + k);
  return quad;
}

SNN_INLINE Quad quad_of_weights(const real *from) {
  Quad quad;
#pragma unroll
  for (int k = 0; k < (int)sizeof(real) / 4; k++) quad.piece[k] = __ldg((const uint4 *)from + k);
  return quad;
}

// What four sources put out; 0 past the edges.
SNN_INLINE Quad sources(const Loop &a, const real *heard, int row, int quad, int quads, bool inside) {
  const int n = a.scan.lanes;
  Quad found;
#pragma unroll
  for (int k = 0; k < 4; k++) found.lane[k] = 0;
  if (!inside || row >= a.scan.rows) return found;
  if (a.lags > 1) heard += quad / quads * a.scan.rows * a.scan.lanes, quad %= quads;
  const real *const here = heard + (int64_t)row * n + 4 * quad;
  if (n % 4 == 0) return quad_of_others(here);
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (4 * quad + k < n) found.lane[k] = __ldcg(here + k);
  return found;
}

// This warp's part of the sums of a tile, left in its shared memory.
SNN_INLINE void add_up(const Loop &a, const real *heard, int row, int column, real *memory) {
  const int quads = (a.scan.lanes + 3) / 4, all = a.lags * quads, share = (all + kWarps - 1) / kWarps;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, left = lane / 8, right = lane % 8;
  const int first = min(warp * share, all), last = min(first + share, all);
  real *const mine = memory + warp * kWarpMemory;
  const real *const weights = a.weights + (int64_t)(column / 8) * all * 32 + 4 * right;
  real sum[4][4];
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) sum[i][j] = 0;
  constexpr int slice = kSlice / 4, loads = kRows * slice / 32;
  for (int begin = first; begin < last; begin += slice) {
    const int count = min(slice, last - begin);
    Quad brought[loads];
#pragma unroll
    for (int i = 0; i < loads; i++) {
      const int at = lane + 32 * i;
      brought[i] = sources(a, heard, row + at / slice, begin + at % slice, quads, at % slice < count);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < loads; i++) {
      const int at = lane + 32 * i;
      *(Quad *)(mine + at / slice * kStride + 4 * (at % slice)) = brought[i];
    }
    __syncwarp();
#pragma unroll 2
    for (int q = 0; q < count; q++) {
      Quad s[4], w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) s[i] = *(const Quad *)(mine + (4 * i + left) * kStride + 4 * q);
#pragma unroll
      for (int j = 0; j < 4; j++) w[j] = quad_of_weights(weights + ((int64_t)j * all + begin + q) * 32);
#pragma unroll
      for (int k = 0; k < 4; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) sum[i][j] = snn_fma(s[i].lane[k], w[j].lane[k], sum[i][j]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) mine[(4 * i + left) * kPartStride + 8 * j + right] = sum[i][j];
}

// The sum of a tile's number over the warps.
SNN_INLINE real total(const real *memory, int row, int column) {
  real sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; w++) sum += memory[w * kWarpMemory + row * kPartStride + column];
  return sum;
}

// Wait until the tiles of these samples are done with `steps` steps of this launch.
SNN_INLINE void await(const Loop &a, int64_t samples, int64_t steps, int64_t tiles) {
  if (threadIdx.x == 0 && steps > 0) {
    const volatile unsigned *const arrived = a.arrived + samples;
    while (*arrived < (unsigned)(steps * tiles)) { SNN_PAUSE }
    __threadfence();
  }
  __syncthreads();
}

SNN_INLINE void arrive(const Loop &a, int64_t samples) {
  __syncthreads();
  if (threadIdx.x == 0 && a.arrived) {
    __threadfence();
    atomicAdd(a.arrived + samples, 1u);
  }
}

// A thread's place in a tile: kOutputs samples, kRows / kOutputs apart, of one neuron.
struct Tile {
  int64_t samples, tiles;  // number of the group of samples; tiles of a group
  int row, column, own_row, lane;
  __device__ Tile(const Loop &a, int64_t index) {
    tiles = (a.scan.lanes + kColumns - 1) / kColumns;
    samples = index / tiles;
    row = samples * kRows, column = index % tiles * kColumns;
    own_row = row + threadIdx.x / kColumns, lane = column + threadIdx.x % kColumns;
  }
};

SNN_INLINE int64_t tiles_of(const Loop &a) {
  return (a.scan.rows + kRows - 1) / kRows * ((a.scan.lanes + kColumns - 1) / kColumns);
}

// What the outputs before step t bring to it, the oldest first; `from` is that of the oldest.
SNN_INLINE real mix(const Loop &a, const real *from, int lane, int64_t size) {
  real sum = 0;
#pragma unroll 4
  for (int64_t k = 0; k < a.delays; k++) sum += a.taps[(a.delays - 1 - k) * a.scan.lanes + lane] * from[k * size];
  return sum;
}

extern "C" __global__ void __launch_bounds__(kBlock) recurrent_pack(const __grid_constant__ Loop a) {
  // a.begin, a.end, a.delays: strides of targets, sources and lags in `current`, counted in numbers; to `mixed`.
  const int64_t quads = (a.scan.lanes + 3) / 4, index = (int64_t)blockIdx.x * kBlock + threadIdx.x;
  const int64_t k = index % 4, within = index / 4 % 8, quad = index / 32 % (a.lags * quads);
  const int64_t target = index / 32 / (a.lags * quads) * 8 + within, source = quad % quads * 4 + k;
  if (index >= tiles_of(a) * kColumns * a.lags * quads * 4) return;
  const bool inside = target < a.scan.lanes && source < a.scan.lanes;
  a.mixed[index] = inside ? a.current[target * a.begin + source * a.end + quad / quads * a.delays] : (real)0;
}

extern "C" __global__ void __launch_bounds__(kBlock) recurrent_mix(const __grid_constant__ Loop a) {
  const int64_t index = (int64_t)blockIdx.x * kBlock + threadIdx.x, size = a.scan.rows * a.scan.lanes;
  if (index < size) a.mixed[index] = mix(a, a.heard + index, index % a.scan.lanes, size);
}

extern "C" __global__ void __launch_bounds__(kBlock, 2) recurrent_forward(const __grid_constant__ Loop a) {
  __shared__ uint4 shared[kWarps * kWarpMemory * sizeof(real) / sizeof(uint4)];
  real *const memory = (real *)shared;
  const int64_t n = a.scan.lanes, size = a.scan.rows * n, past = a.delays ? a.delays : a.lags;
  Coefficients c[1];
  int64_t held = -1;
  for (int64_t t = a.begin; t < a.end; t++) {
    const real *const before = a.history + t % a.history_rows * size * kStates;
    real *const after = a.history + (t + 1) % a.history_rows * size * kStates;
    const real *const heard = a.delays ? a.mixed + t % a.mixed_rows * size : a.heard + t * size;
    for (int64_t index = blockIdx.x; index < tiles_of(a); index += gridDim.x) {
      const Tile tile(a, index);
      real x[kOutputs], mask[kOutputs];
      State state[kOutputs];
      if (held != index && tile.lane < n) coefficients_of(a.scan, tile.lane, c);
      held = index;
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {  // on their way while the product is computed
        const int64_t row = tile.own_row + i * (kRows / kOutputs), here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        x[i] = __ldcg(a.scan.x + t * size + here);
        if (a.mask) mask[i] = a.mask[here];
#define BEFORE(position, name) state[i].name = before[(row * kStates + position) * n + tile.lane];
        STATES(BEFORE)
      }
      await(a, tile.samples, t - a.begin, tile.tiles);
      add_up(a, heard, tile.row, tile.column, memory);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int64_t row = tile.own_row + i * (kRows / kOutputs), here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        real back = total(memory, row - tile.row, tile.lane - tile.column);
        if (a.mask) back *= mask[i];
        const real current = x[i] + back;
        State next;
        const real out = forward(current, state[i], c[0], next);
        a.heard[(past + t) * size + here] = out;
        if (a.current) a.current[t % a.current_rows * size + here] = current;
#define AFTER(position, name) after[(row * kStates + position) * n + tile.lane] = next.name;
        STATES(AFTER)
        if (a.delays && t + 1 < a.scan.steps)
          a.mixed[(t + 1) % a.mixed_rows * size + here] = mix(a, a.heard + (t + 1) * size + here, tile.lane, size);
      }
      arrive(a, tile.samples);
    }
  }
}

// Gradients of the coefficients, summed by a thread over its samples and all steps.
struct LoopSums {
#define LOOP_SUM(position, name) double name;
  SCALARS(LOOP_SUM) LANES(LOOP_SUM)

  __device__ void load(const Loop &a, int64_t here) {
#define LOAD_SUM(position, name) this->name = a.scan.g_coefficients[position][here];
    SCALARS(LOAD_SUM) LANES(LOAD_SUM)
  }
  __device__ void store(const Loop &a, int64_t here) const {
#define STORE_SUM(position, name) a.scan.g_coefficients[position][here] = this->name;
    SCALARS(STORE_SUM) LANES(STORE_SUM)
  }
};

// Steps from the last to the first. With delays of outputs there is one more, -1: what goes back to those before the start.
extern "C" __global__ void __launch_bounds__(kBlock, 2) recurrent_backward(const __grid_constant__ Loop a) {
  __shared__ uint4 shared[kWarps * kWarpMemory * sizeof(real) / sizeof(uint4)];
  real *const memory = (real *)shared;
  const int64_t n = a.scan.lanes, size = a.scan.rows * n;
  const bool many = tiles_of(a) > gridDim.x;
  Coefficients c[1];
  LoopSums sums;
  int64_t held = -1;
  for (int64_t t = a.end - 1; t >= a.begin; t--) {
    for (int64_t index = blockIdx.x; index < tiles_of(a); index += gridDim.x) {
      const Tile tile(a, index);
      const int64_t part = (tile.samples * (kRows / kOutputs) + threadIdx.x / kColumns) * n + tile.lane;
      real x[kOutputs], g_s[kOutputs];
      State state[kOutputs], g[kOutputs];
      if (held != index && tile.lane < n) {
        coefficients_of(a.scan, tile.lane, c);
        sums.load(a, part);
      }
      held = index;
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int64_t row = tile.own_row + i * (kRows / kOutputs), here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows || t < 0) continue;
        x[i] = __ldcg(a.current + t * size + here);
        g_s[i] = a.scan.g_s ? __ldcg(a.scan.g_s + t * size + here) : (real)0;
#define BEFORE_IT(position, name)                                                                 \
        state[i].name = __ldcg(a.history + ((t * a.scan.rows + row) * kStates + position) * n + tile.lane); \
        g[i].name = a.g_state[(row * kStates + position) * n + tile.lane];                        \
        if (a.scan.g_after[position]) g[i].name += a.scan.g_after[position][t * size + here];
        STATES(BEFORE_IT)
      }
      await(a, tile.samples, a.end - 1 - t, tile.tiles);
      // Nothing comes back to the last step through outputs that are summed before the product.
      const bool fed = !a.delays || t + 1 < a.scan.steps;
      if (fed) add_up(a, a.g_fed + (t + 1) * size, tile.row, tile.column, memory);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int64_t row = tile.own_row + i * (kRows / kOutputs), here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        const real back = fed ? total(memory, row - tile.row, tile.lane - tile.column) : (real)0;
        if (a.delays && fed) a.arriving[(t + 1) * size + here] = back;
        if (t < 0) continue;
        if (a.delays) {
#pragma unroll 4
          for (int64_t k = 0; k < a.delays; k++)
            g_s[i] += a.taps[k * n + tile.lane] * a.arriving[(t + 1 + k) * size + here];
        } else {
          g_s[i] = back + g_s[i];
        }
        State g_before;
        Gradients g_c;
        const real g_x = backward(x[i], state[i], c[0], g_s[i], g[i], g_before, g_c);
#define LEAVE_STATE(position, name) a.g_state[(row * kStates + position) * n + tile.lane] = g_before.name;
        STATES(LEAVE_STATE)
#define ADD_TO_LOOP(position, name) sums.name += (double)g_c.name;
        SCALARS(ADD_TO_LOOP) LANES(ADD_TO_LOOP)
        a.scan.g_x[t * size + here] = g_x;
        if (a.mask) a.g_fed[t * size + here] = g_x * a.mask[here];
      }
      if (many && tile.lane < n) {
        sums.store(a, part);
        held = -1;
      }
      arrive(a, tile.samples);
    }
  }
  if (!many && held >= 0 && Tile(a, held).lane < n) {
    const Tile tile(a, held);
    sums.store(a, (tile.samples * (kRows / kOutputs) + threadIdx.x / kColumns) * n + tile.lane);
  }
}
