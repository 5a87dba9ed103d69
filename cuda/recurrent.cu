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
// Waiting is no acquire, which would empty the L1 of its weights: all that others wrote is read past the L1, and what a
// thread itself wrote its L1 has.
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

// Count one more, after all that this block wrote.
SNN_INLINE void count(unsigned *to) { asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory"); }
SNN_INLINE unsigned counted(const unsigned *from) {
  unsigned found;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(from) : "memory");
  return found;
}

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
  __device__ void empty() { lane[0] = lane[1] = lane[2] = lane[3] = 0; }
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

constexpr int kSliceQuads = kSlice / 4, kLoads = kRows * kSliceQuads / 32;

// A warp's chunk of what sources put out: a lane takes four of them, of each (32 / kSliceQuads)th sample. 0 past the edges.
SNN_INLINE void bring(const Loop &a, const real *heard, int row, int begin, int count, int quads, Quad (&to)[kLoads]) {
  constexpr int apart = 32 / kSliceQuads;
  const int lane = threadIdx.x % 32, n = a.scan.lanes, rows = a.scan.rows, at = lane % kSliceQuads;
  const int lag = a.lags > 1 ? (unsigned)(begin + at) / (unsigned)quads : 0, source = 4 * (begin + at - lag * quads);
  row += lane / kSliceQuads;
  const real *const here = heard + ((int64_t)lag * rows + row) * n + source;
  if (n % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kLoads; i++)
      if (at < count && row + i * apart < rows) to[i] = quad_of_others(here + i * apart * n);
      else to[i].empty();
  } else {
#pragma unroll
    for (int i = 0; i < kLoads; i++)
#pragma unroll
      for (int k = 0; k < 4; k++)
        to[i].lane[k] =
            at < count && row + i * apart < rows && source + k < n ? __ldcg(here + i * apart * n + k) : (real)0;
  }
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
  for (int begin = first; begin < last; begin += kSliceQuads) {
    const int count = min(kSliceQuads, last - begin);
    Quad brought[kLoads];
    bring(a, heard, row, begin, count, quads, brought);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
      const int at = lane + 32 * i;
      *(Quad *)(mine + at / kSliceQuads * kStride + 4 * (at % kSliceQuads)) = brought[i];
    }
    __syncwarp();
    const real *from[4];
#pragma unroll
    for (int j = 0; j < 4; j++) from[j] = weights + ((int64_t)j * all + begin) * 32;
#pragma unroll 2
    for (int q = 0; q < count; q++) {
      Quad s[4], w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) s[i] = *(const Quad *)(mine + (4 * i + left) * kStride + 4 * q);
#pragma unroll
      for (int j = 0; j < 4; j++) w[j] = quad_of_weights(from[j]), from[j] += 32;
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
SNN_INLINE void await(const Loop &a, int samples, int steps, int tiles) {
  if (threadIdx.x == 0 && steps > 0)
    while (counted(a.arrived + samples) < (unsigned)steps * (unsigned)tiles) { SNN_PAUSE }
  __syncthreads();
}

SNN_INLINE void arrive(const Loop &a, int samples) {
  __syncthreads();
  if (threadIdx.x == 0 && a.arrived) count(a.arrived + samples);
}

SNN_INLINE int tiles_of_samples(const Loop &a) { return ((int)a.scan.lanes + kColumns - 1) / kColumns; }
SNN_INLINE int tiles_of(const Loop &a) { return ((int)a.scan.rows + kRows - 1) / kRows * tiles_of_samples(a); }

// A thread's place in a tile: kOutputs samples, kApart apart, of one neuron.
constexpr int kApart = kRows / kOutputs;
struct Tile {
  int samples;           // number of the group of samples
  int row, column;       // of the tile
  int own_row, lane;     // the thread's first sample, and its neuron
  __device__ Tile() {}
  __device__ Tile(const Loop &a, int index) {
    const int tiles = tiles_of_samples(a);
    samples = index / tiles, row = samples * kRows, column = index % tiles * kColumns;
    own_row = row + (int)threadIdx.x / kColumns, lane = column + (int)threadIdx.x % kColumns;
  }
  // Where the thread's sums over its samples lie.
  __device__ int64_t part(const Loop &a) const {
    return ((int64_t)samples * kApart + threadIdx.x / kColumns) * a.scan.lanes + lane;
  }
};

// The row of step t where so many go round.
SNN_INLINE int64_t round_of(int t, int64_t rows) { return t < rows ? t : (unsigned)t % (unsigned)rows; }

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
  if (index >= (int64_t)tiles_of(a) * kColumns * a.lags * quads * 4) return;
  const bool inside = target < a.scan.lanes && source < a.scan.lanes;
  a.mixed[index] = inside ? a.current[target * a.begin + source * a.end + quad / quads * a.delays] : (real)0;
}

extern "C" __global__ void __launch_bounds__(kBlock) recurrent_mix(const __grid_constant__ Loop a) {
  const int64_t index = (int64_t)blockIdx.x * kBlock + threadIdx.x, size = a.scan.rows * a.scan.lanes;
  if (index < size) a.mixed[index] = mix(a, a.heard + index, index % a.scan.lanes, size);
}

extern "C" __global__ void __launch_bounds__(kBlock, kResident) recurrent_forward(const __grid_constant__ Loop a) {
  __shared__ uint4 shared[kWarps * kWarpMemory * sizeof(real) / sizeof(uint4)];
  real *const memory = (real *)shared;
  const int64_t n = a.scan.lanes, size = a.scan.rows * n, past = a.delays ? a.delays : a.lags;
  const int tiles = tiles_of(a), of_samples = tiles_of_samples(a);
  Coefficients c[1];
  Tile tile;
  int held = -1;
  for (int t = a.begin; t < a.end; t++) {
    const real *const before = a.history + round_of(t, a.history_rows) * size * kStates;
    real *const after = a.history + round_of(t + 1, a.history_rows) * size * kStates;
    const real *const heard = a.delays ? a.mixed + round_of(t, a.mixed_rows) * size : a.heard + t * size;
    for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
      if (held != index) {
        tile = Tile(a, held = index);
        if (tile.lane < n) coefficients_of(a.scan, tile.lane, c);
      }
      real x[kOutputs], mask[kOutputs];
      State state[kOutputs];
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {  // on their way while the product is computed
        const int row = tile.own_row + i * kApart;
        const int64_t here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        x[i] = __ldcg(a.scan.x + t * size + here);
        mask[i] = a.mask ? a.mask[here] : (real)1;
#define BEFORE(position, name) state[i].name = before[(row * kStates + position) * n + tile.lane];
        STATES(BEFORE)
      }
      await(a, tile.samples, t - (int)a.begin, of_samples);
      add_up(a, heard, tile.row, tile.column, memory);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int row = tile.own_row + i * kApart;
        const int64_t here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        const real current = x[i] + total(memory, row - tile.row, tile.lane - tile.column) * mask[i];
        State next;
        const real out = forward(current, state[i], c[0], next);
        a.heard[(past + t) * size + here] = out;
        if (a.current) a.current[round_of(t, a.current_rows) * size + here] = current;
#define AFTER(position, name) after[(row * kStates + position) * n + tile.lane] = next.name;
        STATES(AFTER)
        if (a.delays && t + 1 < a.scan.steps)
          a.mixed[round_of(t + 1, a.mixed_rows) * size + here] = mix(a, a.heard + (t + 1) * size + here, tile.lane, size);
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
extern "C" __global__ void __launch_bounds__(kBlock, kResident) recurrent_backward(const __grid_constant__ Loop a) {
  __shared__ uint4 shared[kWarps * kWarpMemory * sizeof(real) / sizeof(uint4)];
  real *const memory = (real *)shared;
  const int64_t n = a.scan.lanes, size = a.scan.rows * n;
  const int tiles = tiles_of(a), of_samples = tiles_of_samples(a);
  Coefficients c[1];
  LoopSums sums;
  Tile tile;
  int held = -1;
  for (int t = (int)a.end - 1; t >= (int)a.begin; t--) {
    for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
      if (held != index) {  // a block with several tiles leaves the sums of each when it goes to the next
        if (held >= 0 && tile.lane < n) sums.store(a, tile.part(a));
        tile = Tile(a, held = index);
        if (tile.lane < n) {
          coefficients_of(a.scan, tile.lane, c);
          sums.load(a, tile.part(a));
        }
      }
      real x[kOutputs], g_s[kOutputs];
      State state[kOutputs], g[kOutputs];
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int row = tile.own_row + i * kApart;
        const int64_t here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows || t < 0) continue;
        x[i] = __ldcg(a.current + t * size + here);
        g_s[i] = a.scan.g_s ? __ldcg(a.scan.g_s + t * size + here) : (real)0;
#define BEFORE_IT(position, name)                                                                 \
        state[i].name = __ldcg(a.history + ((t * a.scan.rows + row) * kStates + position) * n + tile.lane); \
        g[i].name = a.g_state[(row * kStates + position) * n + tile.lane];                        \
        if (a.scan.g_after[position]) g[i].name += a.scan.g_after[position][t * size + here];
        STATES(BEFORE_IT)
      }
      await(a, tile.samples, (int)a.end - 1 - t, of_samples);
      // Nothing comes back to the last step through outputs that are summed before the product.
      const bool fed = !a.delays || t + 1 < a.scan.steps;
      if (fed) add_up(a, a.g_fed + (t + 1) * size, tile.row, tile.column, memory);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOutputs; i++) {
        const int row = tile.own_row + i * kApart;
        const int64_t here = row * n + tile.lane;
        if (tile.lane >= n || row >= a.scan.rows) continue;
        const real back = fed ? total(memory, row - tile.row, tile.lane - tile.column) : (real)0;
        if (a.delays && fed) a.arriving[(t + 1) * size + here] = back;
        if (t < 0) continue;
        if (a.delays) {
#pragma unroll 4
          for (int k = 0; k < a.delays; k++)
            g_s[i] += a.taps[k * n + tile.lane] * a.arriving[(t + 1 + k) * size + here];
        } else {
          g_s[i] = back + g_s[i];
        }
        State g_before;
        Gradients g_c = {};
        const real g_x = backward(x[i], state[i], c[0], g_s[i], g[i], g_before, g_c);
#define LEAVE_STATE(position, name) a.g_state[(row * kStates + position) * n + tile.lane] = g_before.name;
        STATES(LEAVE_STATE)
#define ADD_TO_LOOP(position, name) sums.name += (double)g_c.name;
        SCALARS(ADD_TO_LOOP) LANES(ADD_TO_LOOP)
        a.scan.g_x[t * size + here] = g_x;
        if (a.mask) a.g_fed[t * size + here] = g_x * a.mask[here];
      }
      arrive(a, tile.samples);
    }
  }
  if (held >= 0 && tile.lane < n) sums.store(a, tile.part(a));
}
